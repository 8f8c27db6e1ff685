/**
 * The link to the tab that holds the connection.
 *
 * @implements {Link}
 */
export class TabLink implements Link {
    /**
     * @param {object} setup
     * @param {string} setup.name
     * @param {string} setup.tab
     * @param {import('./channel.js').TabsEnv} setup.tabs
     * @param {import('../links/link.js').Env} setup.env
     * @param {Promise<void>} setup.alive before it settles, the hub would count this tab as dead
     * @param {() => void} setup.usurp takes the lead from a hub that does not answer
     * @param {LinkEvents} events
     */
    constructor({ name, tab, tabs, env, alive, usurp }: {
        name: string;
        tab: string;
        tabs: import("./channel.js").TabsEnv;
        env: import("../links/link.js").Env;
        alive: Promise<void>;
        usurp: () => void;
    }, events: LinkEvents);
    transport: string;
    traits: {
        codec: import("../wire/codec.js").Codec;
        duplex: boolean;
    };
    events: import("../links/link.js").LinkEvents;
    tab: string;
    conn: number;
    env: import("../links/link.js").Env;
    alive: Promise<void>;
    usurp: () => void;
    received: number;
    isOpen: boolean;
    isDone: boolean;
    toHub: BroadcastChannel;
    fromHub: BroadcastChannel;
    news: BroadcastChannel;
    open(): void;
    timer: any;
    knock(): Promise<void>;
    /** @param {Omit<import('./channel.js').FromTab, 'tab' | 'conn'>} message */
    post(message: Omit<import("./channel.js").FromTab, "tab" | "conn">): void;
    /** @param {FromHub} message */
    on({ conn, open, frames, lost }: FromHub): void;
    /** @param {import('../wire/codec.js').Message} message */
    send(message: import("../wire/codec.js").Message): void;
    welcome(): void;
    nudge(): void;
    /** @param {import('../core/types.js').Cause} cause */
    lost(cause: import("../core/types.js").Cause): void;
    close(): void;
}
export type Link = import("../links/link.js").Link;
export type LinkEvents = import("../links/link.js").LinkEvents;
export type FromHub = import("./channel.js").FromHub;

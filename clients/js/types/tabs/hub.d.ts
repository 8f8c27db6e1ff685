/** Serves all tabs of a page over one connection. Runs in the tab that leads. */
export class Hub {
    /**
     * @param {object} setup
     * @param {string} setup.name
     * @param {import('./channel.js').TabsEnv} setup.tabs
     * @param {(onEvent: (event: ClientEvent) => void) => Shell} setup.connect opens the connection to
     *   the server
     */
    constructor({ name, tabs, connect }: {
        name: string;
        tabs: import("./channel.js").TabsEnv;
        connect: (onEvent: (event: ClientEvent) => void) => Shell;
    });
    name: string;
    tabs: import("./channel.js").TabsEnv;
    /** @type {Map<string, Peer>} */
    peers: Map<string, Peer>;
    /** @type {Map<string, Promise<Frame>>} Rooms that the hub is subscribing to. */
    subscribing: Map<string, Promise<Frame>>;
    leaving: AbortController;
    /** @type {Frame | undefined} The server's welcome, while the connection is open. */
    welcome: Frame | undefined;
    /** @type {Cause | undefined} Why the client has ended. */
    ended: Cause | undefined;
    fromTabs: BroadcastChannel;
    shell: import("../shell.js").Shell;
    close(): void;
    /** @param {FromTab} message */
    on({ tab, conn, open, close, frames, ack }: FromTab): true | void;
    /**
     * @param {string} tab
     * @param {number} conn
     * @param {Peer | undefined} known
     */
    onOpen(tab: string, conn: number, known: Peer | undefined): void;
    /**
     * Tells a tab that this hub does not know its connection, for example one to an earlier hub.
     *
     * @param {string} tab
     * @param {number} conn
     */
    disown(tab: string, conn: number): void;
    /** Detects the tab's end by the lock that it holds while it is alive. @param {Peer} peer */
    watch(peer: Peer): Promise<void>;
    /**
     * @param {Peer} peer
     * @param {Cause} [cause]
     */
    remove(peer: Peer, cause?: Cause): void;
    /** Unsubscribes from a room without subscribed tabs. @param {string} room */
    release(room: string): void;
    /**
     * @param {Peer} peer
     * @param {Frame} frame
     */
    onCommand(peer: Peer, frame: Frame): Promise<void>;
    /**
     * @param {Peer} peer
     * @param {Frame} frame
     * @returns {Promise<Frame | undefined>}
     */
    answer(peer: Peer, frame: Frame): Promise<Frame | undefined>;
    /** @param {Peer} peer */
    greet(peer: Peer): void;
    /** @param {Frame[]} rooms */
    statuses(rooms: Frame[]): {
        rooms: import("../wire/value.js").Frame[];
        rev: number;
        gen: string;
    };
    /**
     * @param {Peer} peer
     * @param {number} id of the command
     * @param {[string, string, number][]} cursors
     */
    resume(peer: Peer, id: number, cursors: [string, string, number][]): Promise<{
        rooms: import("../wire/value.js").Frame[];
        rev: number;
        gen: string;
    }>;
    /** @param {ClientEvent} event */
    onEvent(event: ClientEvent): void;
    /**
     * @param {Peer} peer
     * @param {ClientEvent} event
     */
    push(peer: Peer, event: ClientEvent): void;
}
export type Frame = import("../wire/value.js").Frame;
export type ClientEvent = import("../core/types.js").ClientEvent;
export type Cause = import("../core/types.js").Cause;
export type Shell = import("../shell.js").Shell;
export type FromTab = import("./channel.js").FromTab;
import { Peer } from './peer.js';

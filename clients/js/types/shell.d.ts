export class Shell {
    /**
     * @param {object} setup
     * @param {Machine} setup.machine
     * @param {Ladder} setup.ladder
     * @param {(transport: string, events: LinkEvents) => Link} setup.link
     * @param {import('./links/link.js').Env} setup.env
     * @param {((options: {signal: AbortSignal}) => Promise<string | null>) | undefined} setup.tokens
     * @param {(event: ClientEvent) => void} setup.onEvent
     * @param {() => void} [setup.onLadder] the state of the transports has changed
     */
    constructor({ machine, ladder, link, env, tokens, onEvent, onLadder }: {
        machine: Machine;
        ladder: Ladder;
        link: (transport: string, events: LinkEvents) => Link;
        env: import("./links/link.js").Env;
        tokens: ((options: {
            signal: AbortSignal;
        }) => Promise<string | null>) | undefined;
        onEvent: (event: ClientEvent) => void;
        onLadder?: (() => void) | undefined;
    });
    machine: import("./core/machine.js").Machine;
    ladder: import("./core/ladder.js").Ladder;
    makeLink: (transport: string, events: LinkEvents) => Link;
    env: import("./links/link.js").Env;
    tokens: ((options: {
        signal: AbortSignal;
    }) => Promise<string | null>) | undefined;
    onEvent: (event: ClientEvent) => void;
    onLadder: () => void;
    /** @type {Map<number, {resolve: (reply: Frame) => void, reject: (error: ImError) => void}>} */
    answers: Map<number, {
        resolve: (reply: Frame) => void;
        reject: (error: ImError) => void;
    }>;
    /** @type {Link | undefined} */
    link: Link | undefined;
    /** @type {Link | undefined} A better link that is being tried beside the one in use. */
    probe: Link | undefined;
    /** @type {Transport | undefined} The transport to move to, if any. */
    moveTo: Transport | undefined;
    isSteady: boolean;
    connectedAt: number;
    /** Whether the link is a better one that has not worked yet. */
    isMoving: boolean;
    isRunning: boolean;
    isFlushing: boolean;
    timer: any;
    upgradeTimer: any;
    /** Aborts the newest call of the token source. */
    fetching: AbortController;
    stopWaking: () => void;
    /** The transport in use. */
    get transport(): Transport | undefined;
    start(): void;
    /** The network changed, or the machine woke up. */
    wake(): void;
    /**
     * @param {Frame} body
     * @returns {Promise<Frame>} the answer
     */
    command(body: Frame): Promise<Frame>;
    /** Writes the commands of this turn together. */
    soon(): void;
    /** Ends the client; the session can be resumed. */
    close(): void;
    /** Carries out the machine's actions, delivers its events, and sets the timer. */
    run(): void;
    setTimer(): void;
    dispose(): void;
    /** @param {Output} output */
    perform(output: Output): void;
    leave(): void;
    fetchToken(): Promise<void>;
    connect(): void;
    /** @param {Transport} transport */
    make(transport: Transport): import("./links/link.js").Link;
    /** @param {() => void} act */
    did(act: () => void): void;
    /** @param {import('./core/types.js').Cause & {unfit?: boolean}} cause */
    lost(cause: import("./core/types.js").Cause & {
        unfit?: boolean;
    }): void;
    /** @param {boolean} unfit */
    failed(unfit: boolean): void;
    /** @param {Frame} welcome */
    onWelcome({ session, secret }: Frame): void;
    steady(): void;
    planUpgrade(): void;
    /**
     * Tries a better transport. WebSocket is opened beside the link in use; the others share the
     * session's one downlink, and can only be tried by moving to them.
     *
     * @param {Transport} name
     */
    upgrade(name: Transport): void;
    /** @param {Transport} name */
    probeFailed(name: Transport): void;
    /**
     * Moves to a better transport, with commands in flight.
     *
     * @param {Transport} name
     * @param {Link | undefined} probe
     */
    move(name: Transport, probe: Link | undefined): void;
}
export type Machine = import("./core/machine.js").Machine;
export type Output = import("./core/types.js").Output;
export type ClientEvent = import("./core/types.js").ClientEvent;
export type Ladder = import("./core/ladder.js").Ladder;
export type Link = import("./links/link.js").Link;
export type LinkEvents = import("./links/link.js").LinkEvents;
export type Transport = import("./links/link.js").Transport;
export type Frame = import("./wire/value.js").Frame;
import { ImError } from './error.js';

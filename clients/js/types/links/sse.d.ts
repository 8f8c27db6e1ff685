/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('./link.js').LinkCause} LinkCause
 * @typedef {import('../config.js').Config} Config
 */
/**
 * Pushes by an event stream, commands by POST. The stream is read with `fetch` rather than
 * `EventSource`, which sends no headers and exists in browsers only. A stream that breaks is
 * reopened from the last position.
 *
 * @implements {Link}
 */
export class EventStreamLink implements Link {
    /**
     * @param {ConstructorParameters<typeof Uplink>[0] & {config: Pick<Config, 'firstByteMs' | 'heartbeatMs'>}}
     *   setup
     * @param {LinkEvents} events
     */
    constructor(setup: ConstructorParameters<typeof Uplink>[0] & {
        config: Pick<Config, "firstByteMs" | "heartbeatMs">;
    }, events: LinkEvents);
    transport: string;
    traits: {
        codec: import("../wire/codec.js").Codec;
        duplex: boolean;
    };
    setup: {
        url: string;
        token: () => string | undefined;
        credentials: RequestCredentials;
        encoding: "json" | "msgpack";
        env: import("./link.js").Env;
        config: Pick<import("../config.js").Config, "slowestUplink">;
    } & {
        config: Pick<Config, "firstByteMs" | "heartbeatMs">;
    };
    events: import("./link.js").LinkEvents;
    uplink: Uplink;
    tries: Tries;
    /** @type {string | undefined} */
    position: string | undefined;
    retryMs: number;
    /** A stream that is silent for this long, heartbeats included, is reopened. */
    silenceMs: number;
    /** Whether the server has announced its heartbeat interval. */
    isInformed: boolean;
    /** Whether something has arrived on the current stream. */
    isFlowing: boolean;
    /** @type {AbortController | undefined} The current stream. */
    stream: AbortController | undefined;
    timer: any;
    isDone: boolean;
    open(): void;
    /** @param {import('./link.js').Message} message @param {boolean} [idempotent] */
    send(message: import("./link.js").Message, idempotent?: boolean): void;
    /** @param {import('./link.js').Session} session */
    welcome(session: import("./link.js").Session): void;
    nudge(): void;
    /** Reads one stream to its end. */
    read(): Promise<void>;
    /**
     * @param {AbortController} stream
     * @returns {Promise<LinkCause>} why it ended
     */
    readUntilEnd(stream: AbortController): Promise<LinkCause>;
    /**
     * Requests the server's heartbeat interval. After a failure, the next stream requests it again.
     */
    learn(): Promise<void>;
    /**
     * Ends the stream after too long a silence. If nothing has ever arrived, a proxy buffers it.
     *
     * @param {number} ms
     */
    watch(ms: number): void;
    /** @param {number} ms */
    again(ms: number): void;
    /** @param {LinkCause} cause */
    lost(cause: LinkCause): void;
    close(): void;
}
export type Link = import("./link.js").Link;
export type LinkEvents = import("./link.js").LinkEvents;
export type LinkCause = import("./link.js").LinkCause;
export type Config = import("../config.js").Config;
import { Uplink } from './uplink.js';
import { Tries } from './uplink.js';

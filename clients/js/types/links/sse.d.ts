/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('./link.js').LinkCause} LinkCause
 * @typedef {import('../config.js').Config} Config
 */
/**
 * Pushes down as an event stream, commands up by POST. The stream is read with `fetch` rather than `EventSource`, which
 * can send no headers and exists in browsers only. A stream that breaks is taken up again from the last position.
 *
 * @implements {Link}
 */
export class EventStreamLink implements Link {
    /**
     * @param {ConstructorParameters<typeof Uplink>[0] & {config: Pick<Config, 'firstByteMs' | 'heartbeatMs'>}} setup
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
    /** A stream on which nothing came for so long, heartbeats included, is taken up anew. */
    silenceMs: number;
    /** Whether the server has said how often its heart beats. */
    isInformed: boolean;
    /** Whether something has come on the stream that is being read. */
    isFlowing: boolean;
    /** @type {AbortController | undefined} The stream that is being read. */
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
    /** Asks the server how often its heart beats. Where that fails, the next stream asks again. */
    learn(): Promise<void>;
    /**
     * Silence that lasts too long ends the stream. If nothing has ever come, something in between holds it back.
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

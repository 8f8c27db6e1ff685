/**
 * Pushes by polling, commands by POST. Pushes count as received only when the next poll names their
 * position, so a lost response is requested again.
 *
 * @implements {Link}
 */
export class PollLink implements Link {
    /**
     * @param {ConstructorParameters<typeof Uplink>[0] & {holdMs: number, pauseMs: number}} setup
     *   `holdMs`: how long the server may hold a poll, 0 for short polling; `pauseMs`: between two
     *   short polls that return nothing
     * @param {LinkEvents} events
     */
    constructor(setup: ConstructorParameters<typeof Uplink>[0] & {
        holdMs: number;
        pauseMs: number;
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
        holdMs: number;
        pauseMs: number;
    };
    events: import("./link.js").LinkEvents;
    uplink: Uplink;
    tries: Tries;
    /** @type {string | undefined} */
    position: string | undefined;
    /** @type {AbortController | undefined} The poll in progress. */
    poll: AbortController | undefined;
    askedAt: number;
    /** Whether the next poll is due at once, whatever this one returns. */
    isDue: boolean;
    timer: any;
    isDone: boolean;
    open(): void;
    /** @param {import('./link.js').Message} message @param {boolean} [idempotent] */
    send(message: import("./link.js").Message, idempotent?: boolean): void;
    /** @param {import('./link.js').Session} session */
    welcome(session: import("./link.js").Session): void;
    nudge(): void;
    /** Skips the pause between two short polls. A poll in progress may have been answered before. */
    soon(): void;
    /** @param {number} ms */
    wait(ms: number): void;
    ask(): Promise<void>;
    /** @param {Frame[]} frames with the position at their end; none if there is nothing new */
    take(frames: Frame[]): void;
    /**
     * @param {AbortController} poll
     * @returns {Promise<{frames: Frame[]} | {cause: LinkCause}>}
     */
    answer(poll: AbortController): Promise<{
        frames: Frame[];
    } | {
        cause: LinkCause;
    }>;
    /** @param {LinkCause} cause */
    lost(cause: LinkCause): void;
    close(): void;
}
export type Link = import("./link.js").Link;
export type LinkEvents = import("./link.js").LinkEvents;
export type LinkCause = import("./link.js").LinkCause;
export type Frame = import("../wire/value.js").Frame;
import { Uplink } from './uplink.js';
import { Tries } from './uplink.js';

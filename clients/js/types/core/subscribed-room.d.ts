/** A subscribed room. */
export class SubscribedRoom {
    /** @param {import('./rooms.js').Cursor} cursor */
    constructor(cursor: import("./rooms.js").Cursor);
    /** The last event that was delivered to the application. */
    cursor: import("./rooms.js").Cursor;
    state: RoomState;
    /** @type {number | undefined} The command whose answer will decide about the room. */
    asked: number | undefined;
    /** How often the room was requested without success. */
    tries: number;
    /** @type {number | undefined} Events are missing; they may be requested from this time on. */
    gapAt: number | undefined;
    /**
     * Whether a `resume` that named it was refused retryably: it is requested by another `resume`.
     */
    wasRefused: boolean;
    /**
     * Records missing events. The first request is made at once; later ones wait, so that a server
     * that cannot close a gap is not flooded.
     *
     * @param {number} now
     */
    missed(now: number): void;
    /**
     * Records a retryable refusal. The room is never requested again at once, and not before
     * `retryMs` is over.
     *
     * @param {number} now
     * @param {number} [retryMs]
     */
    refused(now: number, retryMs?: number): void;
}
import { RoomState } from './latest.js';

/** A room with a subscription. */
export class SubscribedRoom {
    /** @param {import('./rooms.js').Cursor} cursor */
    constructor(cursor: import("./rooms.js").Cursor);
    /** The last event that was delivered to the application. */
    cursor: import("./rooms.js").Cursor;
    state: RoomState;
    /** @type {number | undefined} The command whose answer will say where the room stands. */
    asked: number | undefined;
    /** How often it was asked for in vain. */
    tries: number;
    /** @type {number | undefined} Something is missing; from then on it may be asked for. */
    gapAt: number | undefined;
    /** Whether a `resume` that named it was refused for now: it is asked for again by another. */
    wasRefused: boolean;
    /**
     * Something is missing. It is asked for at once the first time; later tries wait, so that a server that cannot repair a
     * gap is not flooded.
     *
     * @param {number} now
     */
    missed(now: number): void;
    /**
     * The server refused for now. It is never asked again at once, and not before `retryMs` is over.
     *
     * @param {number} now
     * @param {number} [retryMs]
     */
    refused(now: number, retryMs?: number): void;
}
import { RoomState } from './latest.js';

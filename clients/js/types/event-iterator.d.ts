/**
 * A bounded queue of a room's events, for `for await`.
 *
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 */
/**
 * Gives each event once, in order. If the application falls behind by more than the queue holds, the queue is dropped and
 * what is missing is read from the room's history: nothing is lost, and nothing piles up.
 *
 * @implements {AsyncIterableIterator<RoomEvent>}
 */
export class EventIterator implements AsyncIterableIterator<RoomEvent> {
    /**
     * @param {object} room
     * @param {() => Promise<Cursor | undefined>} room.begin subscribes to the room; where reading begins
     * @param {() => Cursor | undefined} room.cursor how far the client has come
     * @param {(cursor: Cursor) => Promise<{events: RoomEvent[], more: boolean}>} room.after a page of history
     * @param {() => void} room.end
     * @param {number} max events in the queue
     */
    constructor(room: {
        begin: () => Promise<Cursor | undefined>;
        cursor: () => Cursor | undefined;
        after: (cursor: Cursor) => Promise<{
            events: RoomEvent[];
            more: boolean;
        }>;
        end: () => void;
    }, max: number);
    room: {
        begin: () => Promise<Cursor | undefined>;
        cursor: () => Cursor | undefined;
        after: (cursor: Cursor) => Promise<{
            events: RoomEvent[];
            more: boolean;
        }>;
        end: () => void;
    };
    max: number;
    /** @type {RoomEvent[]} */
    queue: RoomEvent[];
    /** @type {Cursor | undefined} The last event that was taken from the queue, or where it began. */
    taken: Cursor | undefined;
    /** @type {Cursor | undefined} The last event that was put into the queue, or where it began. */
    last: Cursor | undefined;
    isCatchingUp: boolean;
    isDone: boolean;
    /** @type {Error | undefined} */
    error: Error | undefined;
    /** @type {(() => void) | undefined} */
    wake: (() => void) | undefined;
    begun: Promise<void>;
    /** @type {Promise<unknown>} Whoever takes hears of a failure. */
    turn: Promise<unknown>;
    /** @param {RoomEvent} event the next one of the room */
    push(event: RoomEvent): void;
    /** @param {RoomEvent} event */
    add(event: RoomEvent): void;
    /**
     * The room goes on from another place.
     *
     * @param {Cursor} cursor
     */
    jump(cursor: Cursor): void;
    /** @param {Error} [error] */
    finish(error?: Error): void;
    /** @returns {Promise<IteratorResult<RoomEvent>>} */
    next(): Promise<IteratorResult<RoomEvent>>;
    /** @returns {Promise<IteratorResult<RoomEvent>>} */
    take(): Promise<IteratorResult<RoomEvent>>;
    begin(): Promise<void>;
    /** Fetches what was dropped, until that meets what comes. */
    catchUp(): Promise<undefined>;
    /** @returns {Promise<IteratorResult<RoomEvent>>} */
    return(): Promise<IteratorResult<RoomEvent>>;
    [Symbol.asyncIterator](): this;
}
/**
 * A bounded queue of a room's events, for `for await`.
 */
export type RoomEvent = import("./core/rooms.js").RoomEvent;
/**
 * A bounded queue of a room's events, for `for await`.
 */
export type Cursor = import("./core/rooms.js").Cursor;

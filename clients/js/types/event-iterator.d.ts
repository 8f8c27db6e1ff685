/**
 * A bounded queue of a room's events, for `for await`.
 *
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 */
/**
 * Delivers each event once, in order. If the application falls behind by more than the queue holds,
 * the queue is dropped and the missing events are read from the room's history: nothing is lost,
 * and memory is bounded.
 *
 * @implements {AsyncIterableIterator<RoomEvent>}
 */
export class EventIterator implements AsyncIterableIterator<RoomEvent> {
    /**
     * @param {object} room
     * @param {() => Promise<Cursor | undefined>} room.begin subscribes to the room; returns the
     *   starting cursor
     * @param {() => Cursor | undefined} room.cursor the client's cursor
     * @param {(cursor: Cursor) => Promise<{events: RoomEvent[], more: boolean}>} room.after a page of
     *   history
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
    /**
     * @type {Cursor | undefined} The last event that was taken from the queue, or the starting
     *   cursor.
     */
    taken: Cursor | undefined;
    /**
     * @type {Cursor | undefined} The last event that was added to the queue, or the starting
     *   cursor.
     */
    last: Cursor | undefined;
    isCatchingUp: boolean;
    isDone: boolean;
    /** @type {Error | undefined} */
    error: Error | undefined;
    /** @type {(() => void) | undefined} */
    wake: (() => void) | undefined;
    begun: Promise<void>;
    /**
     * @type {Promise<unknown>} Settles when the previous `next` is done; failures are reported by
     *   `take`.
     */
    turn: Promise<unknown>;
    /** @param {RoomEvent} event the next one of the room */
    push(event: RoomEvent): void;
    /** @param {RoomEvent} event */
    add(event: RoomEvent): void;
    /**
     * Continues at another cursor of the room.
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
    /** Fetches the dropped events, until they meet the queue. */
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

/**
 * @typedef {import('./client.js').Client} Client
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').RoomStatus} RoomStatus
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 * @typedef {import('./core/types.js').AppendAck} AppendAck
 * @typedef {import('./wire/value.js').Value} Value
 */
/** @typedef {'reader' | 'member' | 'moderator' | 'owner'} Role */
/**
 * A change of a state key; `value` is absent if the key was removed.
 *
 * @typedef {{key: string, value?: Value, from?: string, stamp?: string}} StateChange
 */
/** @typedef {{room: string, from: string, at: number, kind: string, content: Value}} Signal */
/**
 * A page of a room's log. `head` is the last event of the log, `first` the first retained, `more`
 * says whether the log continues in that direction.
 *
 * @typedef {{epoch: string, head: number, first?: number, events: RoomEvent[], more: boolean}}
 *   HistoryPage
 */
/**
 * Events of a room:
 *
 * - `event`: a durable event, each once and in order, including changes of members (kind
 *   `im.members`)
 * - `message`: the same for events of the kind `message` alone
 * - `signal`: an ephemeral message
 * - `state`: a key of the room's state has changed
 * - `stale`: an update that is not newer than the held value was dropped; for counting, not for
 *   display
 * - `status`: `gap` (history was trimmed), `reset` (the epoch changed or the tail was lost: drop
 *   what you have of the room) or `denied` (access was lost, and the subscription has ended)
 *
 * @typedef {{event: RoomEvent, message: RoomEvent, signal: Signal, state: StateChange, stale:
 *   StateChange, status: RoomStatus}} RoomEvents
 */
/**
 * A handle to a room. Handles are cheap. The client holds one as long as the room is subscribed, or
 * the handle has listeners or iterators; any other one is released when the application drops it.
 *
 * @extends {Emitter<RoomEvents>}
 */
export class Room extends Emitter<RoomEvents> {
    /**
     * @param {Client} client
     * @param {string} id
     */
    constructor(client: Client, id: string);
    client: import("./client.js").Client;
    id: string;
    /**
     * The newest value of each state key, while the room is subscribed. Read-only.
     *
     * @type {Map<string, Value>}
     */
    state: Map<string, Value>;
    /** @type {Promise<RoomStatus> | undefined} */
    subscribing: Promise<RoomStatus> | undefined;
    /** @type {Set<EventIterator>} */
    iterators: Set<EventIterator>;
    /** Whether the client must keep this handle for the application. */
    get isInUse(): boolean;
    /** The cursor: the last event that was delivered; undefined if the room is not subscribed. */
    get cursor(): {
        epoch: string;
        seq: number;
    } | undefined;
    /**
     * Subscribes to the room, from a cursor or from its head. The subscription lasts across
     * connections. A room that is subscribed already, or about to be, stays as it is. Of several
     * calls of `subscribe` and `unsubscribe` the last one wins, in whatever order answers come.
     *
     * @param {{since?: Cursor}} [from] an earlier `room.cursor`
     * @returns {Promise<RoomStatus>} its `cursor` is the starting position: the first event is the
     *   next one after it
     * @throws {import('./error.js').ImError} `refused`, for a room that does not exist or without
     *   access to it
     */
    subscribe({ since }?: {
        since?: Cursor;
    }): Promise<RoomStatus>;
    /** @param {Cursor | undefined} since */
    requestSubscription(since: Cursor | undefined): Promise<import("./core/rooms.js").RoomStatus>;
    /** Unsubscribes from the room. Its iterators end. */
    unsubscribe(): Promise<void>;
    /**
     * Sends a message, and waits for its ack. The message is stored once, also if the connection
     * breaks meanwhile. Messages sent one after the other are stored in that order, also if the
     * server refuses some of them retryably: later ones to the same room wait for the retry.
     *
     * @param {unknown} content any value, for example `{text: 'hello'}`
     * @param {import('./client.js').SendOptions} [options]
     * @returns {Promise<AppendAck>}
     * @throws {import('./error.js').ImError}
     */
    send(content: unknown, options?: import("./client.js").SendOptions): Promise<AppendAck>;
    /**
     * Sends an ephemeral message to the current subscribers, at most once.
     *
     * @param {string} kind for example `typing`
     * @param {unknown} [content]
     * @throws {import('./error.js').ImError} `offline` without a connection
     */
    signal(kind: string, content?: unknown): Promise<void>;
    /**
     * Returns a page of the room's log: after a seq, oldest first, or before one, newest first.
     * Without either, the newest.
     *
     * @param {{after?: number, before?: number, limit?: number, epoch?: string}} [page] with `epoch`,
     *   the page is returned only if that is still the room's epoch
     * @returns {Promise<HistoryPage>}
     * @throws {import('./error.js').ImError}
     */
    history({ after, before, limit, epoch }?: {
        after?: number;
        before?: number;
        limit?: number;
        epoch?: string;
    }): Promise<HistoryPage>;
    /**
     * Iterates over the room's events from now on, or from an earlier cursor. Subscribes to the room.
     * Each event comes once and in order; a slow loop catches up from history.
     *
     * @param {{since?: Cursor}} [from]
     * @returns {AsyncIterableIterator<RoomEvent>}
     */
    events({ since }?: {
        since?: Cursor;
    }): AsyncIterableIterator<RoomEvent>;
    /**
     * Creates the room; the caller becomes its owner. After `unknown` (the connection was cut before
     * the answer) call again: the ack says `duplicate` if the caller has already created the same
     * room.
     *
     * @param {{kind?: 'group' | 'channel', open?: boolean, members?: string[]}} [options]
     * @returns {Promise<AppendAck>}
     * @throws {import('./error.js').ImError} `unknown`; `refused` with 4523 if the room has another
     *   owner or other properties, 4521 if the id is taken
     */
    create({ kind, open, members }?: {
        kind?: "group" | "channel";
        open?: boolean;
        members?: string[];
    }): Promise<AppendAck>;
    /** Joins the room. */
    join(): Promise<import("./core/types.js").AppendAck>;
    /** Leaves the room. */
    leave(): Promise<import("./core/types.js").AppendAck>;
    /**
     * Changes another user's membership.
     *
     * @param {string} user
     * @param {'add' | 'remove' | 'ban' | 'unban'} act
     * @param {{role?: Role}} [options] for `add`
     */
    member(user: string, act: "add" | "remove" | "ban" | "unban", { role }?: {
        role?: Role;
    }): Promise<import("./core/types.js").AppendAck>;
    /**
     * Returns a page of the room's members, in the order of their ids.
     *
     * @param {{after?: string, limit?: number}} [page]
     * @returns {Promise<{members: {user: string, role: Role}[], more: boolean}>}
     */
    members({ after, limit }?: {
        after?: string;
        limit?: number;
    }): Promise<{
        members: {
            user: string;
            role: Role;
        }[];
        more: boolean;
    }>;
    /**
     * Puts a value under a state key.
     *
     * @param {string} key
     * @param {unknown} value
     * @param {{stamp?: string}} [options]
     * @returns {Promise<string>} its stamp
     */
    putState(key: string, value: unknown, { stamp }?: {
        stamp?: string;
    }): Promise<string>;
    /**
     * Removes the value of a state key.
     *
     * @param {string} key
     * @param {{stamp?: string}} [options]
     * @returns {Promise<string>} its stamp
     */
    removeState(key: string, { stamp }?: {
        stamp?: string;
    }): Promise<string>;
    /** @param {import('./wire/value.js').Frame} body */
    ack(body: import("./wire/value.js").Frame): Promise<import("./core/types.js").AppendAck>;
    /** @param {RoomEvent} event */
    onEvent(event: RoomEvent): void;
    /** @param {import('./core/latest.js').StateUpdate} update */
    onState({ key, value, from, stamp }: import("./core/latest.js").StateUpdate): void;
    /** @param {import('./core/latest.js').StateUpdate[]} entries all of the room's state */
    onSnapshot(entries: import("./core/latest.js").StateUpdate[]): void;
    /** @param {RoomStatus} status */
    onStatus(status: RoomStatus): void;
    /** @param {Error} [error] */
    end(error?: Error): void;
    [Symbol.asyncIterator](): AsyncIterableIterator<import("./core/rooms.js").RoomEvent>;
}
export type Client = import("./client.js").Client;
export type RoomEvent = import("./core/rooms.js").RoomEvent;
export type RoomStatus = import("./core/rooms.js").RoomStatus;
export type Cursor = import("./core/rooms.js").Cursor;
export type AppendAck = import("./core/types.js").AppendAck;
export type Value = import("./wire/value.js").Value;
export type Role = "reader" | "member" | "moderator" | "owner";
/**
 * A change of a state key; `value` is absent if the key was removed.
 */
export type StateChange = {
    key: string;
    value?: Value;
    from?: string;
    stamp?: string;
};
export type Signal = {
    room: string;
    from: string;
    at: number;
    kind: string;
    content: Value;
};
/**
 * A page of a room's log. `head` is the last event of the log, `first` the first retained, `more`
 * says whether the log continues in that direction.
 */
export type HistoryPage = {
    epoch: string;
    head: number;
    first?: number;
    events: RoomEvent[];
    more: boolean;
};
/**
 * Events of a room:
 *
 * - `event`: a durable event, each once and in order, including changes of members (kind
 *   `im.members`)
 * - `message`: the same for events of the kind `message` alone
 * - `signal`: an ephemeral message
 * - `state`: a key of the room's state has changed
 * - `stale`: an update that is not newer than the held value was dropped; for counting, not for
 *   display
 * - `status`: `gap` (history was trimmed), `reset` (the epoch changed or the tail was lost: drop
 *   what you have of the room) or `denied` (access was lost, and the subscription has ended)
 */
export type RoomEvents = {
    event: RoomEvent;
    message: RoomEvent;
    signal: Signal;
    state: StateChange;
    stale: StateChange;
    status: RoomStatus;
};
import { Emitter } from './emitter.js';
import { EventIterator } from './event-iterator.js';

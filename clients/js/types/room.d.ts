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
 * A state key has another value now; `value` is absent if it has none.
 *
 * @typedef {{key: string, value?: Value, from?: string, stamp?: string}} StateChange
 */
/** @typedef {{room: string, from: string, at: number, kind: string, content: Value}} Signal */
/**
 * A page of a room's log. `head` is the last event of the log, `first` the first that is still kept, `more` says whether the
 * log goes on in that direction.
 *
 * @typedef {{epoch: string, head: number, first?: number, events: RoomEvent[], more: boolean}} HistoryPage
 */
/**
 * What a room tells:
 *
 * - `event`: a durable event, each once and in order, changes of members (kind `im.members`) included
 * - `message`: the same for events of the kind `message` alone
 * - `signal`: something ephemeral
 * - `state`: a key of the room's state has changed
 * - `stale`: an update came that is not newer than what is held, and was dropped; to count, not to show
 * - `status`: `gap` (history was trimmed), `reset` (the room begins anew: drop what you have of it) or `denied` (it may not
 *   be read any more, and the subscription has ended)
 *
 * @typedef {{event: RoomEvent, message: RoomEvent, signal: Signal, state: StateChange, stale: StateChange,
 *   status: RoomStatus}} RoomEvents
 */
/**
 * A handle to a room. Handles cost little. The client keeps one for as long as the room is subscribed to, or the handle has
 * listeners or iterators; any other one is released when the application holds it no longer.
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
     * The newest value of each key of the room's state, while it is subscribed to. To be read only.
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
    /** The last event that was delivered; undefined if the room is not subscribed to. */
    get cursor(): {
        epoch: string;
        seq: number;
    } | undefined;
    /**
     * Subscribes to the room, from a cursor or from its head, and stays subscribed over all connections. A room that is
     * subscribed to already, or about to be, stays as it is. Of `subscribe` and `unsubscribe` the last call decides, whenever
     * answers come.
     *
     * @param {{since?: Cursor}} [from] an earlier `room.cursor`
     * @returns {Promise<RoomStatus>} its `cursor` is what the first event follows upon
     * @throws {import('./error.js').ImError} `refused`, for a room that does not exist or may not be read
     */
    subscribe({ since }?: {
        since?: Cursor;
    }): Promise<RoomStatus>;
    /** @param {Cursor | undefined} since */
    requestSubscription(since: Cursor | undefined): Promise<import("./core/rooms.js").RoomStatus>;
    /** Ends the subscription to the room. Iterators of the room end. */
    unsubscribe(): Promise<void>;
    /**
     * Sends a message, and waits for its ack. Whatever happens to the connection meanwhile, it is kept once. Messages sent
     * one after the other arrive in that order, also where the server refuses some for now: later ones to the same room wait
     * for them.
     *
     * @param {unknown} content any value: `{text: 'hello'}`, say
     * @param {import('./client.js').SendOptions} [options]
     * @returns {Promise<AppendAck>}
     * @throws {import('./error.js').ImError}
     */
    send(content: unknown, options?: import("./client.js").SendOptions): Promise<AppendAck>;
    /**
     * Delivers something to the subscribers that the room has now, at most once.
     *
     * @param {string} kind `typing`, say
     * @param {unknown} [content]
     * @throws {import('./error.js').ImError} `offline` without a connection
     */
    signal(kind: string, content?: unknown): Promise<void>;
    /**
     * A page of the room's log: the events after a seq, oldest first, or before one, newest first. Without either, the newest.
     *
     * @param {{after?: number, before?: number, limit?: number, epoch?: string}} [page] with `epoch`, the page is given
     *   only if that is still the room's
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
     * The room's events from now on, or from an earlier cursor. Subscribes to the room. Each event comes once and in order; a
     * slow loop reads on from history.
     *
     * @param {{since?: Cursor}} [from]
     * @returns {AsyncIterableIterator<RoomEvent>}
     */
    events({ since }?: {
        since?: Cursor;
    }): AsyncIterableIterator<RoomEvent>;
    /**
     * Makes the room and becomes its owner. After `unknown` (the connection was cut before the answer) the same call again tells:
     * it is `duplicate` if the room is yours already, and as wished.
     *
     * @param {{kind?: 'group' | 'channel', open?: boolean, members?: string[]}} [options]
     * @returns {Promise<AppendAck>}
     * @throws {import('./error.js').ImError} `unknown`; `refused` with 4523 if it is another's or otherwise, 4521 if the id is taken
     */
    create({ kind, open, members }?: {
        kind?: "group" | "channel";
        open?: boolean;
        members?: string[];
    }): Promise<AppendAck>;
    /** Becomes a member. */
    join(): Promise<import("./core/types.js").AppendAck>;
    /** Stops being a member. */
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
     * Who is in the room: a page in the order of their ids.
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
     * @returns {Promise<string>} the stamp that it got
     */
    putState(key: string, value: unknown, { stamp }?: {
        stamp?: string;
    }): Promise<string>;
    /**
     * Removes a state key's value.
     *
     * @param {string} key
     * @param {{stamp?: string}} [options]
     * @returns {Promise<string>} the stamp that it got
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
 * A state key has another value now; `value` is absent if it has none.
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
 * A page of a room's log. `head` is the last event of the log, `first` the first that is still kept, `more` says whether the
 * log goes on in that direction.
 */
export type HistoryPage = {
    epoch: string;
    head: number;
    first?: number;
    events: RoomEvent[];
    more: boolean;
};
/**
 * What a room tells:
 *
 * - `event`: a durable event, each once and in order, changes of members (kind `im.members`) included
 * - `message`: the same for events of the kind `message` alone
 * - `signal`: something ephemeral
 * - `state`: a key of the room's state has changed
 * - `stale`: an update came that is not newer than what is held, and was dropped; to count, not to show
 * - `status`: `gap` (history was trimmed), `reset` (the room begins anew: drop what you have of it) or `denied` (it may not
 *   be read any more, and the subscription has ended)
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

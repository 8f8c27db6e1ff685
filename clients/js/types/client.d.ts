/**
 * @typedef {import('./core/types.js').ClientEvent} ClientEvent
 * @typedef {import('./core/types.js').AppendAck} AppendAck
 * @typedef {import('./core/types.js').Cause} Cause
 * @typedef {import('./links/link.js').Transport} Transport
 * @typedef {import('./wire/value.js').Frame} Frame
 */
/**
 * - `connecting`: for the first time
 * - `online`
 * - `waiting`: the connection was lost; the client reconnects by itself
 * - `closed`: ended
 *
 * @typedef {'connecting' | 'online' | 'waiting' | 'closed'} Status
 */
/**
 * The state of the connection: its transport while online, otherwise why it ended and the
 * milliseconds until the next try.
 *
 * @typedef {{status: Status, transport?: string, code?: number, message?: string, retryInMs?: number}}
 *   StatusChange
 */
/**
 * `kind`: 1 to 32 characters, `message` by default. `mid`: the application's own idempotency key,
 * so that a retry after a restart of the application is recognised as a duplicate; it needs at
 * least 96 random bits.
 *
 * @typedef {{kind?: string, mid?: string}} SendOptions
 */
/**
 * A room, the direct room with a user, or a user's own room.
 *
 * @typedef {{room: string} | {peer: string} | {to: string}} Target
 */
/**
 * Events of a client:
 *
 * - `status`
 * - `event`, `signal`: of any room
 * - `ack`: a message of an earlier load of the page (see `storage`) was stored by the server
 * - `error`: such a message was refused for good, or a value could not be written to the storage
 *
 * @typedef {{status: StatusChange, event: import('./core/rooms.js').RoomEvent, signal: Frame,
 *   ack: AppendAck & {mid: string}, error: unknown}} ClientEvents
 */
/**
 * One user on one device, across connections. Commands wait while there is no connection, and are
 * carried out on the next one.
 *
 * @extends {Emitter<ClientEvents>}
 */
export class Client extends Emitter<ClientEvents> {
    /**
     * @param {object} setup from `connect`
     * @param {import('./config.js').ConfigOptions} [setup.config]
     * @param {import('./storage.js').PersistentStore} [setup.store]
     */
    constructor({ config, store }: {
        config?: import("./config.js").ConfigOptions | undefined;
        store?: import("./storage.js").PersistentStore | undefined;
    });
    config: import("./config.js").Config;
    store: import("./storage.js").PersistentStore | undefined;
    /** @type {Status} */
    status: Status;
    /** The user id, once the server has confirmed it. @type {string | undefined} */
    user: string | undefined;
    handles: Handles;
    /** @type {import('./shell.js').Shell | undefined} */
    shell: import("./shell.js").Shell | undefined;
    /** @type {(() => void)[]} */
    atClose: (() => void)[];
    /** Whether this tab holds the connection. */
    isLeader: () => boolean;
    /**
     * Starts to run on this shell.
     *
     * @param {import('./shell.js').Shell} shell
     */
    begin(shell: import("./shell.js").Shell): void;
    /**
     * The transport in use: `ws`, `sse`, `poll`, `short`, or `tab` where another tab holds the
     * connection.
     */
    get transport(): import("./links/link.js").Transport | undefined;
    /**
     * Returns the handle to a room. It is the same one for the same id as long as the room is
     * subscribed, or the application holds the handle or listens to it.
     *
     * @param {string} id
     * @throws {ImError} `invalid`
     */
    room(id: string): Room;
    /**
     * Waits until the client is online.
     *
     * @throws {ImError} `closed`
     */
    online(): Promise<void>;
    /**
     * Sends a message, and waits for its ack. The message is stored once, also if the connection
     * breaks meanwhile.
     *
     * @param {Target} target
     * @param {unknown} content any value
     * @param {SendOptions} [options]
     * @returns {Promise<AppendAck>}
     * @throws {ImError} its `mid` is the id under which to retry
     */
    send(target: Target, content: unknown, { kind, mid }?: SendOptions): Promise<AppendAck>;
    /**
     * @param {Frame} body
     * @param {boolean} isNew
     */
    persistedSend(body: Frame, isNew: boolean): Promise<import("./wire/value.js").Frame>;
    /** @param {Frame} send */
    sendAgain(send: Frame): Promise<void>;
    /**
     * Sends an ephemeral message to the recipients that are connected now, at most once.
     *
     * @param {Target} target
     * @param {string} kind
     * @param {unknown} [content]
     * @throws {ImError} `offline` without a connection
     */
    signal(target: Target, kind: string, content?: unknown): Promise<void>;
    /**
     * Returns a page of the user's rooms, in the order of their ids.
     *
     * @param {{after?: string, limit?: number}} [page]
     * @returns {Promise<{list: {room: string, kind: string, role: import('./room.js').Role}[], more:
     *   boolean}>}
     */
    rooms({ after, limit }?: {
        after?: string;
        limit?: number;
    }): Promise<{
        list: {
            room: string;
            kind: string;
            role: import("./room.js").Role;
        }[];
        more: boolean;
    }>;
    /**
     * @returns {Promise<{session: string, device: string, since: number, connected: boolean}[]>} the
     *   user's sessions
     */
    sessions(): Promise<{
        session: string;
        device: string;
        since: number;
        connected: boolean;
    }[]>;
    /**
     * Ends another of the user's sessions for good.
     *
     * @param {string} session
     */
    kick(session: string): Promise<void>;
    /**
     * Sends new credentials before the old ones expire. Not needed with a function as `token`: the
     * client then does it.
     *
     * @param {string} token
     */
    refresh(token: string): Promise<void>;
    /** @returns {Promise<number>} the server's time, in milliseconds since the Unix epoch */
    ping(): Promise<number>;
    /** Ends the session for good, and the client with it. */
    logout(): Promise<void>;
    /** Ends the client; the session can be resumed. Commands without an answer fail as `closed`. */
    close(): void;
    /**
     * Carries out a command of wire/SPEC.md.
     *
     * @param {Frame} body without its number
     * @returns {Promise<Frame>} the fields of the answer
     * @throws {ImError}
     */
    command(body: Frame): Promise<Frame>;
    /**
     * @param {unknown} content
     * @throws {ImError} `invalid`
     */
    value(content: unknown): import("./wire/value.js").Value;
    /** @param {string} room */
    cursor(room: string): {
        epoch: string;
        seq: number;
    } | undefined;
    closedError(): ImError;
    /** @param {ClientEvent} event */
    onEvent(event: ClientEvent): void;
    /** @param {StatusChange} change */
    change(change: StatusChange): void;
}
export type ClientEvent = import("./core/types.js").ClientEvent;
export type AppendAck = import("./core/types.js").AppendAck;
export type Cause = import("./core/types.js").Cause;
export type Transport = import("./links/link.js").Transport;
export type Frame = import("./wire/value.js").Frame;
/**
 * - `connecting`: for the first time
 * - `online`
 * - `waiting`: the connection was lost; the client reconnects by itself
 * - `closed`: ended
 */
export type Status = "connecting" | "online" | "waiting" | "closed";
/**
 * The state of the connection: its transport while online, otherwise why it ended and the
 * milliseconds until the next try.
 */
export type StatusChange = {
    status: Status;
    transport?: string;
    code?: number;
    message?: string;
    retryInMs?: number;
};
/**
 * `kind`: 1 to 32 characters, `message` by default. `mid`: the application's own idempotency key,
 * so that a retry after a restart of the application is recognised as a duplicate; it needs at
 * least 96 random bits.
 */
export type SendOptions = {
    kind?: string;
    mid?: string;
};
/**
 * A room, the direct room with a user, or a user's own room.
 */
export type Target = {
    room: string;
} | {
    peer: string;
} | {
    to: string;
};
/**
 * Events of a client:
 *
 * - `status`
 * - `event`, `signal`: of any room
 * - `ack`: a message of an earlier load of the page (see `storage`) was stored by the server
 * - `error`: such a message was refused for good, or a value could not be written to the storage
 */
export type ClientEvents = {
    status: StatusChange;
    event: import("./core/rooms.js").RoomEvent;
    signal: Frame;
    ack: AppendAck & {
        mid: string;
    };
    error: unknown;
};
import { Emitter } from './emitter.js';
import { Handles } from './handles.js';
import { Room } from './room.js';
import { ImError } from './error.js';

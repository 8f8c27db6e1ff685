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
 * - `waiting`: the connection was lost; the client comes back by itself
 * - `closed`: over
 *
 * @typedef {'connecting' | 'online' | 'waiting' | 'closed'} Status
 */
/**
 * How things stand: what carries frames while online, why it ended and after how many milliseconds the next try comes
 * otherwise.
 *
 * @typedef {{status: Status, transport?: string, code?: number, message?: string, retryInMs?: number}} StatusChange
 */
/**
 * `kind`: 1 to 32 characters, `message` by default. `mid`: an id of the application's own, so that a try after a restart
 * of the application is recognised as a duplicate; it needs at least 96 random bits.
 *
 * @typedef {{kind?: string, mid?: string}} SendOptions
 */
/**
 * A room, the direct room with a user, or a user's own room.
 *
 * @typedef {{room: string} | {peer: string} | {to: string}} Target
 */
/**
 * What a client tells:
 *
 * - `status`
 * - `event`, `signal`: of any room
 * - `ack`: a message of an earlier load of the page (see `storage`) was kept now
 * - `error`: such a message was refused for good, or something could not be put into the storage
 *
 * @typedef {{status: StatusChange, event: import('./core/rooms.js').RoomEvent, signal: Frame,
 *   ack: AppendAck & {mid: string}, error: unknown}} ClientEvents
 */
/**
 * One user on one device, over all connections that this takes. Commands wait while there is no connection, and are carried
 * out on the next one.
 *
 * @extends {Emitter<ClientEvents>}
 */
export class Client extends Emitter<ClientEvents> {
    /**
     * @param {object} setup made by `connect`
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
    /** The user that the server takes this for, once it has said so. @type {string | undefined} */
    user: string | undefined;
    handles: Handles;
    /** @type {import('./shell.js').Shell | undefined} */
    shell: import("./shell.js").Shell | undefined;
    /** @type {(() => void)[]} */
    atClose: (() => void)[];
    /** Whether this tab holds the connection. */
    isLeader: () => boolean;
    /**
     * Begins to run on this shell.
     *
     * @param {import('./shell.js').Shell} shell
     */
    begin(shell: import("./shell.js").Shell): void;
    /** What carries frames now: `ws`, `sse`, `poll`, `short`, or `tab` where another tab does it. */
    get transport(): import("./links/link.js").Transport | undefined;
    /**
     * A handle to a room: the same one for the same id, as long as the room is subscribed to, or the application holds the handle or
     * listens to it.
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
     * Sends a message, and waits for its ack. Whatever happens to the connection meanwhile, it is kept once.
     *
     * @param {Target} target
     * @param {unknown} content any value
     * @param {SendOptions} [options]
     * @returns {Promise<AppendAck>}
     * @throws {ImError} its `mid` is the id for another try
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
     * Delivers something to those who are there now, at most once.
     *
     * @param {Target} target
     * @param {string} kind
     * @param {unknown} [content]
     * @throws {ImError} `offline` without a connection
     */
    signal(target: Target, kind: string, content?: unknown): Promise<void>;
    /**
     * Which rooms the user is in: a page in the order of their ids.
     *
     * @param {{after?: string, limit?: number}} [page]
     * @returns {Promise<{list: {room: string, kind: string, role: import('./room.js').Role}[], more: boolean}>}
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
    /** @returns {Promise<{session: string, device: string, since: number, connected: boolean}[]>} the user's sessions */
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
     * Shows new credentials before the old ones expire. With a function as `token` the client does it by itself.
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
 * - `waiting`: the connection was lost; the client comes back by itself
 * - `closed`: over
 */
export type Status = "connecting" | "online" | "waiting" | "closed";
/**
 * How things stand: what carries frames while online, why it ended and after how many milliseconds the next try comes
 * otherwise.
 */
export type StatusChange = {
    status: Status;
    transport?: string;
    code?: number;
    message?: string;
    retryInMs?: number;
};
/**
 * `kind`: 1 to 32 characters, `message` by default. `mid`: an id of the application's own, so that a try after a restart
 * of the application is recognised as a duplicate; it needs at least 96 random bits.
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
 * What a client tells:
 *
 * - `status`
 * - `event`, `signal`: of any room
 * - `ack`: a message of an earlier load of the page (see `storage`) was kept now
 * - `error`: such a message was refused for good, or something could not be put into the storage
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

/**
 * The part of the browsers' `Storage` that is needed; `localStorage` has it.
 *
 * @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>} StorageLike
 * @typedef {import('./wire/value.js').Frame} Frame
 * @typedef {import('./core/types.js').Session} Session
 */
/**
 * Stores values under `im/<name>/…`. A value that cannot be stored (the storage is full, or
 * forbidden) is held in memory only, and `onError` is called.
 */
export class PersistentStore {
    /**
     * @param {StorageLike} storage
     * @param {string} name
     * @param {(error: unknown) => void} onError
     */
    constructor(storage: StorageLike, name: string, onError: (error: unknown) => void);
    storage: StorageLike;
    prefix: string;
    onError: (error: unknown) => void;
    /**
     * The number of the newest message that was stored here, once it is known.
     * @type {number | undefined}
     */
    order: number | undefined;
    /**
     * @param {string} key
     * @param {string | undefined} text undefined removes it
     */
    put(key: string, text: string | undefined): void;
    /**
     * @param {string} key
     * @returns {any} undefined if there is nothing, or nothing readable
     */
    get(key: string): any;
    /** @returns {Session | undefined} */
    session(): Session | undefined;
    /** @param {Session | undefined} session */
    keepSession(session: Session | undefined): void;
    /** Returns the same device id each time. */
    device(): string;
    /** @param {Frame} send */
    storeSend(send: Frame): void;
    /**
     * Returns a message's number in the order of sends, across loads of the page and its tabs: a
     * counter in the storage. A clock can be set back.
     */
    nextOrder(): number;
    /** @param {string} mid */
    dropSend(mid: string): void;
    /** @returns {Frame[]} messages without an ack, in the order in which they were sent */
    sends(): Frame[];
    /** @returns {{order: number, send: Frame}[]} */
    kept(): {
        order: number;
        send: Frame;
    }[];
}
/**
 * The part of the browsers' `Storage` that is needed; `localStorage` has it.
 */
export type StorageLike = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;
/**
 * The part of the browsers' `Storage` that is needed; `localStorage` has it.
 */
export type Frame = import("./wire/value.js").Frame;
/**
 * The part of the browsers' `Storage` that is needed; `localStorage` has it.
 */
export type Session = import("./core/types.js").Session;

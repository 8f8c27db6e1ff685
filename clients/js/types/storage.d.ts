/**
 * As much of the browsers' `Storage` as is needed; `localStorage` will do.
 *
 * @typedef {Pick<Storage, 'getItem' | 'setItem' | 'removeItem' | 'key' | 'length'>} StorageLike
 * @typedef {import('./wire/value.js').Frame} Frame
 * @typedef {import('./core/types.js').Session} Session
 */
/**
 * Keeps things under `im/<name>/…`. What cannot be kept (the storage is full, or forbidden) stays in memory alone, and
 * `onError` hears of it.
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
    /** The number of the newest message that was kept here, once it is known. @type {number | undefined} */
    order: number | undefined;
    /**
     * @param {string} key
     * @param {string | undefined} text undefined removes it
     */
    put(key: string, text: string | undefined): void;
    /**
     * @param {string} key
     * @returns {any} undefined if there is nothing, or nothing that can be read
     */
    get(key: string): any;
    /** @returns {Session | undefined} */
    session(): Session | undefined;
    /** @param {Session | undefined} session */
    keepSession(session: Session | undefined): void;
    /** The same device each time. */
    device(): string;
    /** @param {Frame} send */
    storeSend(send: Frame): void;
    /**
     * The place of a message among all that are sent, also over several loads of the page and by several of its tabs: a counter in
     * the storage. A clock would not do; it can be set back.
     */
    nextOrder(): number;
    /** @param {string} mid */
    dropSend(mid: string): void;
    /** @returns {Frame[]} messages without a ack, in the order in which they were sent */
    sends(): Frame[];
    /** @returns {{order: number, send: Frame}[]} */
    kept(): {
        order: number;
        send: Frame;
    }[];
}
/**
 * As much of the browsers' `Storage` as is needed; `localStorage` will do.
 */
export type StorageLike = Pick<Storage, "getItem" | "setItem" | "removeItem" | "key" | "length">;
/**
 * As much of the browsers' `Storage` as is needed; `localStorage` will do.
 */
export type Frame = import("./wire/value.js").Frame;
/**
 * As much of the browsers' `Storage` as is needed; `localStorage` will do.
 */
export type Session = import("./core/types.js").Session;

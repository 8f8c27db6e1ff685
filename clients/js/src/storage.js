/**
 * What survives a reload: the session, the device, and messages without an ack.
 *
 * @module
 */

import { randomId } from './ids.js';
import * as json from './wire/json.js';

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
  constructor(storage, name, onError) {
    this.storage = storage;
    this.prefix = `im/${name}/`;
    this.onError = onError;
    /**
     * The number of the newest message that was stored here, once it is known.
     * @type {number | undefined}
     */
    this.order = undefined;
  }

  /**
   * @param {string} key
   * @param {string | undefined} text undefined removes it
   */
  put(key, text) {
    try {
      if (text === undefined) this.storage.removeItem(this.prefix + key);
      else this.storage.setItem(this.prefix + key, text);
    } catch (error) {
      this.onError(error);
    }
  }

  /**
   * @param {string} key
   * @returns {any} undefined if there is nothing, or nothing readable
   */
  get(key) {
    try {
      const text = this.storage.getItem(this.prefix + key);
      return text === null ? undefined : json.decode(text);
    } catch (error) {
      this.onError(error);
      return undefined;
    }
  }

  /** @returns {Session | undefined} */
  session() {
    const { session, secret } = this.get('session') ?? {};
    return typeof session === 'string' && typeof secret === 'string' ? { session, secret } : undefined;
  }

  /** @param {Session | undefined} session */
  keepSession(session) {
    this.put('session', session && json.encode(session));
  }

  /** Returns the same device id each time. */
  device() {
    const kept = this.get('device');
    if (typeof kept === 'string') return kept;
    const device = randomId();
    this.put('device', json.encode(device));
    return device;
  }

  /** @param {Frame} send */
  storeSend(send) {
    const order = this.nextOrder();
    this.put(`send/${send.mid}`, json.encode({ order, send }));
  }

  /**
   * Returns a message's number in the order of sends, across loads of the page and its tabs: a
   * counter in the storage. A clock can be set back.
   */
  nextOrder() {
    // Stored messages count as well, in case the counter could not be stored.
    this.order ??= Math.max(0, ...this.kept().map(({ order }) => order));
    const stored = this.get('order');
    this.order = Math.max(this.order, isOrder(stored) ? stored : 0) + 1;
    this.put('order', json.encode(this.order));
    return this.order;
  }

  /** @param {string} mid */
  dropSend(mid) {
    this.put(`send/${mid}`, undefined);
  }

  /** @returns {Frame[]} messages without an ack, in the order in which they were sent */
  sends() {
    return this.kept().sort((a, b) => a.order - b.order).map(({ send }) => send);
  }

  /** @returns {{order: number, send: Frame}[]} */
  kept() {
    const prefix = `${this.prefix}send/`;
    const keys = [];
    for (let i = 0; i < this.storage.length; i++) {
      const key = this.storage.key(i);
      if (key?.startsWith(prefix)) keys.push(key.slice(this.prefix.length));
    }
    return keys.map((key) => this.get(key)).filter((entry) => entry?.send?.t === 'send' && isOrder(entry.order));
  }
}

/** @param {unknown} value */
function isOrder(value) {
  return Number.isSafeInteger(value);
}

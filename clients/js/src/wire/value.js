/**
 * The values that frames are made of: what JSON has, and bytes. See wire/SPEC.md, "Messages,
 * frames, values".
 *
 * @module
 */

import { Code } from '../codes.js';

/**
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53
 * − 1) is a float.
 *
 * @typedef {null | boolean | number | string | Uint8Array | ValueList | ValueMap} Value
 * @typedef {any[]} ValueList of values; JSDoc cannot express the recursion
 * @typedef {{[key: string]: Value}} ValueMap
 */

/**
 * A frame: a map with its kind in `t`.
 *
 * @typedef {{[key: string]: any}} Frame
 */

/** The error of a value that cannot be encoded, or of invalid input. */
export class WireError extends Error {
  /**
   * @param {string} message
   * @param {number} [code] the code that a server would answer with
   */
  constructor(message, code = Code.Malformed) {
    super(message);
    this.name = 'WireError';
    this.code = code;
  }
}

/**
 * Bounds for decoding. The defaults are generous, only to keep a faulty server from filling the
 * memory. Bytes of one message, depth of nesting, values (as SPEC counts them), frames of a batch.
 *
 * @typedef {{bytes: number, depth: number, values: number, batch: number}} Limits
 */

/** @type {Readonly<Limits>} */
export const GENEROUS = Object.freeze({ bytes: 16 << 20, depth: 64, values: 1 << 20, batch: 1 << 16 });

/** Counts values and refuses too many. */
export class Counter {
  /** @param {Limits} limits */
  constructor(limits) {
    this.left = limits.values;
    this.limits = limits;
  }

  /** @param {number} [n] */
  count(n = 1) {
    this.left -= n;
    if (this.left < 0) throw new WireError('too many values', Code.TooMany);
  }

  /** @param {number} depth of a list or map */
  enter(depth) {
    if (depth > this.limits.depth) throw new WireError('nested too deeply', Code.TooDeep);
  }
}

/**
 * Sets a member, also one named `__proto__`.
 *
 * @param {{[key: string]: Value}} map
 * @param {string} key
 * @param {Value} value
 */
export function put(map, key, value) {
  if (key === '__proto__') {
    Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
  } else {
    map[key] = value;
  }
}

/**
 * Whether a text has no lone surrogates, and so can be encoded in UTF-8.
 *
 * @param {string} text
 */
export function isWellFormed(text) {
  return !/[\ud800-\udfff]/.test(text) || !/\p{Surrogate}/u.test(text);
}

/**
 * Returns a deep copy of an application's value, so that later changes have no effect: one message
 * id must mean one content. Members that are `undefined` are left out, `-0` becomes `0`, array
 * buffers and views become bytes.
 *
 * @param {unknown} value
 * @param {number} [depth] at most 64
 * @returns {Value}
 * @throws {WireError} if it is not a value: functions, class instances, NaN, lone surrogates …
 */
export function toValue(value, depth = 0) {
  if (depth > GENEROUS.depth) throw new WireError('nested too deeply', Code.TooDeep);
  if (value === null || typeof value === 'boolean') return value;
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) throw new WireError(`${value} is not a value; numbers must be finite`, Code.BadField);
    return value === 0 ? 0 : value;
  }
  if (typeof value === 'string') {
    if (!isWellFormed(value)) throw new WireError('the text has a lone surrogate', Code.BadField);
    return value;
  }
  if (value instanceof ArrayBuffer) return new Uint8Array(value.slice(0));
  if (ArrayBuffer.isView(value)) {
    return new Uint8Array(value.buffer, value.byteOffset, value.byteLength).slice();
  }
  if (Array.isArray(value)) return value.map((item) => toValue(item, depth + 1));
  if (isPlain(value)) {
    /** @type {{[key: string]: Value}} */
    const map = {};
    for (const [key, item] of Object.entries(value)) {
      if (item === undefined) continue;
      if (!isWellFormed(key)) throw new WireError('a key has a lone surrogate', Code.BadField);
      put(map, key, toValue(item, depth + 1));
    }
    return map;
  }
  const what = typeof value === 'object' ? (value?.constructor?.name ?? 'object') : typeof value;
  throw new WireError(`a ${what} is not a value; use JSON types or bytes`, Code.BadField);
}

/**
 * @param {unknown} value
 * @returns {value is {[key: string]: unknown}}
 */
function isPlain(value) {
  if (typeof value !== 'object' || value === null) return false;
  const prototype = Object.getPrototypeOf(value);
  // A plain object of another realm (a frame, a worker) has another prototype, whose own prototype
  // is null too.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * Returns the size of a value: its bytes as MessagePack in the shortest form, its depth, and its
 * values as JSON counts them. Servers apply their limits for contents to these.
 *
 * @param {Value} value
 * @returns {{bytes: number, depth: number, values: number}}
 */
export function measure(value) {
  if (typeof value === 'number') return { bytes: numberBytes(value), depth: 0, values: 1 };
  if (typeof value === 'string') return { bytes: textBytes(value), depth: 0, values: 1 };
  if (value instanceof Uint8Array) {
    const n = value.length;
    return { bytes: n + (n < 256 ? 2 : n < 65536 ? 3 : 5), depth: 0, values: 2 };
  }
  if (value === null || typeof value === 'boolean') return { bytes: 1, depth: 0, values: 1 };
  const keys = Array.isArray(value) ? null : Object.keys(value);
  const items = Array.isArray(value) ? value : Object.values(value);
  const size = { bytes: items.length < 16 ? 1 : items.length < 65536 ? 3 : 5, depth: 0, values: 1 };
  for (const item of items) {
    const inner = measure(item);
    size.bytes += inner.bytes;
    size.depth = Math.max(size.depth, inner.depth);
    size.values += inner.values;
  }
  for (const key of keys ?? []) size.bytes += textBytes(key);
  size.depth += 1;
  return size;
}

/** @param {number} n */
function numberBytes(n) {
  if (!Number.isSafeInteger(n)) return 9;
  if (n >= 0) return n < 128 ? 1 : n < 256 ? 2 : n < 65536 ? 3 : n < 2 ** 32 ? 5 : 9;
  return n >= -32 ? 1 : n >= -128 ? 2 : n >= -32768 ? 3 : n >= -(2 ** 31) ? 5 : 9;
}

/** @param {string} text */
function textBytes(text) {
  const n = utf8Length(text);
  return n + (n < 32 ? 1 : n < 256 ? 2 : n < 65536 ? 3 : 5);
}

/**
 * Bytes of a well-formed text in UTF-8.
 *
 * @param {string} text
 */
export function utf8Length(text) {
  let bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    // Each half of a surrogate pair counts two of its four bytes.
    if (unit >= 0x80) bytes += unit < 0x800 || (unit >= 0xd800 && unit <= 0xdfff) ? 1 : 2;
  }
  return bytes;
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * @param {Uint8Array} bytes
 * @throws {WireError} if it is not UTF-8
 */
export function fromUtf8(bytes) {
  try {
    return UTF8.decode(bytes);
  } catch {
    throw new WireError('invalid UTF-8');
  }
}

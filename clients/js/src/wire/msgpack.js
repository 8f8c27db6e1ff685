/**
 * The MessagePack encoding: writes the shortest forms, reads all; no extension types.
 *
 * @module
 */

import { Code } from '../codes.js';
import { Counter, GENEROUS, WireError, fromUtf8, put } from './value.js';

/** @typedef {import('./value.js').Value} Value */

const TEXT = new TextEncoder();

/**
 * @param {Value} value
 * @returns {Uint8Array}
 */
export function encode(value) {
  const writer = new Writer();
  writer.value(value);
  return writer.done();
}

/**
 * Returns the head of a list of so many values, which are to follow.
 *
 * @param {number} length
 */
export function listHead(length) {
  const writer = new Writer();
  writer.head(length, 0x90, 16, [0xdc, 0xdd]);
  return writer.done();
}

class Writer {
  constructor() {
    this.bytes = new Uint8Array(256);
    this.view = new DataView(this.bytes.buffer);
    this.at = 0;
  }

  done() {
    return this.bytes.slice(0, this.at);
  }

  /** @param {number} n bytes that are to be written */
  room(n) {
    const at = this.at;
    this.at += n;
    if (this.at > this.bytes.length) {
      const larger = new Uint8Array(Math.max(this.at, this.bytes.length * 2));
      larger.set(this.bytes);
      this.bytes = larger;
      this.view = new DataView(larger.buffer);
    }
    return at;
  }

  /** @param {number} byte */
  byte(byte) {
    const at = this.room(1);
    this.bytes[at] = byte;
  }

  /**
   * @param {number} marker
   * @param {1 | 2 | 4} width
   * @param {number} n unsigned
   */
  unsigned(marker, width, n) {
    const at = this.room(1 + width);
    this.view.setUint8(at, marker);
    if (width === 1) this.view.setUint8(at + 1, n);
    else if (width === 2) this.view.setUint16(at + 1, n);
    else this.view.setUint32(at + 1, n);
  }

  /**
   * The head of a text, list or map.
   *
   * @param {number} length
   * @param {number} short marker of the short form
   * @param {number} below which length the short form does
   * @param {number[]} markers of the longer forms, the last with 4 bytes
   */
  head(length, short, below, markers) {
    if (length < below) return this.byte(short | length);
    const eight = markers.length === 3 ? markers[0] : undefined;
    const [sixteen, thirtyTwo] = markers.slice(-2);
    if (eight !== undefined && length < 256) return this.unsigned(eight, 1, length);
    if (length < 65536) return this.unsigned(sixteen, 2, length);
    return this.unsigned(thirtyTwo, 4, length);
  }

  /** @param {Uint8Array} bytes */
  raw(bytes) {
    const at = this.room(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** @param {string} text */
  text(text) {
    const bytes = TEXT.encode(text);
    this.head(bytes.length, 0xa0, 32, [0xd9, 0xda, 0xdb]);
    this.raw(bytes);
  }

  /** @param {number} n */
  number(n) {
    if (!Number.isSafeInteger(n)) {
      const at = this.room(9);
      this.view.setUint8(at, 0xcb);
      return this.view.setFloat64(at + 1, n);
    }
    if (n >= 0) {
      if (n < 128) return this.byte(n);
      if (n < 256) return this.unsigned(0xcc, 1, n);
      if (n < 65536) return this.unsigned(0xcd, 2, n);
      if (n < 2 ** 32) return this.unsigned(0xce, 4, n);
      return this.wide(0xcf, n);
    }
    if (n >= -32) return this.byte(n & 0xff);
    if (n >= -128) return this.unsigned(0xd0, 1, n & 0xff);
    if (n >= -32768) return this.unsigned(0xd1, 2, n & 0xffff);
    if (n >= -(2 ** 31)) return this.unsigned(0xd2, 4, n >>> 0);
    return this.wide(0xd3, n);
  }

  /**
   * @param {number} marker
   * @param {number} n
   */
  wide(marker, n) {
    const at = this.room(9);
    this.view.setUint8(at, marker);
    this.view.setBigInt64(at + 1, BigInt(n));
  }

  /** @param {Value} value */
  value(value) {
    if (value === null) return this.byte(0xc0);
    if (typeof value === 'boolean') return this.byte(value ? 0xc3 : 0xc2);
    if (typeof value === 'number') return this.number(value);
    if (typeof value === 'string') return this.text(value);
    if (value instanceof Uint8Array) {
      this.head(value.length, 0, 0, [0xc4, 0xc5, 0xc6]);
      return this.raw(value);
    }
    if (Array.isArray(value)) {
      this.head(value.length, 0x90, 16, [0xdc, 0xdd]);
      return value.forEach((item) => this.value(item));
    }
    const members = Object.entries(value).filter(([, item]) => item !== undefined);
    this.head(members.length, 0x80, 16, [0xde, 0xdf]);
    for (const [key, item] of members) {
      this.text(key);
      this.value(item);
    }
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {import('./value.js').Limits} [limits]
 * @returns {Value}
 * @throws {WireError}
 */
export function decode(bytes, limits = GENEROUS) {
  if (bytes.length > limits.bytes) throw new WireError('too large', Code.TooLarge);
  const reader = new Reader(bytes, limits);
  const value = reader.value(1);
  if (reader.at < bytes.length) throw new WireError('broken MessagePack: bytes follow the value');
  return value;
}

class Reader extends Counter {
  /**
   * @param {Uint8Array} bytes
   * @param {import('./value.js').Limits} limits
   */
  constructor(bytes, limits) {
    super(limits);
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  /** @param {number} n bytes that are to be read */
  take(n) {
    const at = this.at;
    if (n > this.bytes.length - at) throw new WireError('broken MessagePack: cut off');
    this.at += n;
    return at;
  }

  /** @param {number} width of an unsigned number: 1, 2 or 4 bytes */
  length(width) {
    const at = this.take(width);
    return width === 1 ? this.view.getUint8(at) : width === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  /** @param {number} length in bytes */
  text(length) {
    const at = this.take(length);
    return fromUtf8(this.bytes.subarray(at, at + length));
  }

  /** @param {number} length in bytes */
  binary(length) {
    // Counts as its JSON form: a map with a text in it.
    this.count();
    const at = this.take(length);
    // A copy: a slice would keep the whole message in memory.
    return this.bytes.slice(at, at + length);
  }

  /** @param {bigint} n */
  wide(n) {
    const number = Number(n);
    if (!Number.isSafeInteger(number)) throw new WireError('an integer out of range');
    return number;
  }

  /** @param {number} n */
  float(n) {
    if (!Number.isFinite(n)) throw new WireError('a number is not finite');
    return n === 0 ? 0 : n;
  }

  /**
   * @param {number} depth that a list or map here has
   * @returns {Value}
   */
  value(depth) {
    this.count();
    const marker = this.view.getUint8(this.take(1));
    if (marker < 0x80) return marker;
    if (marker < 0x90) return this.map(marker & 0x0f, depth);
    if (marker < 0xa0) return this.list(marker & 0x0f, depth);
    if (marker < 0xc0) return this.text(marker & 0x1f);
    if (marker >= 0xe0) return marker - 256;
    return this.long(marker, depth);
  }

  /**
   * @param {number} marker 0xc0 to 0xdf
   * @param {number} depth
   * @returns {Value}
   */
  long(marker, depth) {
    switch (marker) {
      case 0xc0:
        return null;
      case 0xc2:
      case 0xc3:
        return marker === 0xc3;
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return this.binary(this.length(1 << (marker - 0xc4)));
      case 0xca:
        return this.float(this.view.getFloat32(this.take(4)));
      case 0xcb:
        return this.float(this.view.getFloat64(this.take(8)));
      case 0xcc:
      case 0xcd:
      case 0xce:
        return this.length(1 << (marker - 0xcc));
      case 0xcf:
        return this.wide(this.view.getBigUint64(this.take(8)));
      case 0xd0:
        return this.view.getInt8(this.take(1));
      case 0xd1:
        return this.view.getInt16(this.take(2));
      case 0xd2:
        return this.view.getInt32(this.take(4));
      case 0xd3:
        return this.wide(this.view.getBigInt64(this.take(8)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return this.text(this.length(1 << (marker - 0xd9)));
      case 0xdc:
      case 0xdd:
        return this.list(this.length(2 << (marker - 0xdc)), depth);
      case 0xde:
      case 0xdf:
        return this.map(this.length(2 << (marker - 0xde)), depth);
      default:
        throw new WireError('an extension type, or not MessagePack');
    }
  }

  /**
   * @param {number} claimed number of values or members
   * @param {number} depth
   */
  open(claimed, depth) {
    this.enter(depth);
    if (claimed > this.left) throw new WireError('too many values', Code.TooMany);
  }

  /**
   * @param {number} length
   * @param {number} depth
   */
  list(length, depth) {
    this.open(length, depth);
    /** @type {Value[]} */
    const list = [];
    for (let n = 0; n < length; n++) list.push(this.value(depth + 1));
    return list;
  }

  /**
   * @param {number} length
   * @param {number} depth
   */
  map(length, depth) {
    this.open(length, depth);
    /** @type {{[key: string]: Value}} */
    const map = {};
    for (let n = 0; n < length; n++) {
      const key = this.key();
      if (Object.hasOwn(map, key)) throw new WireError('a key twice');
      put(map, key, this.value(depth + 1));
    }
    return map;
  }

  key() {
    const marker = this.view.getUint8(this.take(1));
    if (marker >= 0xa0 && marker < 0xc0) return this.text(marker & 0x1f);
    if (marker >= 0xd9 && marker <= 0xdb) return this.text(this.length(1 << (marker - 0xd9)));
    throw new WireError('a key is not a text');
  }
}

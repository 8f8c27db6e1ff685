/**
 * The JSON encoding. `JSON.parse` does not suffice: it accepts duplicate keys, lone surrogates, and
 * integers out of range.
 *
 * @module
 */

import { Code } from '../codes.js';
import { decodeBase64, encodeBase64 } from './base64.js';
import { Counter, GENEROUS, WireError, isWellFormed, put } from './value.js';

/** @typedef {import('./value.js').Value} Value */

const SPACE = /[ \t\n\r]*/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?/y;

/**
 * @param {Value} value
 * @returns {string}
 */
export function encode(value) {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'number') return encodeNumber(value);
  if (value === null || typeof value === 'boolean') return String(value);
  if (value instanceof Uint8Array) return `{"$bytes":"${encodeBase64(value)}"}`;
  if (Array.isArray(value)) return `[${value.map(encode).join(',')}]`;
  const members = [];
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    members.push(`${JSON.stringify(key.startsWith('$') ? `$${key}` : key)}:${encode(item)}`);
  }
  return `{${members.join(',')}}`;
}

/** @param {number} n */
function encodeNumber(n) {
  const text = String(n);
  // A float beyond the range of integers must not look like one.
  return Number.isSafeInteger(n) || /[.e]/.test(text) ? text : `${text}.0`;
}

/**
 * @param {string} text
 * @param {import('./value.js').Limits} [limits]
 * @returns {Value}
 * @throws {WireError}
 */
export function decode(text, limits = GENEROUS) {
  if (text.length > limits.bytes) throw new WireError('too large', Code.TooLarge);
  const parser = new Parser(text, limits);
  const value = parser.value(1);
  parser.space();
  if (parser.at < text.length) throw parser.broken('something follows');
  return value;
}

class Parser extends Counter {
  /**
   * @param {string} text
   * @param {import('./value.js').Limits} limits
   */
  constructor(text, limits) {
    super(limits);
    this.text = text;
    this.at = 0;
  }

  /** @param {string} what */
  broken(what) {
    return new WireError(`broken JSON at ${this.at}: ${what}`);
  }

  /** @param {RegExp} pattern sticky */
  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found) this.at = pattern.lastIndex;
    return found;
  }

  space() {
    // Most messages have no white space.
    if (this.text.charCodeAt(this.at) <= 0x20) this.match(SPACE);
  }

  /** @param {string} token */
  skip(token) {
    if (!this.text.startsWith(token, this.at)) return false;
    this.at += token.length;
    return true;
  }

  /**
   * @param {number} depth that a list or map here has
   * @returns {Value}
   */
  value(depth) {
    this.space();
    switch (this.text[this.at]) {
      case '{':
        return this.map(depth);
      case '[':
        return this.list(depth);
      case '"':
        this.count();
        return this.string();
      default:
        this.count();
        return this.scalar();
    }
  }

  scalar() {
    if (this.skip('null')) return null;
    if (this.skip('true')) return true;
    if (this.skip('false')) return false;
    const found = this.match(NUMBER);
    if (!found) throw this.broken('no value');
    const number = Number(found[0]);
    if (!Number.isFinite(number)) throw this.broken('a number out of range');
    const literal = found[1] === undefined && found[2] === undefined;
    if (literal && !Number.isSafeInteger(number)) throw this.broken('an integer out of range');
    return number === 0 ? 0 : number;
  }

  string() {
    const start = this.at;
    this.at += 1;
    this.match(PLAIN);
    let text;
    if (this.skip('"')) {
      text = this.text.slice(start + 1, this.at - 1);
    } else {
      this.at = start;
      const found = this.match(STRING);
      if (!found) throw this.broken('a broken text');
      text = /** @type {string} */ (JSON.parse(found[0]));
    }
    if (!isWellFormed(text)) throw this.broken('a lone surrogate');
    return text;
  }

  /** @param {number} depth */
  list(depth) {
    this.enter(depth);
    this.count();
    this.at += 1;
    /** @type {Value[]} */
    const list = [];
    this.space();
    if (this.skip(']')) return list;
    for (;;) {
      list.push(this.value(depth + 1));
      this.space();
      if (this.skip(']')) return list;
      if (!this.skip(',')) throw this.broken('no comma');
    }
  }

  /**
   * @param {number} depth
   * @returns {Value}
   */
  map(depth) {
    this.enter(depth);
    this.count();
    this.at += 1;
    /** @type {{[key: string]: Value}} */
    const map = {};
    this.space();
    if (this.skip('}')) return map;
    for (let first = true; ; first = false) {
      this.space();
      if (this.text[this.at] !== '"') throw this.broken('no key');
      const key = this.string();
      this.space();
      if (!this.skip(':')) throw this.broken('no colon');
      if (key === '$bytes') return this.bytes(first);
      const name = unescaped(key);
      if (name === undefined) throw this.broken('a lone $ before a key');
      if (Object.hasOwn(map, name)) throw this.broken('a key twice');
      put(map, name, this.value(depth + 1));
      this.space();
      if (this.skip('}')) return map;
      if (!this.skip(',')) throw this.broken('no comma');
    }
  }

  /**
   * The rest of `{"$bytes":"…"}`.
   *
   * @param {boolean} alone whether no other member came before
   */
  bytes(alone) {
    this.space();
    if (!alone || this.text[this.at] !== '"') throw this.broken('bad $bytes');
    this.count();
    const bytes = decodeBase64(this.string());
    this.space();
    if (bytes === undefined || !this.skip('}')) throw this.broken('bad $bytes');
    return bytes;
  }
}

/**
 * @param {string} key
 * @returns {string | undefined} undefined if it has one `$` where it needs two
 */
function unescaped(key) {
  if (!key.startsWith('$')) return key;
  return key.startsWith('$$') ? key.slice(1) : undefined;
}

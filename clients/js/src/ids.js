/**
 * Ids and other texts of a fixed form. See wire/SPEC.md, "Ids and other texts".
 *
 * @module
 */

import { ImError } from './error.js';
import { isWellFormed, utf8Length } from './wire/value.js';

/** Matches white space, controls and invisible characters. */
const INVISIBLE = /[\p{White_Space}\p{Cc}\p{Default_Ignorable_Code_Point}\u2800\ufff9-\ufffb]/u;
const TOKEN = /^[A-Za-z0-9\-_.~:]*$/;

/**
 * @typedef {'user' | 'device' | 'room' | 'state key' | 'message' | 'session' | 'event kind'} IdKind
 */

/** @type {Readonly<Record<IdKind, {min: number, max: number, visible: boolean}>>} */
const RULES = {
  user: { min: 1, max: 64, visible: true },
  device: { min: 1, max: 64, visible: true },
  room: { min: 1, max: 128, visible: true },
  'state key': { min: 1, max: 128, visible: true },
  message: { min: 16, max: 64, visible: false },
  session: { min: 1, max: 64, visible: false },
  'event kind': { min: 1, max: 32, visible: false },
};

/**
 * Whether a text may be an id of this kind.
 *
 * @param {IdKind} kind
 * @param {unknown} text
 */
export function isId(kind, text) {
  if (typeof text !== 'string' || !isWellFormed(text)) return false;
  const { min, max, visible } = RULES[kind];
  const bytes = utf8Length(text);
  return bytes >= min && bytes <= max && (visible ? !INVISIBLE.test(text) : TOKEN.test(text));
}

/**
 * @template {unknown} T
 * @param {IdKind} kind
 * @param {T} text
 * @returns {T}
 * @throws {ImError} `invalid`
 */
export function checkId(kind, text) {
  if (isId(kind, text)) return text;
  const { min, max, visible } = RULES[kind];
  const characters = visible ? 'visible characters' : 'characters A–Z a–z 0–9 - _ . ~ :';
  throw new ImError('invalid', `${JSON.stringify(text)} is not a ${kind} id: expected ${min} to ${max} bytes of ${characters}`);
}

/** Returns a new id with 128 random bits, for a device. */
export function randomId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/**
 * Returns a new message id: a UUIDv7 (RFC 9562, section 5.7). Servers store ids that begin with the
 * time faster.
 */
export function messageId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  new DataView(bytes.buffer).setUint16(0, Math.floor(now / 2 ** 32));
  new DataView(bytes.buffer).setUint32(2, now % 2 ** 32);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  return hex(bytes).replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

/**
 * Returns the id of the direct room of two users. Browsers compute it only on pages of https (or
 * localhost).
 *
 * @param {string} one
 * @param {string} other
 * @returns {Promise<string>}
 */
export async function directRoom(one, other) {
  const users = [one, other].map((user) => new TextEncoder().encode(checkId('user', user))).sort(byBytes);
  const input = new Uint8Array(users.reduce((sum, user) => sum + 4 + user.length, 0));
  let at = 0;
  for (const user of users) {
    new DataView(input.buffer).setUint32(at, user.length);
    input.set(user, at + 4);
    at += 4 + user.length;
  }
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', input));
  return `dm:${hex(hash.subarray(0, 20))}`;
}

/**
 * @param {Uint8Array} a
 * @param {Uint8Array} b
 */
function byBytes(a, b) {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i] !== b[i]) return a[i] - b[i];
  }
  return a.length - b.length;
}

/** @param {unknown} text */
export function isEpoch(text) {
  return typeof text === 'string' && /^(0|[1-9a-f][0-9a-f]{0,15})\.(0|[1-9a-f][0-9a-f]{0,15})$/.test(text);
}

/**
 * @param {unknown} text
 * @returns {[number, number, number] | undefined} undefined if it is not a stamp
 */
export function parseStamp(text) {
  if (typeof text !== 'string' || !/^(0|[1-9]\d*)-(0|[1-9]\d*)-(0|[1-9]\d*)$/.test(text)) return undefined;
  const [ms, counter, node] = text.split('-').map(Number);
  return Number.isSafeInteger(ms) && counter < 2 ** 32 && node < 2 ** 32 ? [ms, counter, node] : undefined;
}

/**
 * Orders stamps: below zero if `a` is the older one.
 *
 * @param {string} a
 * @param {string} b
 */
export function compareStamps(a, b) {
  const [one, other] = [parseStamp(a), parseStamp(b)];
  if (!one || !other) throw new ImError('protocol', 'no stamp');
  return one[0] - other[0] || one[1] - other[1] || one[2] - other[2];
}

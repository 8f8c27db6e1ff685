/**
 * Conversion between frames and messages.
 *
 * @module
 */

import { Code } from '../codes.js';
import * as json from './json.js';
import * as msgpack from './msgpack.js';
import { GENEROUS, WireError, utf8Length } from './value.js';

/**
 * @typedef {import('./value.js').Frame} Frame
 * @typedef {string | Uint8Array | Frame[]} Message one message of a link: one frame or several
 * @typedef {{data: string | Uint8Array | Frame, bytes: number}} Encoded one frame, and its size on
 *   the wire
 */

/**
 * @typedef {object} Codec
 * @property {string} name
 * @property {(frame: Frame) => Encoded} encode
 * @property {(frames: Encoded[]) => Message} join combines encoded frames, at least one, into one
 *   message
 */

/** @type {Codec} */
export const JSON_CODEC = {
  name: 'json',
  encode(frame) {
    const data = json.encode(frame);
    return { data, bytes: utf8Length(data) };
  },
  join: (frames) => (frames.length === 1 ? String(frames[0].data) : `[${frames.map((f) => f.data).join(',')}]`),
};

/** @type {Codec} */
export const MSGPACK_CODEC = {
  name: 'msgpack',
  encode(frame) {
    const data = msgpack.encode(frame);
    return { data, bytes: data.length };
  },
  join(frames) {
    const parts = frames.map((frame) => /** @type {Uint8Array} */ (frame.data));
    return parts.length === 1 ? parts[0] : concat([msgpack.listHead(parts.length), ...parts]);
  },
};

/**
 * Frames as they are, for channels between pages of one browser that clone what they carry.
 *
 * @type {Codec}
 */
export const CLONE_CODEC = {
  name: 'clone',
  encode: (frame) => ({ data: frame, bytes: 0 }),
  join: (frames) => frames.map((frame) => /** @type {Frame} */ (frame.data)),
};

/** @param {'json' | 'msgpack'} encoding */
export function codecOf(encoding) {
  return encoding === 'msgpack' ? MSGPACK_CODEC : JSON_CODEC;
}

/** @param {Uint8Array[]} parts */
function concat(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/**
 * The frames of a message: text is JSON, bytes are MessagePack, a list is what another page of this
 * browser sent.
 *
 * @param {Message} message
 * @param {import('./value.js').Limits} [limits]
 * @returns {Frame[]}
 * @throws {WireError}
 */
export function decodeMessage(message, limits = GENEROUS) {
  if (Array.isArray(message)) return message;
  const value = typeof message === 'string' ? json.decode(message, limits) : msgpack.decode(message, limits);
  const frames = Array.isArray(value) ? value : [value];
  if (frames.length === 0) throw new WireError('the batch is empty');
  if (frames.length > limits.batch) throw new WireError('too many frames', Code.TooMany);
  for (const frame of frames) {
    const isMap = typeof frame === 'object' && frame !== null && !Array.isArray(frame);
    if (!isMap || frame instanceof Uint8Array) throw new WireError('a batch member is not a frame');
  }
  return /** @type {Frame[]} */ (frames);
}

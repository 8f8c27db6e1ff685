/**
 * Validation of what a server sent, so that nothing invalid reaches the other modules.
 *
 * @module
 */

import { parseStamp } from '../ids.js';
import { WireError } from '../wire/value.js';

/** @typedef {import('../wire/value.js').Frame} Frame */

/** @typedef {(value: any) => boolean} Check */

/** @type {Check} */
const text = (value) => typeof value === 'string';
/** @type {Check} */
const count = (value) => Number.isSafeInteger(value) && value >= 0;
/** @type {Check} */
const flag = (value) => typeof value === 'boolean';
/** @type {Check} */
const list = (value) => Array.isArray(value);
/** @type {Check} */
const map = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);
/** @type {Check} */
const any = () => true;
/** @type {Check} */
const stamp = (value) => parseStamp(value) !== undefined;
/** @type {(inner: Check) => Check} */
const perhaps = (inner) => (value) => value === undefined || value === null || inner(value);
/** @type {(inner: Check) => Check} */
const every = (inner) => (value) => Array.isArray(value) && value.every(inner);
/** @type {(fields: Record<string, Check>) => Check} */
const shape = (fields) => (value) => map(value) && wrongField(value, fields) === undefined;

const APPEND_ACK = { room: text, epoch: text, seq: count, at: count, duplicate: flag };
const STATUS = { room: text, status: text, epoch: perhaps(text), cursor: perhaps(count), code: perhaps(count) };
const POSITION = { room: text, epoch: text, seq: count };
const EVENT = { ...POSITION, from: text, at: count, kind: text, mid: perhaps(text), content: present };
const ENTRY = { key: text, stamp, from: text };

/** @type {Record<string, Record<string, Check>>} */
const PUSHES = {
  event: EVENT,
  signal: { room: perhaps(text), to: perhaps(text), from: text, at: count, kind: text, content: present },
  state: { room: text, ...ENTRY },
  snapshot: { room: text, gen: text, entries: every(shape(ENTRY)), more: flag },
  room: STATUS,
  disconnect: { code: count, msg: perhaps(text), retry_ms: perhaps(count) },
};

const ROOMS = { rooms: every(shape(STATUS)), rev: count, gen: text };

/** @type {Record<string, Record<string, Check>>} */
const REPLIES = {
  hello: { session: text, secret: text, user: text, device: text, resumed: flag, idle_ms: count, limits: map,
    expires: perhaps(count) },
  refresh: { expires: perhaps(count) },
  ping: { now: count },
  sessions: { sessions: list },
  ticket: { ticket: text, within_ms: count },
  create: APPEND_ACK,
  join: APPEND_ACK,
  leave: APPEND_ACK,
  member: APPEND_ACK,
  send: APPEND_ACK,
  members: { members: list, more: flag },
  rooms: { list, more: flag },
  subscribe: ROOMS,
  resume: ROOMS,
  unsubscribe: { rev: count },
  checkpoint: { rev: count },
  put_state: { stamp },
  remove_state: { stamp },
  history: { epoch: text, head: count, first: any, events: every(shape(EVENT)), more: flag },
};

/** @type {Check} */
function present(value) {
  return value !== undefined;
}

/**
 * @param {Frame} frame
 * @param {Record<string, Check>} fields
 */
function wrongField(frame, fields) {
  return Object.keys(fields).find((name) => !fields[name](frame[name]));
}

/**
 * @param {Frame} frame
 * @returns {boolean} false for an unknown kind, which is to be ignored
 * @throws {WireError} if a field is missing or invalid
 */
export function checkPush(frame) {
  const fields = Object.hasOwn(PUSHES, frame.t) ? PUSHES[frame.t] : undefined;
  if (fields) check(frame, fields, `push ${frame.t}`);
  return fields !== undefined;
}

/**
 * @param {string} command the kind of the command that is answered
 * @param {Frame} frame
 * @throws {WireError}
 */
export function checkReply(command, frame) {
  check(frame, REPLIES[command] ?? {}, `answer to ${command}`);
}

/**
 * @param {Frame} frame
 * @param {Record<string, Check>} fields
 * @param {string} what
 */
function check(frame, fields, what) {
  const wrong = wrongField(frame, fields);
  if (wrong !== undefined) throw new WireError(`the server's ${what} has no valid field ${wrong}`);
}

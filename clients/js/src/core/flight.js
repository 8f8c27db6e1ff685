/**
 * Commands from the moment they are asked until they are answered, across connections.
 *
 * Sends to one target keep their order, also where one of them is refused retryably. Then no more is written to
 * that target until those under way have their answers and the pause is over; what has no ack is then written again, in
 * its order and without waiting in between. Servers refuse, until the first of them comes again, what was under way behind
 * it.
 *
 * @module
 */

import { Code } from '../codes.js';
import { ImError } from '../error.js';
import { measure } from '../wire/value.js';
import { Pace } from './pace.js';

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../wire/codec.js').Codec} Codec
 * @typedef {import('../wire/codec.js').Encoded} Encoded
 */

/**
 * Who wants to know the answer: the application, or the client itself to greet, to subscribe to rooms again, to repair a gap in
 * `room`, to tell how far rooms have arrived, to hear whether the server is still there, to show a new token.
 *
 * @typedef {'user' | 'hello' | 'resume' | 'gapRepair' | 'checkpoint' | 'ping' | 'refresh'} Origin
 */

/**
 * A command that has no answer yet.
 *
 * @typedef {object} Pending
 * @property {Frame} body without its number
 * @property {Origin} origin
 * @property {number} tries how often it was tried again because the server said so
 * @property {import('./pace.js').Flown | undefined} written the message with which it was written on this connection
 */

/**
 * Why nothing is written to a target now: the first send that was refused, and until when.
 *
 * @typedef {{by: number, until: number, paced: boolean}} Held
 */

/**
 * Frames to write as one message. `idempotent`: whether all of it may be carried out twice without harm.
 *
 * @typedef {{frames: Encoded[], bytes: number, idempotent: boolean}} Batch
 */

/**
 * What the server allows.
 *
 * @typedef {{message_bytes: number, content_bytes: number, batch: number, in_flight: number, page: number, rooms: number,
 *   depth: number, values: number}} ServerLimits
 */

/** All commands without an answer, in the order in which they were asked. */
export class Flight {
  /** @param {number} slowest bytes per second of the slowest uplink that is not taken for a dead one */
  constructor(slowest) {
    this.slowest = slowest;
    this.pace = new Pace(slowest);
    this.next = 1;
    /** @type {Map<number, Pending>} By number, ascending. */
    this.pending = new Map();
    /** @type {Map<string, Held>} By target. */
    this.held = new Map();
  }

  /**
   * Adds a command. It is written with the next batch.
   *
   * @param {Frame} body
   * @param {Origin} origin
   */
  push(body, origin) {
    const id = this.next;
    this.next += 1;
    this.pending.set(id, { body, origin, tries: 0, written: undefined });
    return id;
  }

  /**
   * Adds a command that is written at once, out of turn.
   *
   * @param {number} now
   * @param {Frame} body
   * @param {Origin} origin
   * @param {Codec} codec
   * @returns {[number, Encoded]}
   */
  write(now, body, origin, codec) {
    const id = this.push(body, origin);
    const pending = /** @type {Pending} */ (this.pending.get(id));
    const frame = encode(id, pending, codec);
    pending.written = this.pace.wrote(now, frame.bytes);
    return [id, frame];
  }

  /**
   * The command was answered, so that it has arrived.
   *
   * @param {number} now
   * @param {number} id
   */
  arrived(now, id) {
    const written = this.pending.get(id)?.written;
    if (written) this.pace.acked(now, written);
  }

  /**
   * The command was answered for good.
   *
   * @param {number} id
   */
  settle(id) {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    return pending;
  }

  /**
   * A send was refused for now. It keeps its number, and so its turn, and nothing is written to its target before `at`; if an
   * earlier one was refused as well, that one's pause counts. If that was `paced`, refused for the rate, the longest pause counts:
   * the pauses of those behind it cover all of them.
   *
   * @param {number} id
   * @param {number} at when to try again
   * @param {boolean} [paced]
   */
  retry(id, at, paced = false) {
    const pending = this.pending.get(id);
    const target = pending && targetOf(pending.body);
    if (!target) return;
    pending.written = undefined;
    const held = this.held.get(target);
    if (!held || held.by >= id) this.held.set(target, { by: id, until: at, paced });
    else if (held.paced) held.until = Math.max(held.until, at);
  }

  /**
   * The connection is gone. What can be repeated safely waits for the next one; the rest of the application's commands is
   * given back, and the client's own are forgotten: the next connection has its own.
   *
   * With `all`, the server closed because of something that was written: repeating it would only do it again. What would undo
   * a later command (`undoes`) is given back too.
   *
   * @param {boolean} all
   * @param {(body: Frame, id: number) => boolean} undoes
   * @returns {[number, Pending][]}
   */
  cut(all, undoes) {
    /** @type {[number, Pending][]} */
    const failed = [];
    for (const [id, pending] of this.pending) {
      if (pending.origin !== 'user') this.pending.delete(id);
      else if (pending.written && (all || !isIdempotent(pending.body) || undoes(pending.body, id))) {
        this.pending.delete(id);
        failed.push([id, pending]);
      } else pending.written = undefined;
    }
    this.held.clear();
    this.pace = new Pace(this.slowest);
    return failed;
  }

  /** All commands of the application, given back because the client ends. */
  end() {
    const all = [...this.pending].filter(([, { origin }]) => origin === 'user');
    this.pending.clear();
    this.held.clear();
    return all;
  }

  /** Whether the connection could be given up now without an outcome being unknown. */
  isSafeToMove() {
    return this.every((pending) => !pending.written || pending.origin !== 'user' || isIdempotent(pending.body));
  }

  /** Whether it is not known what has become of a command that changes the session's checkpoint. */
  mayHaveMovedCheckpoint() {
    return !this.every(({ written, body }) => !written || !['subscribe', 'unsubscribe', 'resume', 'checkpoint'].includes(body.t));
  }

  /** @param {(pending: Pending) => boolean} test */
  every(test) {
    for (const pending of this.pending.values()) if (!test(pending)) return false;
    return true;
  }

  /**
   * The newest `subscribe` or `unsubscribe` for this room that has no answer yet.
   *
   * @param {string} room
   */
  subscribing(room) {
    /** @type {{id: number, t: string} | undefined} */
    let newest;
    for (const [id, { body }] of this.pending) if (subscribes(body) && body.room === room) newest = { id, t: body.t };
    return newest;
  }

  /** The number of the oldest command without an answer that names rooms to subscribe to or to leave. */
  oldestSubscribing() {
    for (const [id, { body }] of this.pending) if (subscribes(body) || body.t === 'resume') return id;
    return Infinity;
  }

  /** How many of the application's commands fulfil `test`. @param {(body: Frame) => boolean} test */
  count(test) {
    let n = 0;
    for (const { origin, body } of this.pending.values()) if (origin === 'user' && test(body)) n += 1;
    return n;
  }

  /** When something may be written to a target that is held and of which no answer is awaited. */
  deadline() {
    let next = Infinity;
    for (const [target, { until }] of this.held) {
      if (!this.isUnderWay(target)) next = Math.min(next, until);
    }
    return next;
  }

  /**
   * Whether no earlier send to the target of this one is without an answer.
   *
   * @param {number} id
   */
  isNext(id) {
    const pending = this.pending.get(id);
    const target = pending && targetOf(pending.body);
    for (const [earlier, { body }] of this.pending) {
      if (earlier >= id) break;
      if (targetOf(body) === target) return false;
    }
    return true;
  }

  /** @param {string} target */
  isUnderWay(target) {
    return !this.every(({ written, body }) => !written || targetOf(body) !== target);
  }

  /**
   * The next message to write, within what the server and the pace of its answers allow; undefined if there is nothing to
   * write now. Commands that can never be written land in `refused`.
   *
   * @param {number} now
   * @param {ServerLimits} limits
   * @param {Codec} codec
   * @param {[number, ImError][]} refused
   * @returns {Batch | undefined}
   */
  batch(now, limits, codec, refused) {
    this.releaseTargets(now);
    const most = Math.min(Math.max(1, limits.batch), Math.max(1, limits.in_flight) - this.countWritten());
    /** @type {Batch} */
    const batch = { frames: [], bytes: 2, idempotent: true };
    /** @type {Pending[]} */
    const members = [];
    let values = 1;
    for (const [id, pending] of this.pending) {
      if (members.length >= most) break;
      if (pending.written || this.held.has(targetOf(pending.body) ?? '')) continue;
      const weight = measure(pending.body).values + 2;
      const frame = encode(id, pending, codec);
      if (frame.bytes > limits.message_bytes) {
        this.pending.delete(id);
        refused.push([id, tooLarge(frame.bytes, limits.message_bytes)]);
        continue;
      }
      const fits = batch.bytes + frame.bytes + 5 <= limits.message_bytes && values + weight <= limits.values;
      if (!fits && members.length > 0) break;
      if (!this.pace.fits(batch.bytes + frame.bytes) && (members.length > 0 || this.pace.underWay > 0)) break;
      members.push(pending);
      batch.frames.push(frame);
      batch.bytes += frame.bytes + 1;
      batch.idempotent &&= isIdempotent(pending.body);
      values += weight;
    }
    if (members.length === 0) return undefined;
    const written = this.pace.wrote(now, batch.frames.reduce((sum, { bytes }) => sum + bytes, 0));
    for (const pending of members) pending.written = written;
    return batch;
  }

  /** Targets whose pause is over, and to which nothing is under way any more, take sends again. @param {number} now */
  releaseTargets(now) {
    for (const [target, { until }] of this.held) {
      if (until <= now && !this.isUnderWay(target)) this.held.delete(target);
    }
  }

  countWritten() {
    let written = 0;
    for (const pending of this.pending.values()) if (pending.written) written += 1;
    return written;
  }
}

/**
 * @param {number} id
 * @param {Pending} pending
 * @param {Codec} codec
 */
function encode(id, { body }, codec) {
  const { t, ...fields } = body;
  return codec.encode({ t, id, ...fields });
}

/**
 * Where the order of sends matters.
 *
 * @param {Frame} body
 */
function targetOf({ t, room, peer, to }) {
  return t === 'send' ? JSON.stringify([room, peer, to]) : undefined;
}

/**
 * Whether a command decides if a room is subscribed to.
 *
 * @param {Frame} body
 */
function subscribes({ t }) {
  return t === 'subscribe' || t === 'unsubscribe';
}

/**
 * @param {number} bytes
 * @param {number} max
 */
function tooLarge(bytes, max) {
  const message = `the command has ${bytes} bytes; the server takes ${max} in one message`;
  return new ImError('invalid', message, { code: Code.TooLarge });
}

/**
 * Whether a command may be carried out twice without harm, if it is not known whether it was carried out once.
 *
 * @param {Frame} body
 */
export function isIdempotent(body) {
  switch (body.t) {
    // The application decides: a refusal of the second says nothing about the first, and the room may be gone by then.
    case 'create':
    // At most once.
    case 'signal':
      return false;
    // Without a stamp of its own it would be newer the second time than what others have set since.
    case 'put_state':
    case 'remove_state':
      return body.stamp !== undefined;
    // The message id makes a send safe.
    default:
      return true;
  }
}

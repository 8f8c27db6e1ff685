/**
 * Commands until they are answered, across connections.
 *
 * Sends to one target keep their order, also when one of them is refused retryably. Then nothing
 * more is written to that target until those in flight are answered and the pause is over. Sends
 * without an ack are then written again, in order and without waiting in between. Until the first
 * of them is retried, servers refuse the sends behind it.
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
 * The origin of a command, which gets the answer: the application, or the client itself, to greet,
 * to resume subscriptions, to repair a gap in `room`, to send a checkpoint or a heartbeat, or to
 * send a new token.
 *
 * @typedef {'user' | 'hello' | 'resume' | 'gapRepair' | 'checkpoint' | 'ping' | 'refresh'} Origin
 */

/**
 * An unanswered command.
 *
 * @typedef {object} Pending
 * @property {Frame} body without its number
 * @property {Origin} origin
 * @property {number} tries how often it was retried after a retryable refusal
 * @property {import('./pace.js').Flown | undefined} written the message that contained it on this
 *   connection
 */

/**
 * Why nothing is written to a target at present: the first send that was refused, and until when.
 *
 * @typedef {{by: number, until: number, paced: boolean}} Held
 */

/**
 * Frames to write as one message. `idempotent`: whether all of them can be carried out twice
 * without harm.
 *
 * @typedef {{frames: Encoded[], bytes: number, idempotent: boolean}} Batch
 */

/**
 * The server's limits.
 *
 * @typedef {{message_bytes: number, content_bytes: number, batch: number, in_flight: number, page:
 *   number, rooms: number, depth: number, values: number}} ServerLimits
 */

/** All unanswered commands, in the order of the calls. */
export class Flight {
  /** @param {number} slowest bytes per second of the slowest uplink that does not count as dead */
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
   * Records that the command was answered, and so has arrived.
   *
   * @param {number} now
   * @param {number} id
   */
  arrived(now, id) {
    const written = this.pending.get(id)?.written;
    if (written) this.pace.acked(now, written);
  }

  /**
   * Removes a command with a final answer.
   *
   * @param {number} id
   */
  settle(id) {
    const pending = this.pending.get(id);
    this.pending.delete(id);
    return pending;
  }

  /**
   * Puts back a send that was refused retryably. It keeps its number, and so its order, and nothing
   * is written to its target before `at`. If an earlier send is refused as well, its pause counts.
   * For refusals for the rate (`paced`) the longest pause counts: the pauses of later refusals
   * cover all of them.
   *
   * @param {number} id
   * @param {number} at when to retry
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
   * Handles the end of the connection. Idempotent commands wait for the next one; the other calls
   * of the application are returned, and the client's own commands are dropped: the next connection
   * has its own.
   *
   * With `all`, the server closed because of something that was written: a retry would close the
   * next connection too. Commands that would undo a later one (`undoes`) are returned too.
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

  /** Returns all commands of the application, because the client ends. */
  end() {
    const all = [...this.pending].filter(([, { origin }]) => origin === 'user');
    this.pending.clear();
    this.held.clear();
    return all;
  }

  /** Whether the connection could be dropped now without an unknown outcome. */
  isSafeToMove() {
    return this.every((pending) => !pending.written || pending.origin !== 'user' || isIdempotent(pending.body));
  }

  /** Whether the outcome of a command that changes the session's checkpoint is unknown. */
  mayHaveMovedCheckpoint() {
    return !this.every(({ written, body }) => !written || !['subscribe', 'unsubscribe', 'resume', 'checkpoint'].includes(body.t));
  }

  /** @param {(pending: Pending) => boolean} test */
  every(test) {
    for (const pending of this.pending.values()) if (!test(pending)) return false;
    return true;
  }

  /**
   * Returns the newest unanswered `subscribe` or `unsubscribe` for this room.
   *
   * @param {string} room
   */
  subscribing(room) {
    /** @type {{id: number, t: string} | undefined} */
    let newest;
    for (const [id, { body }] of this.pending) if (subscribes(body) && body.room === room) newest = { id, t: body.t };
    return newest;
  }

  /** The number of the oldest unanswered command that subscribes to or unsubscribes from rooms. */
  oldestSubscribing() {
    for (const [id, { body }] of this.pending) if (subscribes(body) || body.t === 'resume') return id;
    return Infinity;
  }

  /**
   * Returns how many of the application's commands fulfil `test`.
   * @param {(body: Frame) => boolean} test
   */
  count(test) {
    let n = 0;
    for (const { origin, body } of this.pending.values()) if (origin === 'user' && test(body)) n += 1;
    return n;
  }

  /** Returns when a held target with no unanswered writes may be written to. */
  deadline() {
    let next = Infinity;
    for (const [target, { until }] of this.held) {
      if (!this.isUnderWay(target)) next = Math.min(next, until);
    }
    return next;
  }

  /**
   * Whether all earlier sends to this send's target are answered.
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
   * Returns the next message to write, within the server's limits and the pace; undefined if there
   * is nothing to write now. Commands that can never be written are added to `refused`.
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

  /**
   * Releases targets whose pause is over and that have no unanswered writes.
   * @param {number} now
   */
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
 * The target of a send; the order of sends to it matters.
 *
 * @param {Frame} body
 */
function targetOf({ t, room, peer, to }) {
  return t === 'send' ? JSON.stringify([room, peer, to]) : undefined;
}

/**
 * Whether a command changes a room's subscription.
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
  const message = `the command has ${bytes} bytes; the server's limit for a message is ${max}`;
  return new ImError('invalid', message, { code: Code.TooLarge });
}

/**
 * Whether a command can be carried out twice without harm.
 *
 * @param {Frame} body
 */
export function isIdempotent(body) {
  switch (body.t) {
    // The application decides: a refusal of the retry says nothing about the first try, and the
    // room may be deleted by then.
    case 'create':
    // Ephemeral messages are delivered at most once.
    case 'signal':
      return false;
    // Without its own stamp, a retry would be newer than values that others have put since.
    case 'put_state':
    case 'remove_state':
      return body.stamp !== undefined;
    // The idempotency key makes a send safe.
    default:
      return true;
  }
}

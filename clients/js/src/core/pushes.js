/**
 * Pushes of the server.
 *
 * @module
 */

import { meaning } from '../codes.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * Pushes of rooms whose `subscribe` or `resume` is unanswered, on links where pushes and answers
 * are separate. They wait for the answer: before it they may belong to this subscription or to an
 * earlier one.
 *
 * If one had to be dropped, the room's missing events are requested after the answer.
 */
export class EarlyPushes {
  /** @param {number} most pushes that wait, of all rooms together */
  constructor(most) {
    this.most = most;
    /** @type {Map<string, {frames: Frame[], isCut: boolean}>} By room. */
    this.rooms = new Map();
    this.count = 0;
  }

  /** @param {Frame} frame */
  add(frame) {
    const held = this.rooms.get(frame.room) ?? { frames: [], isCut: false };
    this.rooms.set(frame.room, held);
    if (this.count >= this.most) held.isCut = true;
    if (held.isCut) return;
    held.frames.push(frame);
    this.count += 1;
  }

  /**
   * Removes and returns the waiting pushes of a room.
   *
   * @param {string} room
   */
  take(room) {
    const held = this.rooms.get(room) ?? { frames: [], isCut: false };
    this.rooms.delete(room);
    this.count -= held.frames.length;
    return held;
  }

  /** The connection has ended. */
  clear() {
    this.rooms.clear();
    this.count = 0;
  }
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
export function onPush(machine, now, frame) {
  const { rooms, events } = machine;
  const { t, ...fields } = frame;
  if (isEarly(machine, frame)) return machine.early.add(frame);
  switch (t) {
    case 'event': {
      const event = /** @type {import('./rooms.js').RoomEvent} */ (fields);
      if (rooms.take(now, event)) events.push({ type: 'event', event });
      return;
    }
    case 'signal':
      return void events.push({ type: 'signal', signal: fields });
    case 'state': {
      const update = /** @type {import('./latest.js').StateUpdate} */ (fields);
      const room = rooms.map.get(frame.room);
      if (room) events.push({ type: room.state.update(update) ? 'state' : 'stale', update });
      return;
    }
    case 'snapshot': {
      const updates = frame.entries.map((/** @type {Frame} */ entry) => ({ room: frame.room, ...entry }));
      const entries = rooms.map.get(frame.room)?.state.snapshot(frame.gen, updates, frame.more);
      if (entries) events.push({ type: 'snapshot', room: frame.room, entries });
      return;
    }
    case 'room': {
      const status = /** @type {import('./rooms.js').RoomStatus} */ (fields);
      if (rooms.moves(now, status)) events.push({ type: 'room', status });
      return;
    }
    case 'disconnect':
      return machine.drop(now, { code: frame.code, message: frame.msg ?? meaning(frame.code), retryMs: frame.retry_ms });
  }
}

/**
 * Whether a push may belong to an unanswered subscription.
 *
 * @param {Machine} machine
 * @param {Frame} frame
 */
function isEarly({ traits, rooms, flight, decisions }, { t, room }) {
  if (traits?.duplex || t === 'signal' || room === undefined) return false;
  return rooms.map.get(room)?.asked !== undefined || flight.pending.get(decisions.newest(room))?.body.t === 'subscribe';
}

/**
 * Applies waiting pushes once no answer is due before them any more.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {boolean} isDone whether the awaited command was carried out
 */
export function releaseEarly(machine, now, isDone) {
  const { early, rooms } = machine;
  for (const room of [...early.rooms.keys()]) {
    if (isEarly(machine, { t: 'room', room })) continue;
    const { frames, isCut } = early.take(room);
    // A subscription begins with its status: earlier events are of the previous one, and
    // redelivered if still missing.
    const begin = isDone ? frames.findIndex(({ t }) => t === 'room') : -1;
    frames.forEach((frame, at) => (frame.t === 'event' && at < begin) || onPush(machine, now, frame));
    if (isCut) rooms.map.get(room)?.missed(now);
  }
}

/**
 * The subscribed rooms and their cursors.
 *
 * @module
 */

import { SubscribedRoom } from './subscribed-room.js';
import { RoomState } from './latest.js';

/**
 * @typedef {{epoch: string, seq: number}} Cursor the last event that a subscriber has
 * @typedef {{room: string, status: string, epoch?: string, cursor?: number, head?: number, code?: number}}
 *   RoomStatus
 * @typedef {{room: string, epoch: string, seq: number, from: string, at: number, kind: string,
 *   mid?: string, content: import('../wire/value.js').Value}} RoomEvent
 */

/** Cursors in one frame: together with the longest ids they fit into any server's message. */
const CURSORS_PER_FRAME = 150;

/** All subscribed rooms. */
export class Rooms {
  constructor() {
    /** @type {Map<string, SubscribedRoom>} */
    this.map = new Map();
    /**
     * @type {number | undefined} The revision of the server's checkpoint, as far as it is known.
     */
    this.rev = undefined;
    /** Whether the session's checkpoint may contain rooms at all. */
    this.mayHold = false;
    /** Whether that checkpoint may still contain a room that was denied or unsubscribed since. */
    this.hasStray = false;
    /**
     * Rooms whose cursor may differ from the checkpoint's; all rooms, if that is not known.
     * @type {Set<string>}
     */
    this.moved = new Set();
    /** When the last checkpoint was sent. */
    this.checkpointedAt = 0;
    this.checkpointPending = false;
  }

  /** @param {string} room */
  cursor(room) {
    const held = this.map.get(room);
    return held && { ...held.cursor };
  }

  /**
   * Returns the cursors to name in a resume, in frames of bounded size: those that differ from the
   * checkpoint, or all if the checkpoint is not known.
   */
  toResume() {
    return this.frames(this.rev === undefined ? [...this.map.keys()] : [...this.moved]);
  }

  /**
   * The cursors of these rooms, in frames of bounded size.
   *
   * @param {string[]} rooms with a subscription
   */
  frames(rooms) {
    const frames = [];
    for (let at = 0; at < rooms.length; at += CURSORS_PER_FRAME) {
      frames.push(this.cursorsOf(rooms.slice(at, at + CURSORS_PER_FRAME)));
    }
    return frames;
  }

  /**
   * @param {string[]} rooms with a subscription
   * @returns {[string, string, number][]}
   */
  cursorsOf(rooms) {
    return rooms.flatMap((room) => {
      const cursor = this.map.get(room)?.cursor;
      return cursor ? [[room, cursor.epoch, cursor.seq]] : [];
    });
  }

  /**
   * Sets the revision of the server's checkpoint. Answers may arrive out of order.
   * @param {number} rev
   */
  learnRev(rev) {
    this.rev = Math.max(this.rev ?? 0, rev);
  }

  /** Drops all knowledge of the server's checkpoint. */
  dropCheckpoint() {
    this.rev = undefined;
    this.hasStray = false;
    this.moved = new Set(this.map.keys());
  }

  /**
   * Returns when a checkpoint is due: so many rooms differ from the server's that a resume would
   * take more than a small message.
   *
   * @param {import('../config.js').Config} config
   */
  nextCheckpoint({ checkpointRooms, checkpointMs }) {
    return this.checkpointPending || this.moved.size < Math.max(1, checkpointRooms) ? Infinity : this.checkpointedAt + checkpointMs;
  }

  /**
   * Returns the cursors for a checkpoint that is sent now.
   *
   * @param {number} now
   */
  toConfirm(now) {
    this.checkpointedAt = now;
    this.checkpointPending = true;
    return this.cursorsOf([...this.moved].slice(0, CURSORS_PER_FRAME));
  }

  /**
   * Records that the server has stored these cursors.
   *
   * @param {[string, string, number][]} cursors
   */
  confirmed(cursors) {
    this.checkpointPending = false;
    for (const [room, epoch, seq] of cursors) this.compare(room, { epoch, seq });
  }

  /**
   * Records the checkpoint's cursor of this room.
   *
   * @param {string} room
   * @param {Cursor | undefined} kept
   */
  compare(room, kept) {
    const held = this.map.get(room)?.cursor;
    if (!held || (held.epoch === kept?.epoch && held.seq === kept.seq)) this.moved.delete(room);
    else this.moved.add(room);
  }

  /** @param {string} room */
  remove(room) {
    this.map.delete(room);
    this.moved.delete(room);
  }

  /** Handles the end of the connection, which drops all requests about rooms. */
  cut() {
    // With the revision, the resume would include a denied room, which may be accessible again by
    // then.
    if (this.hasStray) this.dropCheckpoint();
    this.checkpointPending = false;
    for (const room of this.map.values()) {
      room.asked = undefined;
      room.gapAt = undefined;
      room.wasRefused = false;
      room.tries = 0;
    }
  }

  /**
   * The one rule of reading: whether the event is the next one of its room. If so, the cursor moves
   * to it. Otherwise it is redelivered and dropped, or a gap is recorded, to be repaired.
   *
   * @param {number} now
   * @param {RoomEvent} event
   */
  take(now, event) {
    const room = this.map.get(event.room);
    if (!room) return false;
    const { cursor } = room;
    if (event.epoch === cursor.epoch && event.seq <= cursor.seq) return false;
    // Also for a gap: the checkpoint is then not known for sure.
    this.moved.add(event.room);
    if (event.epoch !== cursor.epoch || event.seq > cursor.seq + 1) {
      room.missed(now);
      return false;
    }
    room.cursor = { epoch: event.epoch, seq: event.seq };
    room.tries = 0;
    return true;
  }

  /**
   * Returns the rooms to request now, each with its cursor. The caller confirms the command with
   * `asked`.
   *
   * @param {number} now
   */
  gaps(now) {
    return [...this.map].filter(([, room]) => (room.gapAt ?? Infinity) <= now);
  }

  /** When the next room is to be requested. */
  nextGap() {
    let next = Infinity;
    for (const room of this.map.values()) next = Math.min(next, room.gapAt ?? Infinity);
    return next;
  }

  /**
   * Records that a command requests `room`.
   *
   * @param {string} id
   * @param {number} by
   */
  asked(id, by) {
    const room = this.map.get(id);
    if (!room) return;
    room.gapAt = undefined;
    room.wasRefused = false;
    room.asked = by;
  }

  /**
   * Records that a command requests all rooms without another request.
   *
   * @param {number} by
   */
  askedRest(by) {
    for (const room of this.map.values()) room.asked ??= by;
  }

  /**
   * Handles rooms that the command's answer left out: each is requested by itself, a little later.
   *
   * @param {number} now
   * @param {number} by
   */
  unanswered(now, by) {
    for (const room of this.askedBy(by)) room.missed(now);
  }

  /**
   * Handles a retryable refusal of the command: its rooms are requested again, `retryMs` later at
   * the earliest, by a `resume` if the command was one.
   *
   * @param {number} now
   * @param {number} by
   * @param {number} [retryMs]
   * @param {boolean} [wasResume]
   */
  refused(now, by, retryMs, wasResume = false) {
    for (const room of this.askedBy(by)) {
      room.refused(now, retryMs);
      room.wasRefused = wasResume;
    }
  }

  /** Removes and returns the rooms that the command requested. @param {number} by */
  askedBy(by) {
    const rooms = [...this.map.values()].filter(({ asked }) => asked === by);
    for (const room of rooms) room.asked = undefined;
    return rooms;
  }

  /**
   * Sets the generation of the server's state. Returns the rooms whose state was of another one and
   * was dropped.
   *
   * @param {string} generation
   */
  setGeneration(generation) {
    return [...this.map].filter(([, room]) => room.state.setGeneration(generation)).map(([id]) => id);
  }

  /**
   * Handles the answer to a `subscribe` of the application: the cursor moves to the answer's, even
   * backwards.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be notified
   */
  subscribed(now, status) {
    if (this.keeps(now, status)) return false;
    const cursor = cursorOf(status);
    if (!cursor) {
      this.remove(status.room);
      return true;
    }
    const held = this.map.get(status.room);
    const room = new SubscribedRoom(cursor);
    if (held?.cursor.epoch === cursor.epoch) room.state = held.state;
    this.map.set(status.room, room);
    this.compare(status.room, keptBy(status));
    return status.status !== 'ok';
  }

  /**
   * Handles the answer to the client's own command `by`. Rooms that are unknown here were
   * unsubscribed or denied since: only the application subscribes to rooms.
   *
   * @param {number} now
   * @param {number} by
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be notified
   */
  answered(now, by, status) {
    const room = this.map.get(status.room);
    if (!room) {
      // A checkpoint that still contains the room must not restore it.
      if (cursorOf(status)) this.hasStray = true;
      return false;
    }
    // Another command has requested this room with a later cursor: its answer counts.
    if (room.asked !== undefined && room.asked !== by) return false;
    room.asked = undefined;
    const isNews = this.change(now, status);
    this.compare(status.room, keptBy(status));
    return isNews;
  }

  /**
   * Applies a new status of a room. The cursor never moves back within an epoch: redelivered events
   * are dropped.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be notified
   */
  moves(now, status) {
    const isNews = this.change(now, status);
    if (isNews && !cursorOf(status)) this.hasStray = true;
    return isNews;
  }

  /**
   * Keeps a room whose `denied` is retryable, to be requested again with its cursor.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether it did
   */
  keeps(now, { room: id, status, code }) {
    const room = this.map.get(id);
    const passes = status === 'denied' && typeof code === 'number' && code >= 4100 && code < 4300;
    if (!room || !passes) return false;
    // The server's checkpoint may have lost the room, so the next resume must name it.
    this.moved.add(id);
    room.refused(now);
    return true;
  }

  /**
   * @param {number} now
   * @param {RoomStatus} status
   */
  change(now, status) {
    const room = this.map.get(status.room);
    if (!room || this.keeps(now, status)) return false;
    const cursor = cursorOf(status);
    if (!cursor) {
      this.remove(status.room);
      return true;
    }
    const sameEpoch = cursor.epoch === room.cursor.epoch;
    const goesOn = status.status === 'ok' || status.status === 'gap';
    // Within an epoch only a log that ends before the cursor moves it back; another `reset` is a
    // redelivery.
    const isThere = goesOn || (status.head ?? cursor.seq) >= room.cursor.seq;
    if (sameEpoch && isThere && cursor.seq <= room.cursor.seq) return false;
    this.moved.add(status.room);
    if (sameEpoch && status.status === 'ok') {
      // Continuing from further ahead without a gap status would be a silent gap.
      room.missed(now);
      return false;
    }
    if (!sameEpoch) room.state = new RoomState();
    room.cursor = cursor;
    room.tries = 0;
    return true;
  }
}

/**
 * The starting cursor in a status; undefined if the room is not subscribed. A status that this
 * version does not know is treated as the most careful one.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
function cursorOf({ status, epoch, cursor }) {
  if (status === 'denied' || epoch === undefined || cursor === undefined) return undefined;
  return { epoch, seq: cursor };
}

/**
 * The checkpoint's cursor of a room after this answer; unknown after a trim or a change of epoch.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
export function keptBy(status) {
  return status.status === 'ok' ? cursorOf(status) : undefined;
}

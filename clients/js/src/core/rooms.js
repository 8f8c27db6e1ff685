/**
 * The rooms with a subscription, and how far each has arrived.
 *
 * @module
 */

import { SubscribedRoom } from './subscribed-room.js';
import { RoomState } from './latest.js';

/**
 * @typedef {{epoch: string, seq: number}} Cursor the last event that a reader has
 * @typedef {{room: string, status: string, epoch?: string, cursor?: number, head?: number, code?: number}} RoomStatus
 * @typedef {{room: string, epoch: string, seq: number, from: string, at: number, kind: string, mid?: string,
 *   content: import('../wire/value.js').Value}} RoomEvent
 */

/** Cursors in one frame: together with the longest ids they fit into any server's message. */
const CURSORS_PER_FRAME = 150;

/** All rooms with a subscription. */
export class Rooms {
  constructor() {
    /** @type {Map<string, SubscribedRoom>} */
    this.map = new Map();
    /** @type {number | undefined} The revision of the server's checkpoint, as far as it is known. */
    this.rev = undefined;
    /** Whether the session's checkpoint may have rooms at all. */
    this.mayHold = false;
    /** Whether that checkpoint may still have a room that was denied or left since. */
    this.hasStray = false;
    /** Rooms whose cursor may be another one than the checkpoint's; of all rooms, if that is not known. @type {Set<string>} */
    this.moved = new Set();
    /** When the server was last told how far rooms have arrived. */
    this.checkpointedAt = 0;
    this.checkpointPending = false;
  }

  /** @param {string} room */
  cursor(room) {
    const held = this.map.get(room);
    return held && { ...held.cursor };
  }

  /**
   * The cursors to name in a resume, in frames of bounded size: those that differ from the checkpoint, or all if that is not
   * known.
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

  /** The server told its checkpoint's revision. Answers may come in another order than they were given. @param {number} rev */
  learnRev(rev) {
    this.rev = Math.max(this.rev ?? 0, rev);
  }

  /** Nothing is known of the server's checkpoint any more. */
  dropCheckpoint() {
    this.rev = undefined;
    this.hasStray = false;
    this.moved = new Set(this.map.keys());
  }

  /**
   * When the server is to be told how far rooms have arrived: so many differ from its checkpoint that coming back would take
   * more than a small message.
   *
   * @param {import('../config.js').Config} config
   */
  nextCheckpoint({ checkpointRooms, checkpointMs }) {
    return this.checkpointPending || this.moved.size < Math.max(1, checkpointRooms) ? Infinity : this.checkpointedAt + checkpointMs;
  }

  /**
   * The cursors for a checkpoint that is on its way from now on.
   *
   * @param {number} now
   */
  toConfirm(now) {
    this.checkpointedAt = now;
    this.checkpointPending = true;
    return this.cursorsOf([...this.moved].slice(0, CURSORS_PER_FRAME));
  }

  /**
   * The server has kept these cursors.
   *
   * @param {[string, string, number][]} cursors
   */
  confirmed(cursors) {
    this.checkpointPending = false;
    for (const [room, epoch, seq] of cursors) this.compare(room, { epoch, seq });
  }

  /**
   * What the checkpoint has of this room.
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

  /** The connection is gone, and with it every question about a room. */
  cut() {
    // With the revision, a room that may be read again by then would come back, unasked.
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
   * The one rule of reading: whether the event is the next one of its room. The cursor moves to it if so. Otherwise it is a
   * redelivery, or a gap is noted and will be asked for.
   *
   * @param {number} now
   * @param {RoomEvent} event
   */
  take(now, event) {
    const room = this.map.get(event.room);
    if (!room) return false;
    const { cursor } = room;
    if (event.epoch === cursor.epoch && event.seq <= cursor.seq) return false;
    // If something is missing as well: what the checkpoint is thought to have is then not to be relied on.
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
   * Rooms to ask for again now, each with its cursor. The caller says with `asked` by which command.
   *
   * @param {number} now
   */
  gaps(now) {
    return [...this.map].filter(([, room]) => (room.gapAt ?? Infinity) <= now);
  }

  /** When the next room is to be asked for again. */
  nextGap() {
    let next = Infinity;
    for (const room of this.map.values()) next = Math.min(next, room.gapAt ?? Infinity);
    return next;
  }

  /**
   * A command asks where `room` stands.
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
   * A command asks where all rooms stand that nothing else asks for.
   *
   * @param {number} by
   */
  askedRest(by) {
    for (const room of this.map.values()) room.asked ??= by;
  }

  /**
   * The command's answer left rooms out: ask for each by itself, a little later.
   *
   * @param {number} now
   * @param {number} by
   */
  unanswered(now, by) {
    for (const room of this.askedBy(by)) room.missed(now);
  }

  /**
   * The command was refused for now: ask for its rooms again, `retryMs` later at the earliest, by a `resume` if it was one.
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

  /** The rooms that the command asked for, which are asked for no longer. @param {number} by */
  askedBy(by) {
    const rooms = [...this.map.values()].filter(({ asked }) => asked === by);
    for (const room of rooms) room.asked = undefined;
    return rooms;
  }

  /**
   * The server's state has this generation. Gives the rooms whose state was dropped, because it had another one.
   *
   * @param {string} generation
   */
  setGeneration(generation) {
    return [...this.map].filter(([, room]) => room.state.setGeneration(generation)).map(([id]) => id);
  }

  /**
   * The answer to a `subscribe` of the application: it wants to be where the answer says, even if it was further.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be told
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
   * The answer to what the client itself asked with the command `by`. Rooms that it does not know it has left since, or they
   * were denied: only the application subscribes to rooms.
   *
   * @param {number} now
   * @param {number} by
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be told
   */
  answered(now, by, status) {
    const room = this.map.get(status.room);
    if (!room) {
      // A checkpoint that still has it is not to bring it back.
      if (cursorOf(status)) this.hasStray = true;
      return false;
    }
    // Another command asks for this room as well, with a cursor that is further: its answer counts.
    if (room.asked !== undefined && room.asked !== by) return false;
    room.asked = undefined;
    const isNews = this.change(now, status);
    this.compare(status.room, keptBy(status));
    return isNews;
  }

  /**
   * A room answers in another way from now on, or again. The cursor never goes back within an epoch: what the server repeats
   * is dropped.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether the application must be told
   */
  moves(now, status) {
    const isNews = this.change(now, status);
    if (isNews && !cursorOf(status)) this.hasStray = true;
    return isNews;
  }

  /**
   * Keeps a room that is `denied` for now only, to be asked for again with its cursor.
   *
   * @param {number} now
   * @param {RoomStatus} status
   * @returns {boolean} whether it did
   */
  keeps(now, { room: id, status, code }) {
    const room = this.map.get(id);
    const passes = status === 'denied' && typeof code === 'number' && code >= 4100 && code < 4300;
    if (!room || !passes) return false;
    // The server's checkpoint may have lost it: the next resume names it.
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
    // Within an epoch only a log that ends before the cursor takes a reader back; another `reset` is a redelivery.
    const isThere = goesOn || (status.head ?? cursor.seq) >= room.cursor.seq;
    if (sameEpoch && isThere && cursor.seq <= room.cursor.seq) return false;
    this.moved.add(status.room);
    if (sameEpoch && status.status === 'ok') {
      // To go on from further ahead, and say that all is well, would be a silent gap.
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
 * Where a status says that reading begins; undefined if the room is not subscribed to. Words that this version does not know
 * are treated as the most careful one.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
function cursorOf({ status, epoch, cursor }) {
  if (status === 'denied' || epoch === undefined || cursor === undefined) return undefined;
  return { epoch, seq: cursor };
}

/**
 * What the checkpoint has of a room after this answer. Where history was trimmed, or begins anew, that is the server's affair.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
export function keptBy(status) {
  return status.status === 'ok' ? cursorOf(status) : undefined;
}

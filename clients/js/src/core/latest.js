import { compareStamps } from '../ids.js';

/**
 * A state key's newest value. Without `value` the key was removed.
 *
 * @typedef {{room: string, key: string, stamp: string, from: string, value?: import('../wire/value.js').Value}}
 *   StateUpdate
 */

/** Servers bound their state; this bound only keeps a faulty server from filling the memory. */
const MAX_KEYS = 65_536;
const MAX_TOMBSTONES = 1024;

/**
 * One key per name, each with the greatest stamp. At most 65,536 keys, of which at most 1,024 are
 * tombstones: of those the oldest are purged first.
 */
class StateMap {
  constructor() {
    /** @type {Map<string, StateUpdate>} */
    this.held = new Map();
    this.tombstones = 0;
  }

  /**
   * @param {StateUpdate} update
   * @returns {boolean} whether it is newer than what was held
   */
  merge(update) {
    const held = this.held.get(update.key);
    if (held && compareStamps(update.stamp, held.stamp) <= 0) return false;
    if (!held && this.held.size >= MAX_KEYS) return false;
    if (held && held.value === undefined) this.tombstones -= 1;
    if (update.value === undefined) this.tombstones += 1;
    this.held.set(update.key, update);
    if (this.tombstones > MAX_TOMBSTONES) this.purgeOldest();
    return true;
  }

  purgeOldest() {
    /** @type {StateUpdate | undefined} */
    let oldest;
    for (const entry of this.held.values()) {
      if (entry.value !== undefined) continue;
      if (!oldest || compareStamps(entry.stamp, oldest.stamp) < 0) oldest = entry;
    }
    if (oldest) this.held.delete(oldest.key);
    this.tombstones -= 1;
  }

  /** The keys that have a value. */
  entries() {
    return [...this.held.values()].filter((entry) => entry.value !== undefined);
  }
}

/** A room's state as the server has sent it, and a snapshot that is still arriving. */
export class RoomState {
  constructor() {
    /** @type {string | undefined} */
    this.generation = undefined;
    this.map = new StateMap();
    /** @type {{generation: string, map: StateMap} | undefined} */
    this.arriving = undefined;
  }

  /**
   * @param {StateUpdate} update
   * @returns {boolean} whether it is newer than what is held
   */
  update(update) {
    this.arriving?.map.merge(update);
    return this.map.merge(update);
  }

  /**
   * Sets the generation of the server's state. Values of another one are dropped.
   *
   * @param {string} generation
   * @returns {boolean} whether something was dropped
   */
  setGeneration(generation) {
    if (this.generation === undefined || this.generation === generation) return false;
    const hadSome = this.map.entries().length > 0;
    this.generation = generation;
    this.map = new StateMap();
    this.arriving = undefined;
    return hadSome;
  }

  /**
   * Adds a part of a snapshot. With the last part, returns all keys that have a value.
   *
   * Within one generation the newer of two values wins, whether it comes from an update or the
   * snapshot. Another generation replaces all held values: updates may have been lost, and stamps
   * assigned twice.
   *
   * @param {string} generation
   * @param {StateUpdate[]} entries
   * @param {boolean} more
   * @returns {StateUpdate[] | undefined}
   */
  snapshot(generation, entries, more) {
    const map = this.arriving?.generation === generation ? this.arriving.map : new StateMap();
    this.arriving = undefined;
    for (const entry of entries) map.merge(entry);
    if (more) {
      this.arriving = { generation, map };
      return undefined;
    }
    if (this.generation === generation) {
      for (const entry of this.map.held.values()) map.merge(entry);
    }
    this.generation = generation;
    this.map = map;
    return map.entries();
  }
}

/**
 * Which command decides about a room's subscription: the application's newest, in whatever order
 * answers come.
 *
 * A room is kept as long as an older command may still be answered: that answer does not count for
 * the room any more. So the size is bounded by the rooms that were requested while one command
 * waited for its answer.
 */
export class Decisions {
  constructor() {
    /**
     * The newest `subscribe` or `unsubscribe` of each room, in the order of their numbers.
     * @type {Map<string, number>}
     */
    this.rooms = new Map();
    /** The newest one of each room that was carried out. @type {Map<string, number>} */
    this.done = new Map();
  }

  /**
   * Records a subscribe or unsubscribe of the application, which overtakes earlier ones.
   *
   * @param {string} room
   * @param {number} by
   */
  add(room, by) {
    // Reinserted, so that the newest is at the end.
    this.rooms.delete(room);
    this.rooms.set(room, by);
  }

  /**
   * Whether the application has called again about this room since that command.
   *
   * @param {string} room
   * @param {number} by
   */
  overtake(room, by) {
    return this.newest(room) > by;
  }

  /**
   * Returns the application's newest command about this room, 0 if none can be answered any more.
   *
   * @param {string} room
   */
  newest(room) {
    return this.rooms.get(room) ?? 0;
  }

  /**
   * Records that the command was carried out, or unsubscribed the room whatever the server answers.
   *
   * @param {string} room
   * @param {number} by
   */
  carriedOut(room, by) {
    this.done.set(room, Math.max(this.done.get(room) ?? 0, by));
  }

  /**
   * Whether a retry of this command would undo a later one that was carried out.
   *
   * @param {import('../wire/value.js').Frame} body
   * @param {number} by
   */
  undoes({ t, room }, by) {
    return (t === 'subscribe' || t === 'unsubscribe') && (this.done.get(room) ?? 0) > by;
  }

  /**
   * Drops what is older than this command: no earlier one will be answered any more.
   *
   * @param {number} oldest
   */
  forget(oldest) {
    for (const [room, by] of this.done) if (by < oldest) this.done.delete(room);
    for (const [room, by] of this.rooms) {
      if (by >= oldest) return;
      this.rooms.delete(room);
    }
  }
}

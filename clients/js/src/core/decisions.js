/**
 * Which command decides whether a room is subscribed to: the application's newest, whenever answers come.
 *
 * A room is remembered as long as an older command may still be answered: what that answer says of the room counts no more.
 * So there are no more of them than rooms that were asked for while one command waited for its answer.
 */
export class Decisions {
  constructor() {
    /** The newest `subscribe` or `unsubscribe` of each room, in the order of their numbers. @type {Map<string, number>} */
    this.rooms = new Map();
    /** The newest one of each room that was carried out. @type {Map<string, number>} */
    this.done = new Map();
  }

  /**
   * The application subscribes to a room or leaves it, whatever it asked before.
   *
   * @param {string} room
   * @param {number} by
   */
  add(room, by) {
    // The newest stands at the end.
    this.rooms.delete(room);
    this.rooms.set(room, by);
  }

  /**
   * Whether the application has decided otherwise about this room since that command.
   *
   * @param {string} room
   * @param {number} by
   */
  overtake(room, by) {
    return this.newest(room) > by;
  }

  /**
   * The application's newest command about this room, 0 if it can have no answer any more.
   *
   * @param {string} room
   */
  newest(room) {
    return this.rooms.get(room) ?? 0;
  }

  /**
   * The command was carried out, or left the room whatever the server says.
   *
   * @param {string} room
   * @param {number} by
   */
  carriedOut(room, by) {
    this.done.set(room, Math.max(this.done.get(room) ?? 0, by));
  }

  /**
   * Whether this command, written again, would undo a later one that was carried out.
   *
   * @param {import('../wire/value.js').Frame} body
   * @param {number} by
   */
  undoes({ t, room }, by) {
    return (t === 'subscribe' || t === 'unsubscribe') && (this.done.get(room) ?? 0) > by;
  }

  /**
   * No command before this one will be answered any more.
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

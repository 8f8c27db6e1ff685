/** @typedef {import('./room.js').Room} Room */

/**
 * The handles to rooms: one for each id at a time.
 *
 * Handles in use are held. Any other one can be found as long as the application holds it, so that
 * both get the same one; after that it is garbage collected.
 */
export class Handles {
  constructor() {
    /** @type {Map<string, Room>} Handles in use. */
    this.held = new Map();
    /** @type {Map<string, WeakRef<Room>>} The others. */
    this.idle = new Map();
    /** @type {FinalizationRegistry<string>} */
    this.collected = new FinalizationRegistry((id) => {
      if (!this.idle.get(id)?.deref()) this.idle.delete(id);
    });
  }

  /** @param {string} id */
  get(id) {
    return this.held.get(id) ?? this.idle.get(id)?.deref();
  }

  /** @param {Room} room for whose id there is none yet */
  add(room) {
    this.collected.register(room, room.id);
    this.idle.set(room.id, new WeakRef(room));
  }

  /**
   * Updates where a handle is stored after its use may have changed.
   *
   * @param {Room} room
   */
  settle(room) {
    const { id } = room;
    if (room.isInUse) {
      this.held.set(id, room);
      this.idle.delete(id);
    } else if (this.held.get(id) === room) {
      this.held.delete(id);
      this.idle.set(id, new WeakRef(room));
    }
  }
}

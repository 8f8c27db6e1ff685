/** @typedef {import('./room.js').Room} Room */

/**
 * The handles to rooms: one for each id at a time.
 *
 * Those in use are held. Any other one can still be found for as long as the application holds it, so that both have the
 * same one; after that the engine collects it.
 */
export class Handles {
  constructor() {
    /** @type {Map<string, Room>} Those in use. */
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
   * Whether the handle is in use may have changed.
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

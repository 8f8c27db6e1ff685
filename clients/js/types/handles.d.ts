/** @typedef {import('./room.js').Room} Room */
/**
 * The handles to rooms: one for each id at a time.
 *
 * Handles in use are held. Any other one can be found as long as the application holds it, so that
 * both get the same one; after that it is garbage collected.
 */
export class Handles {
    /** @type {Map<string, Room>} Handles in use. */
    held: Map<string, Room>;
    /** @type {Map<string, WeakRef<Room>>} The others. */
    idle: Map<string, WeakRef<Room>>;
    /** @type {FinalizationRegistry<string>} */
    collected: FinalizationRegistry<string>;
    /** @param {string} id */
    get(id: string): import("./room.js").Room | undefined;
    /** @param {Room} room for whose id there is none yet */
    add(room: Room): void;
    /**
     * Updates where a handle is stored after its use may have changed.
     *
     * @param {Room} room
     */
    settle(room: Room): void;
}
export type Room = import("./room.js").Room;

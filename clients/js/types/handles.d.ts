/** @typedef {import('./room.js').Room} Room */
/**
 * The handles to rooms: one for each id at a time.
 *
 * Those in use are held. Any other one can still be found for as long as the application holds it, so that both have the
 * same one; after that the engine collects it.
 */
export class Handles {
    /** @type {Map<string, Room>} Those in use. */
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
     * Whether the handle is in use may have changed.
     *
     * @param {Room} room
     */
    settle(room: Room): void;
}
export type Room = import("./room.js").Room;

/** A room's state as the server has sent it, and a snapshot that is still arriving. */
export class RoomState {
    /** @type {string | undefined} */
    generation: string | undefined;
    map: StateMap;
    /** @type {{generation: string, map: StateMap} | undefined} */
    arriving: {
        generation: string;
        map: StateMap;
    } | undefined;
    /**
     * @param {StateUpdate} update
     * @returns {boolean} whether it is newer than what is held
     */
    update(update: StateUpdate): boolean;
    /**
     * Sets the generation of the server's state. Values of another one are dropped.
     *
     * @param {string} generation
     * @returns {boolean} whether something was dropped
     */
    setGeneration(generation: string): boolean;
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
    snapshot(generation: string, entries: StateUpdate[], more: boolean): StateUpdate[] | undefined;
}
/**
 * A state key's newest value. Without `value` the key was removed.
 */
export type StateUpdate = {
    room: string;
    key: string;
    stamp: string;
    from: string;
    value?: import("../wire/value.js").Value;
};
/**
 * One key per name, each with the greatest stamp. At most 65,536 keys, of which at most 1,024 are
 * tombstones: of those the oldest are purged first.
 */
declare class StateMap {
    /** @type {Map<string, StateUpdate>} */
    held: Map<string, StateUpdate>;
    tombstones: number;
    /**
     * @param {StateUpdate} update
     * @returns {boolean} whether it is newer than what was held
     */
    merge(update: StateUpdate): boolean;
    purgeOldest(): void;
    /** The keys that have a value. */
    entries(): StateUpdate[];
}
export {};

/**
 * Which command decides about a room's subscription: the application's newest, in whatever order
 * answers come.
 *
 * A room is kept as long as an older command may still be answered: that answer does not count for
 * the room any more. So the size is bounded by the rooms that were requested while one command
 * waited for its answer.
 */
export class Decisions {
    /**
     * The newest `subscribe` or `unsubscribe` of each room, in the order of their numbers.
     * @type {Map<string, number>}
     */
    rooms: Map<string, number>;
    /** The newest one of each room that was carried out. @type {Map<string, number>} */
    done: Map<string, number>;
    /**
     * Records a subscribe or unsubscribe of the application, which overtakes earlier ones.
     *
     * @param {string} room
     * @param {number} by
     */
    add(room: string, by: number): void;
    /**
     * Whether the application has called again about this room since that command.
     *
     * @param {string} room
     * @param {number} by
     */
    overtake(room: string, by: number): boolean;
    /**
     * Returns the application's newest command about this room, 0 if none can be answered any more.
     *
     * @param {string} room
     */
    newest(room: string): number;
    /**
     * Records that the command was carried out, or unsubscribed the room whatever the server answers.
     *
     * @param {string} room
     * @param {number} by
     */
    carriedOut(room: string, by: number): void;
    /**
     * Whether a retry of this command would undo a later one that was carried out.
     *
     * @param {import('../wire/value.js').Frame} body
     * @param {number} by
     */
    undoes({ t, room }: import("../wire/value.js").Frame, by: number): boolean;
    /**
     * Drops what is older than this command: no earlier one will be answered any more.
     *
     * @param {number} oldest
     */
    forget(oldest: number): void;
}

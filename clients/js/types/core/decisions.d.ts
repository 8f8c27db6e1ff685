/**
 * Which command decides whether a room is subscribed to: the application's newest, whenever answers come.
 *
 * A room is remembered as long as an older command may still be answered: what that answer says of the room counts no more.
 * So there are no more of them than rooms that were asked for while one command waited for its answer.
 */
export class Decisions {
    /** The newest `subscribe` or `unsubscribe` of each room, in the order of their numbers. @type {Map<string, number>} */
    rooms: Map<string, number>;
    /** The newest one of each room that was carried out. @type {Map<string, number>} */
    done: Map<string, number>;
    /**
     * The application subscribes to a room or leaves it, whatever it asked before.
     *
     * @param {string} room
     * @param {number} by
     */
    add(room: string, by: number): void;
    /**
     * Whether the application has decided otherwise about this room since that command.
     *
     * @param {string} room
     * @param {number} by
     */
    overtake(room: string, by: number): boolean;
    /**
     * The application's newest command about this room, 0 if it can have no answer any more.
     *
     * @param {string} room
     */
    newest(room: string): number;
    /**
     * The command was carried out, or left the room whatever the server says.
     *
     * @param {string} room
     * @param {number} by
     */
    carriedOut(room: string, by: number): void;
    /**
     * Whether this command, written again, would undo a later one that was carried out.
     *
     * @param {import('../wire/value.js').Frame} body
     * @param {number} by
     */
    undoes({ t, room }: import("../wire/value.js").Frame, by: number): boolean;
    /**
     * No command before this one will be answered any more.
     *
     * @param {number} oldest
     */
    forget(oldest: number): void;
}

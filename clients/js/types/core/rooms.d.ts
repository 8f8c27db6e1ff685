/**
 * What the checkpoint has of a room after this answer. Where history was trimmed, or begins anew, that is the server's affair.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
export function keptBy(status: RoomStatus): Cursor | undefined;
/** All rooms with a subscription. */
export class Rooms {
    /** @type {Map<string, SubscribedRoom>} */
    map: Map<string, SubscribedRoom>;
    /** @type {number | undefined} The revision of the server's checkpoint, as far as it is known. */
    rev: number | undefined;
    /** Whether the session's checkpoint may have rooms at all. */
    mayHold: boolean;
    /** Whether that checkpoint may still have a room that was denied or left since. */
    hasStray: boolean;
    /** Rooms whose cursor may be another one than the checkpoint's; of all rooms, if that is not known. @type {Set<string>} */
    moved: Set<string>;
    /** When the server was last told how far rooms have arrived. */
    checkpointedAt: number;
    checkpointPending: boolean;
    /** @param {string} room */
    cursor(room: string): {
        epoch: string;
        seq: number;
    } | undefined;
    /**
     * The cursors to name in a resume, in frames of bounded size: those that differ from the checkpoint, or all if that is not
     * known.
     */
    toResume(): [string, string, number][][];
    /**
     * The cursors of these rooms, in frames of bounded size.
     *
     * @param {string[]} rooms with a subscription
     */
    frames(rooms: string[]): [string, string, number][][];
    /**
     * @param {string[]} rooms with a subscription
     * @returns {[string, string, number][]}
     */
    cursorsOf(rooms: string[]): [string, string, number][];
    /** The server told its checkpoint's revision. Answers may come in another order than they were given. @param {number} rev */
    learnRev(rev: number): void;
    /** Nothing is known of the server's checkpoint any more. */
    dropCheckpoint(): void;
    /**
     * When the server is to be told how far rooms have arrived: so many differ from its checkpoint that coming back would take
     * more than a small message.
     *
     * @param {import('../config.js').Config} config
     */
    nextCheckpoint({ checkpointRooms, checkpointMs }: import("../config.js").Config): number;
    /**
     * The cursors for a checkpoint that is on its way from now on.
     *
     * @param {number} now
     */
    toConfirm(now: number): [string, string, number][];
    /**
     * The server has kept these cursors.
     *
     * @param {[string, string, number][]} cursors
     */
    confirmed(cursors: [string, string, number][]): void;
    /**
     * What the checkpoint has of this room.
     *
     * @param {string} room
     * @param {Cursor | undefined} kept
     */
    compare(room: string, kept: Cursor | undefined): void;
    /** @param {string} room */
    remove(room: string): void;
    /** The connection is gone, and with it every question about a room. */
    cut(): void;
    /**
     * The one rule of reading: whether the event is the next one of its room. The cursor moves to it if so. Otherwise it is a
     * redelivery, or a gap is noted and will be asked for.
     *
     * @param {number} now
     * @param {RoomEvent} event
     */
    take(now: number, event: RoomEvent): boolean;
    /**
     * Rooms to ask for again now, each with its cursor. The caller says with `asked` by which command.
     *
     * @param {number} now
     */
    gaps(now: number): [string, SubscribedRoom][];
    /** When the next room is to be asked for again. */
    nextGap(): number;
    /**
     * A command asks where `room` stands.
     *
     * @param {string} id
     * @param {number} by
     */
    asked(id: string, by: number): void;
    /**
     * A command asks where all rooms stand that nothing else asks for.
     *
     * @param {number} by
     */
    askedRest(by: number): void;
    /**
     * The command's answer left rooms out: ask for each by itself, a little later.
     *
     * @param {number} now
     * @param {number} by
     */
    unanswered(now: number, by: number): void;
    /**
     * The command was refused for now: ask for its rooms again, `retryMs` later at the earliest, by a `resume` if it was one.
     *
     * @param {number} now
     * @param {number} by
     * @param {number} [retryMs]
     * @param {boolean} [wasResume]
     */
    refused(now: number, by: number, retryMs?: number, wasResume?: boolean): void;
    /** The rooms that the command asked for, which are asked for no longer. @param {number} by */
    askedBy(by: number): SubscribedRoom[];
    /**
     * The server's state has this generation. Gives the rooms whose state was dropped, because it had another one.
     *
     * @param {string} generation
     */
    setGeneration(generation: string): string[];
    /**
     * The answer to a `subscribe` of the application: it wants to be where the answer says, even if it was further.
     *
     * @param {number} now
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be told
     */
    subscribed(now: number, status: RoomStatus): boolean;
    /**
     * The answer to what the client itself asked with the command `by`. Rooms that it does not know it has left since, or they
     * were denied: only the application subscribes to rooms.
     *
     * @param {number} now
     * @param {number} by
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be told
     */
    answered(now: number, by: number, status: RoomStatus): boolean;
    /**
     * A room answers in another way from now on, or again. The cursor never goes back within an epoch: what the server repeats
     * is dropped.
     *
     * @param {number} now
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be told
     */
    moves(now: number, status: RoomStatus): boolean;
    /**
     * Keeps a room that is `denied` for now only, to be asked for again with its cursor.
     *
     * @param {number} now
     * @param {RoomStatus} status
     * @returns {boolean} whether it did
     */
    keeps(now: number, { room: id, status, code }: RoomStatus): boolean;
    /**
     * @param {number} now
     * @param {RoomStatus} status
     */
    change(now: number, status: RoomStatus): boolean;
}
/**
 * the last event that a reader has
 */
export type Cursor = {
    epoch: string;
    seq: number;
};
export type RoomStatus = {
    room: string;
    status: string;
    epoch?: string;
    cursor?: number;
    head?: number;
    code?: number;
};
export type RoomEvent = {
    room: string;
    epoch: string;
    seq: number;
    from: string;
    at: number;
    kind: string;
    mid?: string;
    content: import("../wire/value.js").Value;
};
import { SubscribedRoom } from './subscribed-room.js';

/**
 * The checkpoint's cursor of a room after this answer; unknown after a trim or a change of epoch.
 *
 * @param {RoomStatus} status
 * @returns {Cursor | undefined}
 */
export function keptBy(status: RoomStatus): Cursor | undefined;
/** All subscribed rooms. */
export class Rooms {
    /** @type {Map<string, SubscribedRoom>} */
    map: Map<string, SubscribedRoom>;
    /**
     * @type {number | undefined} The revision of the server's checkpoint, as far as it is known.
     */
    rev: number | undefined;
    /** Whether the session's checkpoint may contain rooms at all. */
    mayHold: boolean;
    /** Whether that checkpoint may still contain a room that was denied or unsubscribed since. */
    hasStray: boolean;
    /**
     * Rooms whose cursor may differ from the checkpoint's; all rooms, if that is not known.
     * @type {Set<string>}
     */
    moved: Set<string>;
    /** When the last checkpoint was sent. */
    checkpointedAt: number;
    checkpointPending: boolean;
    /** @param {string} room */
    cursor(room: string): {
        epoch: string;
        seq: number;
    } | undefined;
    /**
     * Returns the cursors to name in a resume, in frames of bounded size: those that differ from the
     * checkpoint, or all if the checkpoint is not known.
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
    /**
     * Sets the revision of the server's checkpoint. Answers may arrive out of order.
     * @param {number} rev
     */
    learnRev(rev: number): void;
    /** Drops all knowledge of the server's checkpoint. */
    dropCheckpoint(): void;
    /**
     * Returns when a checkpoint is due: so many rooms differ from the server's that a resume would
     * take more than a small message.
     *
     * @param {import('../config.js').Config} config
     */
    nextCheckpoint({ checkpointRooms, checkpointMs }: import("../config.js").Config): number;
    /**
     * Returns the cursors for a checkpoint that is sent now.
     *
     * @param {number} now
     */
    toConfirm(now: number): [string, string, number][];
    /**
     * Records that the server has stored these cursors.
     *
     * @param {[string, string, number][]} cursors
     */
    confirmed(cursors: [string, string, number][]): void;
    /**
     * Records the checkpoint's cursor of this room.
     *
     * @param {string} room
     * @param {Cursor | undefined} kept
     */
    compare(room: string, kept: Cursor | undefined): void;
    /** @param {string} room */
    remove(room: string): void;
    /** Handles the end of the connection, which drops all requests about rooms. */
    cut(): void;
    /**
     * The one rule of reading: whether the event is the next one of its room. If so, the cursor moves
     * to it. Otherwise it is redelivered and dropped, or a gap is recorded, to be repaired.
     *
     * @param {number} now
     * @param {RoomEvent} event
     */
    take(now: number, event: RoomEvent): boolean;
    /**
     * Returns the rooms to request now, each with its cursor. The caller confirms the command with
     * `asked`.
     *
     * @param {number} now
     */
    gaps(now: number): [string, SubscribedRoom][];
    /** When the next room is to be requested. */
    nextGap(): number;
    /**
     * Records that a command requests `room`.
     *
     * @param {string} id
     * @param {number} by
     */
    asked(id: string, by: number): void;
    /**
     * Records that a command requests all rooms without another request.
     *
     * @param {number} by
     */
    askedRest(by: number): void;
    /**
     * Handles rooms that the command's answer left out: each is requested by itself, a little later.
     *
     * @param {number} now
     * @param {number} by
     */
    unanswered(now: number, by: number): void;
    /**
     * Handles a retryable refusal of the command: its rooms are requested again, `retryMs` later at
     * the earliest, by a `resume` if the command was one.
     *
     * @param {number} now
     * @param {number} by
     * @param {number} [retryMs]
     * @param {boolean} [wasResume]
     */
    refused(now: number, by: number, retryMs?: number, wasResume?: boolean): void;
    /** Removes and returns the rooms that the command requested. @param {number} by */
    askedBy(by: number): SubscribedRoom[];
    /**
     * Sets the generation of the server's state. Returns the rooms whose state was of another one and
     * was dropped.
     *
     * @param {string} generation
     */
    setGeneration(generation: string): string[];
    /**
     * Handles the answer to a `subscribe` of the application: the cursor moves to the answer's, even
     * backwards.
     *
     * @param {number} now
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be notified
     */
    subscribed(now: number, status: RoomStatus): boolean;
    /**
     * Handles the answer to the client's own command `by`. Rooms that are unknown here were
     * unsubscribed or denied since: only the application subscribes to rooms.
     *
     * @param {number} now
     * @param {number} by
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be notified
     */
    answered(now: number, by: number, status: RoomStatus): boolean;
    /**
     * Applies a new status of a room. The cursor never moves back within an epoch: redelivered events
     * are dropped.
     *
     * @param {number} now
     * @param {RoomStatus} status
     * @returns {boolean} whether the application must be notified
     */
    moves(now: number, status: RoomStatus): boolean;
    /**
     * Keeps a room whose `denied` is retryable, to be requested again with its cursor.
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
 * the last event that a subscriber has
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

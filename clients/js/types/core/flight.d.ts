/**
 * Whether a command can be carried out twice without harm.
 *
 * @param {Frame} body
 */
export function isIdempotent(body: Frame): boolean;
/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../wire/codec.js').Codec} Codec
 * @typedef {import('../wire/codec.js').Encoded} Encoded
 */
/**
 * The origin of a command, which gets the answer: the application, or the client itself, to greet,
 * to resume subscriptions, to repair a gap in `room`, to send a checkpoint or a heartbeat, or to
 * send a new token.
 *
 * @typedef {'user' | 'hello' | 'resume' | 'gapRepair' | 'checkpoint' | 'ping' | 'refresh'} Origin
 */
/**
 * An unanswered command.
 *
 * @typedef {object} Pending
 * @property {Frame} body without its number
 * @property {Origin} origin
 * @property {number} tries how often it was retried after a retryable refusal
 * @property {import('./pace.js').Flown | undefined} written the message that contained it on this
 *   connection
 */
/**
 * Why nothing is written to a target at present: the first send that was refused, and until when.
 *
 * @typedef {{by: number, until: number, paced: boolean}} Held
 */
/**
 * Frames to write as one message. `idempotent`: whether all of them can be carried out twice
 * without harm.
 *
 * @typedef {{frames: Encoded[], bytes: number, idempotent: boolean}} Batch
 */
/**
 * The server's limits.
 *
 * @typedef {{message_bytes: number, content_bytes: number, batch: number, in_flight: number, page:
 *   number, rooms: number, depth: number, values: number}} ServerLimits
 */
/** All unanswered commands, in the order of the calls. */
export class Flight {
    /** @param {number} slowest bytes per second of the slowest uplink that does not count as dead */
    constructor(slowest: number);
    slowest: number;
    pace: Pace;
    next: number;
    /** @type {Map<number, Pending>} By number, ascending. */
    pending: Map<number, Pending>;
    /** @type {Map<string, Held>} By target. */
    held: Map<string, Held>;
    /**
     * Adds a command. It is written with the next batch.
     *
     * @param {Frame} body
     * @param {Origin} origin
     */
    push(body: Frame, origin: Origin): number;
    /**
     * Adds a command that is written at once, out of turn.
     *
     * @param {number} now
     * @param {Frame} body
     * @param {Origin} origin
     * @param {Codec} codec
     * @returns {[number, Encoded]}
     */
    write(now: number, body: Frame, origin: Origin, codec: Codec): [number, Encoded];
    /**
     * Records that the command was answered, and so has arrived.
     *
     * @param {number} now
     * @param {number} id
     */
    arrived(now: number, id: number): void;
    /**
     * Removes a command with a final answer.
     *
     * @param {number} id
     */
    settle(id: number): Pending | undefined;
    /**
     * Puts back a send that was refused retryably. It keeps its number, and so its order, and nothing
     * is written to its target before `at`. If an earlier send is refused as well, its pause counts.
     * For refusals for the rate (`paced`) the longest pause counts: the pauses of later refusals
     * cover all of them.
     *
     * @param {number} id
     * @param {number} at when to retry
     * @param {boolean} [paced]
     */
    retry(id: number, at: number, paced?: boolean): void;
    /**
     * Handles the end of the connection. Idempotent commands wait for the next one; the other calls
     * of the application are returned, and the client's own commands are dropped: the next connection
     * has its own.
     *
     * With `all`, the server closed because of something that was written: a retry would close the
     * next connection too. Commands that would undo a later one (`undoes`) are returned too.
     *
     * @param {boolean} all
     * @param {(body: Frame, id: number) => boolean} undoes
     * @returns {[number, Pending][]}
     */
    cut(all: boolean, undoes: (body: Frame, id: number) => boolean): [number, Pending][];
    /** Returns all commands of the application, because the client ends. */
    end(): [number, Pending][];
    /** Whether the connection could be dropped now without an unknown outcome. */
    isSafeToMove(): boolean;
    /** Whether the outcome of a command that changes the session's checkpoint is unknown. */
    mayHaveMovedCheckpoint(): boolean;
    /** @param {(pending: Pending) => boolean} test */
    every(test: (pending: Pending) => boolean): boolean;
    /**
     * Returns the newest unanswered `subscribe` or `unsubscribe` for this room.
     *
     * @param {string} room
     */
    subscribing(room: string): {
        id: number;
        t: string;
    } | undefined;
    /** The number of the oldest unanswered command that subscribes to or unsubscribes from rooms. */
    oldestSubscribing(): number;
    /**
     * Returns how many of the application's commands fulfil `test`.
     * @param {(body: Frame) => boolean} test
     */
    count(test: (body: Frame) => boolean): number;
    /** Returns when a held target with no unanswered writes may be written to. */
    deadline(): number;
    /**
     * Whether all earlier sends to this send's target are answered.
     *
     * @param {number} id
     */
    isNext(id: number): boolean;
    /** @param {string} target */
    isUnderWay(target: string): boolean;
    /**
     * Returns the next message to write, within the server's limits and the pace; undefined if there
     * is nothing to write now. Commands that can never be written are added to `refused`.
     *
     * @param {number} now
     * @param {ServerLimits} limits
     * @param {Codec} codec
     * @param {[number, ImError][]} refused
     * @returns {Batch | undefined}
     */
    batch(now: number, limits: ServerLimits, codec: Codec, refused: [number, ImError][]): Batch | undefined;
    /**
     * Releases targets whose pause is over and that have no unanswered writes.
     * @param {number} now
     */
    releaseTargets(now: number): void;
    countWritten(): number;
}
export type Frame = import("../wire/value.js").Frame;
export type Codec = import("../wire/codec.js").Codec;
export type Encoded = import("../wire/codec.js").Encoded;
/**
 * The origin of a command, which gets the answer: the application, or the client itself, to greet,
 * to resume subscriptions, to repair a gap in `room`, to send a checkpoint or a heartbeat, or to
 * send a new token.
 */
export type Origin = "user" | "hello" | "resume" | "gapRepair" | "checkpoint" | "ping" | "refresh";
/**
 * An unanswered command.
 */
export type Pending = {
    /**
     * without its number
     */
    body: Frame;
    origin: Origin;
    /**
     * how often it was retried after a retryable refusal
     */
    tries: number;
    /**
     * the message that contained it on this
     * connection
     */
    written: import("./pace.js").Flown | undefined;
};
/**
 * Why nothing is written to a target at present: the first send that was refused, and until when.
 */
export type Held = {
    by: number;
    until: number;
    paced: boolean;
};
/**
 * Frames to write as one message. `idempotent`: whether all of them can be carried out twice
 * without harm.
 */
export type Batch = {
    frames: Encoded[];
    bytes: number;
    idempotent: boolean;
};
/**
 * The server's limits.
 */
export type ServerLimits = {
    message_bytes: number;
    content_bytes: number;
    batch: number;
    in_flight: number;
    page: number;
    rooms: number;
    depth: number;
    values: number;
};
import { Pace } from './pace.js';
import { ImError } from '../error.js';

/**
 * Whether a command may be carried out twice without harm, if it is not known whether it was carried out once.
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
 * Who wants to know the answer: the application, or the client itself to greet, to subscribe to rooms again, to repair a gap in
 * `room`, to tell how far rooms have arrived, to hear whether the server is still there, to show a new token.
 *
 * @typedef {'user' | 'hello' | 'resume' | 'gapRepair' | 'checkpoint' | 'ping' | 'refresh'} Origin
 */
/**
 * A command that has no answer yet.
 *
 * @typedef {object} Pending
 * @property {Frame} body without its number
 * @property {Origin} origin
 * @property {number} tries how often it was tried again because the server said so
 * @property {import('./pace.js').Flown | undefined} written the message with which it was written on this connection
 */
/**
 * Why nothing is written to a target now: the first send that was refused, and until when.
 *
 * @typedef {{by: number, until: number, paced: boolean}} Held
 */
/**
 * Frames to write as one message. `idempotent`: whether all of it may be carried out twice without harm.
 *
 * @typedef {{frames: Encoded[], bytes: number, idempotent: boolean}} Batch
 */
/**
 * What the server allows.
 *
 * @typedef {{message_bytes: number, content_bytes: number, batch: number, in_flight: number, page: number, rooms: number,
 *   depth: number, values: number}} ServerLimits
 */
/** All commands without an answer, in the order in which they were asked. */
export class Flight {
    /** @param {number} slowest bytes per second of the slowest uplink that is not taken for a dead one */
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
     * The command was answered, so that it has arrived.
     *
     * @param {number} now
     * @param {number} id
     */
    arrived(now: number, id: number): void;
    /**
     * The command was answered for good.
     *
     * @param {number} id
     */
    settle(id: number): Pending | undefined;
    /**
     * A send was refused for now. It keeps its number, and so its turn, and nothing is written to its target before `at`; if an
     * earlier one was refused as well, that one's pause counts. If that was `paced`, refused for the rate, the longest pause counts:
     * the pauses of those behind it cover all of them.
     *
     * @param {number} id
     * @param {number} at when to try again
     * @param {boolean} [paced]
     */
    retry(id: number, at: number, paced?: boolean): void;
    /**
     * The connection is gone. What can be repeated safely waits for the next one; the rest of the application's commands is
     * given back, and the client's own are forgotten: the next connection has its own.
     *
     * With `all`, the server closed because of something that was written: repeating it would only do it again. What would undo
     * a later command (`undoes`) is given back too.
     *
     * @param {boolean} all
     * @param {(body: Frame, id: number) => boolean} undoes
     * @returns {[number, Pending][]}
     */
    cut(all: boolean, undoes: (body: Frame, id: number) => boolean): [number, Pending][];
    /** All commands of the application, given back because the client ends. */
    end(): [number, Pending][];
    /** Whether the connection could be given up now without an outcome being unknown. */
    isSafeToMove(): boolean;
    /** Whether it is not known what has become of a command that changes the session's checkpoint. */
    mayHaveMovedCheckpoint(): boolean;
    /** @param {(pending: Pending) => boolean} test */
    every(test: (pending: Pending) => boolean): boolean;
    /**
     * The newest `subscribe` or `unsubscribe` for this room that has no answer yet.
     *
     * @param {string} room
     */
    subscribing(room: string): {
        id: number;
        t: string;
    } | undefined;
    /** The number of the oldest command without an answer that names rooms to subscribe to or to leave. */
    oldestSubscribing(): number;
    /** How many of the application's commands fulfil `test`. @param {(body: Frame) => boolean} test */
    count(test: (body: Frame) => boolean): number;
    /** When something may be written to a target that is held and of which no answer is awaited. */
    deadline(): number;
    /**
     * Whether no earlier send to the target of this one is without an answer.
     *
     * @param {number} id
     */
    isNext(id: number): boolean;
    /** @param {string} target */
    isUnderWay(target: string): boolean;
    /**
     * The next message to write, within what the server and the pace of its answers allow; undefined if there is nothing to
     * write now. Commands that can never be written land in `refused`.
     *
     * @param {number} now
     * @param {ServerLimits} limits
     * @param {Codec} codec
     * @param {[number, ImError][]} refused
     * @returns {Batch | undefined}
     */
    batch(now: number, limits: ServerLimits, codec: Codec, refused: [number, ImError][]): Batch | undefined;
    /** Targets whose pause is over, and to which nothing is under way any more, take sends again. @param {number} now */
    releaseTargets(now: number): void;
    countWritten(): number;
}
export type Frame = import("../wire/value.js").Frame;
export type Codec = import("../wire/codec.js").Codec;
export type Encoded = import("../wire/codec.js").Encoded;
/**
 * Who wants to know the answer: the application, or the client itself to greet, to subscribe to rooms again, to repair a gap in
 * `room`, to tell how far rooms have arrived, to hear whether the server is still there, to show a new token.
 */
export type Origin = "user" | "hello" | "resume" | "gapRepair" | "checkpoint" | "ping" | "refresh";
/**
 * A command that has no answer yet.
 */
export type Pending = {
    /**
     * without its number
     */
    body: Frame;
    origin: Origin;
    /**
     * how often it was tried again because the server said so
     */
    tries: number;
    /**
     * the message with which it was written on this connection
     */
    written: import("./pace.js").Flown | undefined;
};
/**
 * Why nothing is written to a target now: the first send that was refused, and until when.
 */
export type Held = {
    by: number;
    until: number;
    paced: boolean;
};
/**
 * Frames to write as one message. `idempotent`: whether all of it may be carried out twice without harm.
 */
export type Batch = {
    frames: Encoded[];
    bytes: number;
    idempotent: boolean;
};
/**
 * What the server allows.
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

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
export function onPush(machine: Machine, now: number, frame: Frame): void;
/**
 * Applies waiting pushes once no answer is due before them any more.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {boolean} isDone whether the awaited command was carried out
 */
export function releaseEarly(machine: Machine, now: number, isDone: boolean): void;
/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Pushes of rooms whose `subscribe` or `resume` is unanswered, on links where pushes and answers
 * are separate. They wait for the answer: before it they may belong to this subscription or to an
 * earlier one.
 *
 * If one had to be dropped, the room's missing events are requested after the answer.
 */
export class EarlyPushes {
    /** @param {number} most pushes that wait, of all rooms together */
    constructor(most: number);
    most: number;
    /** @type {Map<string, {frames: Frame[], isCut: boolean}>} By room. */
    rooms: Map<string, {
        frames: Frame[];
        isCut: boolean;
    }>;
    count: number;
    /** @param {Frame} frame */
    add(frame: Frame): void;
    /**
     * Removes and returns the waiting pushes of a room.
     *
     * @param {string} room
     */
    take(room: string): {
        frames: Frame[];
        isCut: boolean;
    };
    /** The connection has ended. */
    clear(): void;
}
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;

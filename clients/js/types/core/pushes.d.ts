/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
export function onPush(machine: Machine, now: number, frame: Frame): void;
/**
 * Looks at pushes that no answer is to come before any more.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {boolean} isDone whether what they waited for was carried out
 */
export function releaseEarly(machine: Machine, now: number, isDone: boolean): void;
/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Pushes of rooms whose `subscribe` or `resume` has no answer yet, on links where pushes come by another way than answers. They wait
 * for the answer: before it nothing says whether they belong to this subscription or to an earlier one.
 *
 * Of a room of which one had to be dropped, what is missing is asked for after the answer.
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
     * The pushes of a room, which are held no longer.
     *
     * @param {string} room
     */
    take(room: string): {
        frames: Frame[];
        isCut: boolean;
    };
    /** The connection is gone. */
    clear(): void;
}
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;

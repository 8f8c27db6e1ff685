/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('./flight.js').Pending} Pending
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
export function onOk(machine: Machine, now: number, frame: Frame): void;
/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
export function onRefusal(machine: Machine, now: number, refusal: Frame): void;
export type Machine = import("./machine.js").Machine;
export type Pending = import("./flight.js").Pending;
export type Frame = import("../wire/value.js").Frame;

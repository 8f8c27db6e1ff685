/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('./types.js').Online} Online
 * @typedef {import('./machine.js').Message} Message
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Message} message
 */
export function onMessage(machine: Machine, now: number, message: Message): void;
/**
 * Writes what is ready.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function flush(machine: Machine, now: number): void;
/**
 * Sends a heartbeat. An answer that is awaited already is awaited no longer than `within`.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 * @param {number} within milliseconds
 */
export function ping(machine: Machine, now: number, online: Online, within: number): void;
/**
 * @param {Machine} machine
 * @param {Online} online
 */
export function deadline(machine: Machine, online: Online): number;
/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 */
export function onTime(machine: Machine, now: number, online: Online): void;
export type Machine = import("./machine.js").Machine;
export type Online = import("./types.js").Online;
export type Message = import("./machine.js").Message;
export type Frame = import("../wire/value.js").Frame;

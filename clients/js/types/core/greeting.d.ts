/**
 * The first messages of a connection: the greeting and the resume.
 *
 * @module
 */
/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Sends the greeting, and the resume of all rooms in the same message.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function greet(machine: Machine, now: number): void;
/**
 * Writes the resume of all rooms, after `first` (the greeting) in the same message. Rooms whose
 * cursor equals the server's checkpoint need not be named.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {import('../wire/codec.js').Encoded} [first]
 */
export function writeResume({ traits, rooms, flight, outputs }: Machine, now: number, first?: import("../wire/codec.js").Encoded): void;
/**
 * Handles the welcome: the connection is open.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} welcome
 */
export function onWelcome(machine: Machine, now: number, welcome: Frame): void;
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;

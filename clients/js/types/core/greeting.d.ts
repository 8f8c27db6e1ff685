/**
 * The first words of a connection: greeting, and asking for the rooms.
 *
 * @module
 */
/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Greets, and asks for the rooms in the same flight.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function greet(machine: Machine, now: number): void;
/**
 * Asks for all rooms, after `first` (the greeting) in the same message. Those that are where the server's checkpoint has them
 * need not be named.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {import('../wire/codec.js').Encoded} [first]
 */
export function writeResume({ traits, rooms, flight, outputs }: Machine, now: number, first?: import("../wire/codec.js").Encoded): void;
/**
 * The server has answered the greeting: the connection stands.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} welcome
 */
export function onWelcome(machine: Machine, now: number, welcome: Frame): void;
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;

/**
 * @param {Value} value
 * @returns {Uint8Array}
 */
export function encode(value: Value): Uint8Array;
/**
 * Returns the head of a list of so many values, which are to follow.
 *
 * @param {number} length
 */
export function listHead(length: number): Uint8Array<ArrayBuffer>;
/**
 * @param {Uint8Array} bytes
 * @param {import('./value.js').Limits} [limits]
 * @returns {Value}
 * @throws {WireError}
 */
export function decode(bytes: Uint8Array, limits?: import("./value.js").Limits): Value;
export type Value = import("./value.js").Value;

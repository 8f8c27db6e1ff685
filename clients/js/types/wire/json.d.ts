/**
 * @param {Value} value
 * @returns {string}
 */
export function encode(value: Value): string;
/**
 * @param {string} text
 * @param {import('./value.js').Limits} [limits]
 * @returns {Value}
 * @throws {WireError}
 */
export function decode(text: string, limits?: import("./value.js").Limits): Value;
export type Value = import("./value.js").Value;

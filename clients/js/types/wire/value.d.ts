/**
 * Sets a member, also one named `__proto__`.
 *
 * @param {{[key: string]: Value}} map
 * @param {string} key
 * @param {Value} value
 */
export function put(map: {
    [key: string]: Value;
}, key: string, value: Value): void;
/**
 * Whether a text has no lone surrogates, and so can be encoded in UTF-8.
 *
 * @param {string} text
 */
export function isWellFormed(text: string): boolean;
/**
 * Returns a deep copy of an application's value, so that later changes have no effect: one message
 * id must mean one content. Members that are `undefined` are left out, `-0` becomes `0`, array
 * buffers and views become bytes.
 *
 * @param {unknown} value
 * @param {number} [depth] at most 64
 * @returns {Value}
 * @throws {WireError} if it is not a value: functions, class instances, NaN, lone surrogates …
 */
export function toValue(value: unknown, depth?: number): Value;
/**
 * Returns the size of a value: its bytes as MessagePack in the shortest form, its depth, and its
 * values as JSON counts them. Servers apply their limits for contents to these.
 *
 * @param {Value} value
 * @returns {{bytes: number, depth: number, values: number}}
 */
export function measure(value: Value): {
    bytes: number;
    depth: number;
    values: number;
};
/**
 * Bytes of a well-formed text in UTF-8.
 *
 * @param {string} text
 */
export function utf8Length(text: string): number;
/**
 * @param {Uint8Array} bytes
 * @throws {WireError} if it is not UTF-8
 */
export function fromUtf8(bytes: Uint8Array): string;
/**
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53
 * − 1) is a float.
 *
 * @typedef {null | boolean | number | string | Uint8Array | ValueList | ValueMap} Value
 * @typedef {any[]} ValueList of values; JSDoc cannot express the recursion
 * @typedef {{[key: string]: Value}} ValueMap
 */
/**
 * A frame: a map with its kind in `t`.
 *
 * @typedef {{[key: string]: any}} Frame
 */
/** The error of a value that cannot be encoded, or of invalid input. */
export class WireError extends Error {
    /**
     * @param {string} message
     * @param {number} [code] the code that a server would answer with
     */
    constructor(message: string, code?: number);
    code: number;
}
/**
 * Bounds for decoding. The defaults are generous, only to keep a faulty server from filling the
 * memory. Bytes of one message, depth of nesting, values (as SPEC counts them), frames of a batch.
 *
 * @typedef {{bytes: number, depth: number, values: number, batch: number}} Limits
 */
/** @type {Readonly<Limits>} */
export const GENEROUS: Readonly<Limits>;
/** Counts values and refuses too many. */
export class Counter {
    /** @param {Limits} limits */
    constructor(limits: Limits);
    left: number;
    limits: Limits;
    /** @param {number} [n] */
    count(n?: number): void;
    /** @param {number} depth of a list or map */
    enter(depth: number): void;
}
/**
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53
 * − 1) is a float.
 */
export type Value = null | boolean | number | string | Uint8Array | ValueList | ValueMap;
/**
 * of values; JSDoc cannot express the recursion
 */
export type ValueList = any[];
/**
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53
 * − 1) is a float.
 */
export type ValueMap = {
    [key: string]: Value;
};
/**
 * A frame: a map with its kind in `t`.
 */
export type Frame = {
    [key: string]: any;
};
/**
 * Bounds for decoding. The defaults are generous, only to keep a faulty server from filling the
 * memory. Bytes of one message, depth of nesting, values (as SPEC counts them), frames of a batch.
 */
export type Limits = {
    bytes: number;
    depth: number;
    values: number;
    batch: number;
};

/**
 * Sets a member also where its name is `__proto__`.
 *
 * @param {{[key: string]: Value}} map
 * @param {string} key
 * @param {Value} value
 */
export function put(map: {
    [key: string]: Value;
}, key: string, value: Value): void;
/**
 * Whether a text has no lone surrogates, and so is what UTF-8 can say.
 *
 * @param {string} text
 */
export function isWellFormed(text: string): boolean;
/**
 * A deep copy of what an application handed over, so that it cannot change any more: the same message id must mean the
 * same content. Members that are `undefined` are left out, `-0` becomes `0`, array buffers and views become bytes.
 *
 * @param {unknown} value
 * @param {number} [depth] at most 64
 * @returns {Value}
 * @throws {WireError} for what is no value: functions, class instances, NaN, lone surrogates …
 */
export function toValue(value: unknown, depth?: number): Value;
/**
 * How large a value is: its bytes as MessagePack in the shortest form, how deep it nests, and its values as JSON counts
 * them. This is what servers hold contents against.
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
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53 − 1) is a float.
 *
 * @typedef {null | boolean | number | string | Uint8Array | ValueList | ValueMap} Value
 * @typedef {any[]} ValueList of values; JSDoc cannot say so without going round in a circle
 * @typedef {{[key: string]: Value}} ValueMap
 */
/**
 * A frame: a map with its kind in `t`.
 *
 * @typedef {{[key: string]: any}} Frame
 */
/** Something that cannot be put on the wire, or was found there and makes no sense. */
export class WireError extends Error {
    /**
     * @param {string} message
     * @param {number} [code] what a server would say to it
     */
    constructor(message: string, code?: number);
    code: number;
}
/**
 * Bounds on what is decoded. A client takes what its server sends; the defaults are only there so that a broken server
 * cannot fill its memory. Bytes of one message, depth of nesting, values (as SPEC counts them), frames of a batch.
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
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53 − 1) is a float.
 */
export type Value = null | boolean | number | string | Uint8Array | ValueList | ValueMap;
/**
 * of values; JSDoc cannot say so without going round in a circle
 */
export type ValueList = any[];
/**
 * Null, boolean, finite number, well-formed text, bytes, a list or a map. An integer beyond ±(2^53 − 1) is a float.
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
 * Bounds on what is decoded. A client takes what its server sends; the defaults are only there so that a broken server
 * cannot fill its memory. Bytes of one message, depth of nesting, values (as SPEC counts them), frames of a batch.
 */
export type Limits = {
    bytes: number;
    depth: number;
    values: number;
    batch: number;
};

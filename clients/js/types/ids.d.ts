/**
 * Whether a text may be an id of this kind.
 *
 * @param {IdKind} kind
 * @param {unknown} text
 */
export function isId(kind: IdKind, text: unknown): boolean;
/**
 * @template {unknown} T
 * @param {IdKind} kind
 * @param {T} text
 * @returns {T}
 * @throws {ImError} `invalid`
 */
export function checkId<T extends unknown>(kind: IdKind, text: T): T;
/** Returns a new id with 128 random bits, for a device. */
export function randomId(): string;
/**
 * Returns a new message id: a UUIDv7 (RFC 9562, section 5.7). Servers store ids that begin with the
 * time faster.
 */
export function messageId(): string;
/**
 * Returns the id of the direct room of two users. Browsers compute it only on pages of https (or
 * localhost).
 *
 * @param {string} one
 * @param {string} other
 * @returns {Promise<string>}
 */
export function directRoom(one: string, other: string): Promise<string>;
/** @param {unknown} text */
export function isEpoch(text: unknown): boolean;
/**
 * @param {unknown} text
 * @returns {[number, number, number] | undefined} undefined if it is not a stamp
 */
export function parseStamp(text: unknown): [number, number, number] | undefined;
/**
 * Orders stamps: below zero if `a` is the older one.
 *
 * @param {string} a
 * @param {string} b
 */
export function compareStamps(a: string, b: string): number;
export type IdKind = "user" | "device" | "room" | "state key" | "message" | "session" | "event kind";

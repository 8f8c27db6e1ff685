/** @param {'json' | 'msgpack'} encoding */
export function codecOf(encoding: "json" | "msgpack"): Codec;
/**
 * The frames of a message: text is JSON, bytes are MessagePack, a list is what another page of this
 * browser sent.
 *
 * @param {Message} message
 * @param {import('./value.js').Limits} [limits]
 * @returns {Frame[]}
 * @throws {WireError}
 */
export function decodeMessage(message: Message, limits?: import("./value.js").Limits): Frame[];
/**
 * @typedef {import('./value.js').Frame} Frame
 * @typedef {string | Uint8Array | Frame[]} Message one message of a link: one frame or several
 * @typedef {{data: string | Uint8Array | Frame, bytes: number}} Encoded one frame, and its size on
 *   the wire
 */
/**
 * @typedef {object} Codec
 * @property {string} name
 * @property {(frame: Frame) => Encoded} encode
 * @property {(frames: Encoded[]) => Message} join combines encoded frames, at least one, into one
 *   message
 */
/** @type {Codec} */
export const JSON_CODEC: Codec;
/** @type {Codec} */
export const MSGPACK_CODEC: Codec;
/**
 * Frames as they are, for channels between pages of one browser that clone what they carry.
 *
 * @type {Codec}
 */
export const CLONE_CODEC: Codec;
export type Frame = import("./value.js").Frame;
/**
 * one message of a link: one frame or several
 */
export type Message = string | Uint8Array | Frame[];
/**
 * one frame, and its size on
 *  the wire
 */
export type Encoded = {
    data: string | Uint8Array | Frame;
    bytes: number;
};
export type Codec = {
    name: string;
    encode: (frame: Frame) => Encoded;
    /**
     * combines encoded frames, at least one, into one
     * message
     */
    join: (frames: Encoded[]) => Message;
};

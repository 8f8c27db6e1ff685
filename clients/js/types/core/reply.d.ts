/**
 * @param {Frame} frame
 * @returns {boolean} false for an unknown kind, which is to be ignored
 * @throws {WireError} if a field is missing or invalid
 */
export function checkPush(frame: Frame): boolean;
/**
 * @param {string} command the kind of the command that is answered
 * @param {Frame} frame
 * @throws {WireError}
 */
export function checkReply(command: string, frame: Frame): void;
export type Frame = import("../wire/value.js").Frame;
export type Check = (value: any) => boolean;

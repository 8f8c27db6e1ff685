/** @param {Uint8Array} bytes */
export function encodeBase64(bytes: Uint8Array): string;
/**
 * @param {string} text
 * @returns {Uint8Array | undefined} undefined if it is no base64, or another than `encodeBase64` writes
 */
export function decodeBase64(text: string): Uint8Array | undefined;

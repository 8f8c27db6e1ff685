/** @param {Uint8Array} bytes */
export function encodeBase64(bytes: Uint8Array): string;
/**
 * @param {string} text
 * @returns {Uint8Array | undefined} undefined if it is not base64 as `encodeBase64` writes it
 */
export function decodeBase64(text: string): Uint8Array | undefined;

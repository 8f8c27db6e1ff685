/**
 * Standard base64 with padding (RFC 4648 section 4), strict: one text for each sequence of bytes.
 *
 * @module
 */

/** Bytes that `String.fromCharCode` gets at once; engines bound the number of arguments. */
const CHUNK = 8192;

/** @param {Uint8Array} bytes */
export function encodeBase64(bytes) {
  let binary = '';
  for (let at = 0; at < bytes.length; at += CHUNK) {
    binary += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return btoa(binary);
}

/**
 * @param {string} text
 * @returns {Uint8Array | undefined} undefined if it is not base64 as `encodeBase64` writes it
 */
export function decodeBase64(text) {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) return undefined;
  const binary = atob(text);
  const bytes = Uint8Array.from(binary, (unit) => unit.charCodeAt(0));
  // Bits left over in the last character.
  const tail = encodeBase64(bytes.subarray(bytes.length - (bytes.length % 3 || 3)));
  return text.endsWith(bytes.length === 0 ? '' : tail) ? bytes : undefined;
}

import { readFileSync } from 'node:fs';

/**
 * A file of wire/vectors.
 *
 * @param {string} name
 */
export function vectors(name) {
  return JSON.parse(readFileSync(new URL(`../../../../wire/vectors/${name}`, import.meta.url), 'utf8'));
}

/** @param {string} hex */
export function fromHex(hex) {
  return Uint8Array.from(hex.match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

/** @param {Uint8Array} bytes */
export function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

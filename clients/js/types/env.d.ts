/**
 * Clocks, WebSocket and wake-ups of browsers and Node.
 *
 * @module
 */
/** @typedef {import('./links/link.js').Env} Env */
/**
 * A monotonic clock in milliseconds that counts the time that the machine sleeps.
 * `performance.now()` stops meanwhile on some systems, and `Date.now()` can be set.
 *
 * @param {() => number} [steady]
 * @param {() => number} [wall]
 */
export function clock(steady?: () => number, wall?: () => number): () => number;
/** @returns {Env} */
export function environment(): Env;
/**
 * Calls `wake` when the network changed, the page is shown again, or the machine woke up.
 *
 * @param {() => void} wake
 * @returns {() => void} stops it
 */
export function onWake(wake: () => void): () => void;
export type Env = import("./links/link.js").Env;

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
export function clock(steady = () => performance.now(), wall = Date.now) {
  let [elapsed, lastSteady, lastWall] = [0, steady(), wall()];
  return () => {
    const [nowSteady, nowWall] = [steady(), wall()];
    elapsed += Math.max(0, nowSteady - lastSteady, nowWall - lastWall);
    [lastSteady, lastWall] = [nowSteady, nowWall];
    return elapsed;
  };
}

/**
 * @returns {Promise<any>} the constructor of WebSockets; for Node before version 22, which has
 *   none, a small one
 */
async function webSocket() {
  if (globalThis.WebSocket) return globalThis.WebSocket;
  const module = './links/ws-node.js';
  return (await import(/* webpackIgnore: true */ /* @vite-ignore */ module)).NodeWebSocket;
}

/** @returns {Env} */
export function environment() {
  return {
    now: clock(),
    wallClock: Date.now,
    random: Math.random,
    setTimeout: (callback, ms) => setTimeout(callback, ms),
    clearTimeout: (timer) => clearTimeout(timer),
    fetch: (...request) => fetch(...request),
    webSocket,
  };
}

/**
 * Calls `wake` when the network changed, the page is shown again, or the machine woke up.
 *
 * @param {() => void} wake
 * @returns {() => void} stops it
 */
export function onWake(wake) {
  const page = typeof document === 'undefined' ? undefined : document;
  const shown = () => page?.visibilityState === 'visible' && wake();
  const scope = typeof globalThis.addEventListener === 'function' ? globalThis : undefined;
  const events = ['online', 'offline', 'pageshow'];
  for (const event of events) scope?.addEventListener(event, wake);
  page?.addEventListener('visibilitychange', shown);
  page?.addEventListener('resume', wake);
  return () => {
    for (const event of events) scope?.removeEventListener(event, wake);
    page?.removeEventListener('visibilitychange', shown);
    page?.removeEventListener('resume', wake);
  };
}

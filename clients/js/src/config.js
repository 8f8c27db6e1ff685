/**
 * Settings, each with its unit, its default and what it costs.
 *
 * @module
 */

/**
 * When to come back after a connection ended. The pause doubles with each failure, and is drawn at random between half
 * and the whole of it, so that many clients do not come back at once; a server's own wish for a longer one is honoured.
 *
 * @typedef {object} Reconnect
 * @property {number} baseMs The first pause: 500 ms by default.
 * @property {number} maxMs No pause is longer, unless the server asks for it: 30 s by default.
 * @property {number} attempts After so many failures in a row the client gives up: never, by default.
 * @property {number} stableMs A connection that lasted this long was a success: the next pause is a first one again.
 *   10 s by default. One that ended for no fault of the server's counts as a success at once.
 */

/**
 * How a client behaves.
 *
 * @typedef {object} Config
 * @property {Reconnect} reconnect
 * @property {number} connectTimeoutMs From the start of a connection until the server's welcome. 10 s by default.
 * @property {number} pingTimeoutMs How long the answer to a heartbeat may take before the connection counts as dead.
 *   10 s by default.
 * @property {number} wakeTimeoutMs The same when the machine woke up or the network changed. 4 s by default.
 * @property {number} tokenTimeoutMs How long a token may take to come from `token`; then the call counts as failed, and another
 *   one follows after a pause. 30 s by default.
 * @property {number} slowestUplink Bytes per second of the slowest uplink that is not taken for a dead one: what is under way
 *   adds to the times above. 500 by default, as servers have it: a message of 64 KiB may take two minutes more.
 * @property {number} maxUnsent Sends without a ack; the next one is refused as `full`. 256 by default, each with its
 *   content (the server's `content_bytes` at most) in memory.
 * @property {number} maxCommands Other commands without an answer; the next one is refused as `full`. 256 by default.
 * @property {number} maxQueued Events that wait in one iterator. 1,024 by default. One that falls behind drops its
 *   queue and reads on from the room's history: nothing durable is lost.
 * @property {number} maxEarly Pushes over HTTP that come before the answer to their subscription, of all rooms together. 1,024 by
 *   default: pages of five rooms. At worst each has the server's `content_bytes` in memory. Beyond that they are dropped, and
 *   the client asks for what is missing.
 * @property {number} sendRetries How often a send is tried again that the server refused for now (codes 41xx and 42xx), when
 *   it was its turn. 5 by default. After that it fails, and those behind it go on without it.
 * @property {number} checkpointRooms How many rooms may have moved before the server is told how far each has arrived, so
 *   that coming back takes one small message. 16 by default: with fewer rooms than that nothing is told.
 * @property {number} checkpointMs The time between two such tellings. 30 s by default.
 * @property {number} pollMs The pause between two short polls that bring nothing. 3 s by default.
 * @property {number} holdMs How long a long poll may be held. 25 s by default.
 * @property {number} firstByteMs How long the first byte of an event stream may take. 15 s by default, as `wire/SPEC.md` says. If
 *   nothing has ever come by then, something in between holds streams back, and another transport is taken.
 * @property {number} heartbeatMs After how long without anything to say a server sends a sign of life on an event stream, until it
 *   has said so itself. 20 s by default, as servers have it. A stream that is silent for three times as long is taken up anew.
 * @property {number} upgradeMs After how long on a lesser transport a better one is tried again. 30 s by default; it
 *   doubles with each failure up to 20 times that.
 */

/** @typedef {Partial<Omit<Config, 'reconnect'>> & {reconnect?: Partial<Reconnect>}} ConfigOptions */

/**
 * @param {ConfigOptions} [options]
 * @returns {Config}
 */
export function configOf(options = {}) {
  /** @type {Reconnect} */
  const reconnect = { baseMs: 500, maxMs: 30_000, attempts: Infinity, stableMs: 10_000, ...options.reconnect };
  return {
    connectTimeoutMs: 10_000,
    pingTimeoutMs: 10_000,
    wakeTimeoutMs: 4_000,
    tokenTimeoutMs: 30_000,
    slowestUplink: 500,
    maxUnsent: 256,
    maxCommands: 256,
    maxQueued: 1024,
    maxEarly: 1024,
    sendRetries: 5,
    checkpointRooms: 16,
    checkpointMs: 30_000,
    pollMs: 3_000,
    holdMs: 25_000,
    firstByteMs: 15_000,
    heartbeatMs: 20_000,
    upgradeMs: 30_000,
    ...options,
    reconnect,
  };
}

/**
 * Settings, each with its unit, its default and its cost.
 *
 * @module
 */

/**
 * When to reconnect. The pause doubles with each failure, and is drawn at random between half and
 * the whole of it, so that many clients do not reconnect at once; a longer `retry_ms` of the server
 * takes precedence.
 *
 * @typedef {object} Reconnect
 * @property {number} baseMs The first pause: 500 ms by default.
 * @property {number} maxMs The longest pause, unless the server asks for a longer one: 30 s by
 *   default.
 * @property {number} attempts Failures in a row after which the client ends: no limit by default.
 * @property {number} stableMs A connection that lasted this long counts as a success: the next
 *   pause is a first one again. 10 s by default. A connection that ended through no fault of the
 *   server counts as a success at once.
 */

/**
 * Configuration of a client.
 *
 * @typedef {object} Config
 * @property {Reconnect} reconnect
 * @property {number} connectTimeoutMs From the start of a connection until the server's welcome. 10
 *   s by default.
 * @property {number} pingTimeoutMs Time in which a heartbeat must be answered, otherwise the
 *   connection counts as dead. 10 s by default.
 * @property {number} wakeTimeoutMs The same after the machine woke up or the network changed. 4 s
 *   by default.
 * @property {number} tokenTimeoutMs Time limit of a call of `token`; after it the call counts as
 *   failed, and another one follows after a pause. 30 s by default.
 * @property {number} slowestUplink Bytes per second of the slowest uplink that does not count as
 *   dead: bytes in flight extend the times above. 500 by default, as on servers: a message of 64
 *   KiB may take two minutes more.
 * @property {number} maxUnsent Sends without an ack; the next one is refused as `full`. 256 by
 *   default, each with its content (the server's `content_bytes` at most) in memory.
 * @property {number} maxCommands Other commands without an answer; the next one is refused as
 *   `full`. 256 by default.
 * @property {number} maxQueued Events that wait in one iterator. 1,024 by default. An iterator that
 *   falls behind drops its queue and catches up from the room's history: nothing durable is lost.
 * @property {number} maxEarly Pushes over HTTP that arrive before the answer to their subscription,
 *   of all rooms together. 1,024 by default: pages of five rooms. At worst each has the server's
 *   `content_bytes` in memory. Beyond that they are dropped, and the client requests the missing
 *   events.
 * @property {number} sendRetries Retries of a send after retryable refusals (codes 41xx and 42xx)
 *   that were not due to an earlier send. 5 by default. After them the send fails, and those behind
 *   it continue without it.
 * @property {number} checkpointRooms How many rooms may differ from the server's checkpoint before
 *   the client sends one, so that a resume takes one small message. 16 by default: with fewer rooms
 *   than that no checkpoint is sent.
 * @property {number} checkpointMs The least time between two checkpoints. 30 s by default.
 * @property {number} pollMs The pause between two short polls that return nothing. 3 s by default.
 * @property {number} holdMs How long a long poll may be held. 25 s by default.
 * @property {number} firstByteMs How long the first byte of an event stream may take. 15 s by
 *   default, as `wire/SPEC.md` says. If nothing has ever arrived by then, a proxy buffers streams,
 *   and another transport is used.
 * @property {number} heartbeatMs The interval of the server's heartbeats on an idle event stream,
 *   until the server has announced its own. 20 s by default, as on servers. A stream that is silent
 *   for three times as long is reopened.
 * @property {number} upgradeMs After how long on a lesser transport a better one is tried again. 30
 *   s by default; it doubles with each failure up to 20 times that.
 */

/**
 * @typedef {Partial<Omit<Config, 'reconnect'>> & {reconnect?: Partial<Reconnect>}} ConfigOptions
 */

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

/**
 * The choice among transports: the best that works, and a better one again after a while.
 *
 * Failures do not count while no other transport works either: then the server is down. A transport
 * is passed over only when another one works in its place, for a time that doubles with each
 * failure.
 *
 * @module
 */

/** @typedef {import('../links/link.js').Transport} Transport */

/** Failures after which a transport that has worked here before is passed over. */
const PATIENCE = 3;
/**
 * Failures for one that has not worked, if it is refused at once: a gateway may do that for a
 * moment. Otherwise one.
 */
const FIRST_PATIENCE = 2;
/** The longest time for which a transport is passed over, as a multiple of the first. */
const LONGEST = 20;

/**
 * The state of one transport at this server.
 *
 * @typedef {{worked: boolean, failures: number, pauseMs: number, until: number}} Rung
 */

export class Ladder {
  /**
   * @param {Transport[]} order the best first, at least one
   * @param {number} upgradeMs how long a transport is passed over the first time
   */
  constructor(order, upgradeMs) {
    this.order = order;
    this.upgradeMs = upgradeMs;
    /** @type {Map<Transport, Rung>} */
    this.rungs = new Map(order.map((name) => [name, { worked: false, failures: 0, pauseMs: 0, until: 0 }]));
    /** @type {Set<Transport>} Transports that failed since one worked. */
    this.failing = new Set();
  }

  /** @param {Transport} name */
  rung(name) {
    return /** @type {Rung} */ (this.rungs.get(name));
  }

  /**
   * Returns the transport for the next try.
   *
   * @param {number} now
   * @returns {Transport}
   */
  choose(now) {
    const untried = this.order.filter((name) => !this.failing.has(name));
    if (untried.length === 0) this.failing.clear();
    const choice = untried.find((name) => this.rung(name).until <= now) ?? untried[0];
    return choice ?? this.order.find((name) => this.rung(name).until <= now) ?? this.order[0];
  }

  /**
   * Records that a try carried nothing. `unfit`: the transport is known to be at fault, however
   * often it has worked. `isQuick`: it was refused at once, so that another try costs no time.
   *
   * @param {Transport} name
   * @param {boolean} unfit
   * @param {boolean} [isQuick]
   */
  failed(name, unfit, isQuick = false) {
    const rung = this.rung(name);
    rung.failures += 1;
    const patience = rung.worked ? PATIENCE : isQuick ? FIRST_PATIENCE : 1;
    if (unfit || rung.failures >= patience) this.failing.add(name);
  }

  /**
   * Records that the transport works. Better ones that failed before it are passed over for a time.
   *
   * @param {number} now
   * @param {Transport} name
   */
  works(now, name) {
    Object.assign(this.rung(name), { worked: true, failures: 0, pauseMs: 0, until: 0 });
    this.failing.delete(name);
    for (const other of this.failing) this.passOver(now, other);
    this.failing.clear();
  }

  /**
   * @param {number} now
   * @param {Transport} name
   */
  passOver(now, name) {
    const rung = this.rung(name);
    rung.pauseMs = Math.min(rung.pauseMs * 2 || this.upgradeMs, this.upgradeMs * LONGEST);
    rung.until = now + rung.pauseMs;
    rung.failures = 0;
  }

  /**
   * Returns which better transport than this one is to be tried again, and when; undefined if this
   * is the best.
   *
   * @param {Transport} name
   * @returns {{at: number, name: Transport} | undefined}
   */
  better(name) {
    const above = this.order.slice(0, this.order.indexOf(name));
    const all = above.map((other) => ({ at: this.rung(other).until, name: other }));
    return all.reduce((best, one) => (best && best.at <= one.at ? best : one), all.at(0));
  }

  /**
   * Returns the state for another client of the same server.
   *
   * @param {number} now
   * @returns {Record<string, [number, number]>} the milliseconds for which each is still passed
   *   over, and the whole time
   */
  save(now) {
    const passed = [...this.rungs].filter(([, rung]) => rung.until > now);
    return Object.fromEntries(passed.map(([name, { until, pauseMs }]) => [name, [until - now, pauseMs]]));
  }

  /**
   * @param {number} now
   * @param {any} saved from `save`, perhaps of another version
   */
  load(now, saved) {
    for (const [name, rung] of this.rungs) {
      const [left, pauseMs] = Array.isArray(saved?.[name]) ? saved[name] : [];
      if (!Number.isFinite(left) || !Number.isFinite(pauseMs)) continue;
      rung.pauseMs = Math.min(Math.max(0, pauseMs), this.upgradeMs * LONGEST);
      rung.until = now + Math.min(Math.max(0, left), rung.pauseMs);
    }
  }
}

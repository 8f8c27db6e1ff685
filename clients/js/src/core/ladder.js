/**
 * Which transport to use: the best that works, and a better one again after a while.
 *
 * A transport that fails is not held against it as long as nothing else works either: then the server is away. Only when
 * another one works in its place is it passed over for a time, which doubles with each failure.
 *
 * @module
 */

/** @typedef {import('../links/link.js').Transport} Transport */

/** After so many failures a transport that has worked here before is passed over. */
const PATIENCE = 3;
/** One that has not, after so many if it is refused at once: a gateway may do that in passing. Else after the first. */
const FIRST_PATIENCE = 2;
/** The longest time for which one is passed over, as a multiple of the first. */
const LONGEST = 20;

/**
 * What is known of one transport at this server.
 *
 * @typedef {{worked: boolean, failures: number, pauseMs: number, until: number}} Rung
 */

export class Ladder {
  /**
   * @param {Transport[]} order the best first, at least one
   * @param {number} upgradeMs for how long a transport is passed over at first
   */
  constructor(order, upgradeMs) {
    this.order = order;
    this.upgradeMs = upgradeMs;
    /** @type {Map<Transport, Rung>} */
    this.rungs = new Map(order.map((name) => [name, { worked: false, failures: 0, pauseMs: 0, until: 0 }]));
    /** @type {Set<Transport>} Those that failed since one worked. */
    this.failing = new Set();
  }

  /** @param {Transport} name */
  rung(name) {
    return /** @type {Rung} */ (this.rungs.get(name));
  }

  /**
   * The transport for the next try.
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
   * It was tried, and carried nothing. `unfit`: it is known to be at fault, however often it has worked. `isQuick`: it was
   * refused at once, so that another try costs no time.
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
   * It works. Better ones that failed before it are passed over for a time.
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
   * When a better transport than this one is to be tried again, and which; undefined if it is the best.
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
   * What another client of the same server need not find out again.
   *
   * @param {number} now
   * @returns {Record<string, [number, number]>} for how many milliseconds each is passed over, of how many
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

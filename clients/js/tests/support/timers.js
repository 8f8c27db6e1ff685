/** A virtual clock with timers. */
export class Timers {
  constructor() {
    this.now = 0;
    this.next = 1;
    /** @type {Map<number, {at: number, act: () => void}>} */
    this.all = new Map();
  }

  /** The environment of links. @param {Partial<import('../../src/links/link.js').Env>} [rest] */
  env(rest) {
    return /** @type {import('../../src/links/link.js').Env} */ ({
      now: () => this.now,
      wallClock: () => this.now,
      random: () => 0.5,
      setTimeout: (/** @type {() => void} */ act, /** @type {number} */ ms) => {
        this.next += 1;
        this.all.set(this.next, { at: this.now + ms, act });
        return this.next;
      },
      clearTimeout: (/** @type {number} */ timer) => void this.all.delete(timer),
      ...rest,
    });
  }

  /**
   * Advances the time, running every timer at its deadline and promises after each.
   * @param {number} ms
   */
  async pass(ms) {
    const until = this.now + ms;
    for (;;) {
      await new Promise(setImmediate);
      const [first] = [...this.all].filter(([, { at }]) => at <= until).sort(([, a], [, b]) => a.at - b.at);
      if (!first) break;
      this.all.delete(first[0]);
      this.now = Math.max(this.now, first[1].at);
      first[1].act();
    }
    this.now = until;
  }
}

/** Pauses that double, each drawn at random between half and the whole. */
export class Backoff {
  /**
   * @param {import('../config.js').Reconnect} policy
   * @param {() => number} random from 0 to 1
   */
  constructor(policy, random) {
    this.policy = policy;
    this.random = random;
    this.failures = 0;
  }

  /** Records a success: the next pause is a first one. */
  reset() {
    this.failures = 0;
  }

  /**
   * Returns the pause before the next try in milliseconds, or undefined after the last one.
   *
   * @param {number} [atLeast] the server's `retry_ms`, to which up to half is added at random
   */
  next(atLeast = 0) {
    const { baseMs, maxMs, attempts } = this.policy;
    if (this.failures >= attempts) return undefined;
    const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(this.failures, 30));
    this.failures += 1;
    return Math.max(ceiling * (0.5 + this.random() / 2), atLeast * (1 + this.random() / 2));
  }
}

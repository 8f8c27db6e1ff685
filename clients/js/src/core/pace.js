/**
 * How much may be on its way to the server, by the pace at which it answers.
 *
 * A batch arrives as a whole or not at all, and a heartbeat waits behind it. On a slow uplink a large one would never be
 * done before something cuts it off, and the next connection would begin with the same again. So a connection begins with
 * few bytes, and each answer in good time doubles them.
 *
 * @module
 */

/** Bytes without an answer at the start of a connection, and at least: about 20 short messages. */
const FIRST = 4096;
/** Bytes without an answer at most: more than 64 commands usually have. */
const MOST = 1 << 20;
/** Answers that come within this time let more be written, in milliseconds. */
const QUICK_MS = 1000;
/** Answers that take longer than this let less be written, in milliseconds. */
const SLOW_MS = 3000;

/** What one connection carries up. Sizes in bytes, as the codec counts them. */
export class Pace {
  /** @param {number} slowest bytes per second of the slowest uplink that is not taken for a dead one */
  constructor(slowest) {
    /** Bytes per millisecond that were seen to arrive. */
    this.best = Math.max(1, slowest) / 1000;
    this.window = FIRST;
    this.written = 0;
    this.arrived = 0;
    /** Since when what is under way has had the uplink for itself. */
    this.since = 0;
  }

  /** Bytes of which nothing says that they have arrived. */
  get underWay() {
    return this.written - this.arrived;
  }

  /**
   * Whether so many more bytes may be written now. What is larger than all that may be under way goes by itself.
   *
   * @param {number} bytes
   */
  fits(bytes) {
    return this.underWay + bytes <= this.window;
  }

  /**
   * A message is written.
   *
   * @param {number} now
   * @param {number} bytes
   * @returns {Flown} for `acked`, once something in that message was answered
   */
  wrote(now, bytes) {
    if (this.underWay === 0) this.since = now;
    const { arrived: before, since } = this;
    this.written += bytes;
    return { end: this.written, at: now, before, since };
  }

  /**
   * Something in a message was answered: all of it has arrived, and all that was written before.
   *
   * @param {number} now
   * @param {Flown} flown
   */
  acked(now, { end, at, before, since }) {
    const bytes = end - this.arrived;
    if (bytes <= 0) return;
    this.arrived = end;
    this.since = now;
    this.best = Math.max(this.best, (end - before) / Math.max(1, now - since));
    const took = now - at;
    if (took <= QUICK_MS) this.window = Math.min(MOST, this.window + bytes);
    else if (took > SLOW_MS) this.window = Math.max(FIRST, this.window / 2);
  }

  /** For how many milliseconds what is under way may take up the uplink, at the pace that was seen. */
  get graceMs() {
    return this.underWay / this.best;
  }
}

/**
 * A message on its way: where it ends in all that is written, when it was written, how much had arrived by then, and since when
 * the rest had the uplink for itself.
 *
 * @typedef {{end: number, at: number, before: number, since: number}} Flown
 */

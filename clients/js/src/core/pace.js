/**
 * How many bytes may be in flight, measured by the pace of answers.
 *
 * A batch arrives as a whole or not at all, and a heartbeat waits behind it. On a slow uplink a
 * large one would be cut before it completes, and the next connection would start with the same
 * batch. So a connection starts with few bytes, and each answer in good time doubles them.
 *
 * @module
 */

/** Bytes without an answer at the start of a connection, and at least: about 20 short messages. */
const FIRST = 4096;
/** Bytes without an answer at most: more than 64 commands usually have. */
const MOST = 1 << 20;
/** Answers within this time, in milliseconds, grow the window. */
const QUICK_MS = 1000;
/** Answers that take longer than this, in milliseconds, shrink it. */
const SLOW_MS = 3000;

/** The capacity of one connection's uplink. Sizes in bytes, as the codec counts them. */
export class Pace {
  /** @param {number} slowest bytes per second of the slowest uplink that does not count as dead */
  constructor(slowest) {
    /** Bytes per millisecond, measured. */
    this.best = Math.max(1, slowest) / 1000;
    this.window = FIRST;
    this.written = 0;
    this.arrived = 0;
    /** Since when the bytes in flight have had the uplink for themselves. */
    this.since = 0;
  }

  /** Bytes whose arrival is not confirmed. */
  get underWay() {
    return this.written - this.arrived;
  }

  /**
   * Whether so many more bytes may be written now. A message larger than the window is written
   * alone.
   *
   * @param {number} bytes
   */
  fits(bytes) {
    return this.underWay + bytes <= this.window;
  }

  /**
   * Records a written message.
   *
   * @param {number} now
   * @param {number} bytes
   * @returns {Flown} for `acked`, once a command in that message was answered
   */
  wrote(now, bytes) {
    if (this.underWay === 0) this.since = now;
    const { arrived: before, since } = this;
    this.written += bytes;
    return { end: this.written, at: now, before, since };
  }

  /**
   * Records an answer to a message: all of it has arrived, and all that was written before.
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

  /** How many milliseconds the bytes in flight may occupy the uplink, at the measured pace. */
  get graceMs() {
    return this.underWay / this.best;
  }
}

/**
 * A message in flight: its end in the sequence of all written bytes, when it was written, how many
 * bytes had arrived by then, and since when the rest had the uplink for itself.
 *
 * @typedef {{end: number, at: number, before: number, since: number}} Flown
 */

/**
 * One room with a subscription: its cursor, and when to ask for it again.
 *
 * @module
 */

import { RoomState } from './latest.js';

/** A room with a subscription. */
export class SubscribedRoom {
  /** @param {import('./rooms.js').Cursor} cursor */
  constructor(cursor) {
    /** The last event that was delivered to the application. */
    this.cursor = cursor;
    this.state = new RoomState();
    /** @type {number | undefined} The command whose answer will say where the room stands. */
    this.asked = undefined;
    /** How often it was asked for in vain. */
    this.tries = 0;
    /** @type {number | undefined} Something is missing; from then on it may be asked for. */
    this.gapAt = undefined;
    /** Whether a `resume` that named it was refused for now: it is asked for again by another. */
    this.wasRefused = false;
  }

  /**
   * Something is missing. It is asked for at once the first time; later tries wait, so that a server that cannot repair a
   * gap is not flooded.
   *
   * @param {number} now
   */
  missed(now) {
    if (this.asked !== undefined || this.gapAt !== undefined) return;
    this.gapAt = now + (this.tries === 0 ? 0 : 100 * 2 ** Math.min(this.tries, 8));
    this.tries += 1;
  }

  /**
   * The server refused for now. It is never asked again at once, and not before `retryMs` is over.
   *
   * @param {number} now
   * @param {number} [retryMs]
   */
  refused(now, retryMs = 0) {
    this.tries = Math.max(1, this.tries);
    this.missed(now);
    if (this.gapAt !== undefined) this.gapAt = Math.max(this.gapAt, now + retryMs);
  }
}

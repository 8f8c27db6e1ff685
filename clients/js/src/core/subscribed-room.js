/**
 * One subscribed room: its cursor, and when to request it again.
 *
 * @module
 */

import { RoomState } from './latest.js';

/** A subscribed room. */
export class SubscribedRoom {
  /** @param {import('./rooms.js').Cursor} cursor */
  constructor(cursor) {
    /** The last event that was delivered to the application. */
    this.cursor = cursor;
    this.state = new RoomState();
    /** @type {number | undefined} The command whose answer will decide about the room. */
    this.asked = undefined;
    /** How often the room was requested without success. */
    this.tries = 0;
    /** @type {number | undefined} Events are missing; they may be requested from this time on. */
    this.gapAt = undefined;
    /**
     * Whether a `resume` that named it was refused retryably: it is requested by another `resume`.
     */
    this.wasRefused = false;
  }

  /**
   * Records missing events. The first request is made at once; later ones wait, so that a server
   * that cannot close a gap is not flooded.
   *
   * @param {number} now
   */
  missed(now) {
    if (this.asked !== undefined || this.gapAt !== undefined) return;
    this.gapAt = now + (this.tries === 0 ? 0 : 100 * 2 ** Math.min(this.tries, 8));
    this.tries += 1;
  }

  /**
   * Records a retryable refusal. The room is never requested again at once, and not before
   * `retryMs` is over.
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

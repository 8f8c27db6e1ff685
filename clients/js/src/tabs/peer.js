import { WINDOW } from './channel.js';

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/rooms.js').Cursor} Cursor
 */

/**
 * A room that a tab follows: the last event that was sent there (undefined until that is known), the command that asked for
 * it until that is answered, whether it is being fed from history, and whether it is to get all of the state anew.
 *
 * @typedef {{sent?: Cursor, asked?: number, isBusy: boolean, needsState: boolean}} TabSubscription
 */

/** A tab, as the hub sees it. */
export class Peer {
  /**
   * @param {string} tab
   * @param {number} conn
   * @param {BroadcastChannel} channel
   */
  constructor(tab, conn, channel) {
    this.tab = tab;
    this.conn = conn;
    this.channel = channel;
    /** @type {Map<string, TabSubscription>} */
    this.rooms = new Map();
    this.sent = 0;
    this.acked = 0;
    this.isGone = false;
    /** @type {Frame | undefined} A greeting that waits until the connection stands. */
    this.hello = undefined;
    /** @type {(() => void)[]} */
    this.waiting = [];
  }

  /** Whether it takes more pushes. Replies are bounded by what it asks, and always go. */
  get hasRoom() {
    return this.sent - this.acked < WINDOW;
  }

  /** @param {Frame[]} frames */
  send(frames) {
    if (this.isGone || frames.length === 0) return;
    this.sent += 1;
    this.channel.postMessage({ conn: this.conn, frames });
  }

  /** @param {number} n messages that have arrived */
  ack(n) {
    this.acked = Math.max(this.acked, n);
    if (this.hasRoom) this.waiting.splice(0).forEach((go) => go());
  }

  /** Waits until it takes more, or is gone. */
  async room() {
    while (!this.hasRoom && !this.isGone) await new Promise((resolve) => this.waiting.push(() => resolve(undefined)));
  }

  open() {
    this.channel.postMessage({ conn: this.conn, open: true });
  }

  /** @param {import('../core/types.js').Cause} [cause] for the tab, if it is to be told */
  end(cause) {
    if (this.isGone) return;
    if (cause) this.channel.postMessage({ conn: this.conn, lost: cause });
    this.isGone = true;
    this.waiting.splice(0).forEach((go) => go());
    this.channel.close();
  }
}

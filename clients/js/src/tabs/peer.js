import { WINDOW } from './channel.js';

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/rooms.js').Cursor} Cursor
 */

/**
 * A tab's subscription to a room: the last event that was sent to it (undefined until known), the
 * command that asked for it until answered, whether it is catching up from history, and whether it
 * needs all of the state again.
 *
 * @typedef {{sent?: Cursor, asked?: number, isBusy: boolean, needsState: boolean}} TabSubscription
 */

/** A tab, seen by the hub. */
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
    /** @type {Frame | undefined} A greeting that waits until the connection is open. */
    this.hello = undefined;
    /** @type {(() => void)[]} */
    this.waiting = [];
  }

  /**
   * Whether more pushes may be sent. Replies are bounded by the tab's requests, and are always
   * sent.
   */
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

  /** Waits until more may be sent, or the tab is gone. */
  async room() {
    while (!this.hasRoom && !this.isGone) await new Promise((resolve) => this.waiting.push(() => resolve(undefined)));
  }

  open() {
    this.channel.postMessage({ conn: this.conn, open: true });
  }

  /** @param {import('../core/types.js').Cause} [cause] to be sent to the tab, if given */
  end(cause) {
    if (this.isGone) return;
    if (cause) this.channel.postMessage({ conn: this.conn, lost: cause });
    this.isGone = true;
    this.waiting.splice(0).forEach((go) => go());
    this.channel.close();
  }
}

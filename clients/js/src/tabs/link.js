import { CLONE_CODEC } from '../wire/codec.js';
import { ACK_EVERY } from './channel.js';

/**
 * @typedef {import('../links/link.js').Link} Link
 * @typedef {import('../links/link.js').LinkEvents} LinkEvents
 * @typedef {import('./channel.js').FromHub} FromHub
 */

/** A hub that does not answer for this long is dead or frozen, in milliseconds. */
const HUB_MS = 8000;

let connections = 0;

/**
 * The link to the tab that holds the connection.
 *
 * @implements {Link}
 */
export class TabLink {
  /**
   * @param {object} setup
   * @param {string} setup.name
   * @param {string} setup.tab
   * @param {import('./channel.js').TabsEnv} setup.tabs
   * @param {import('../links/link.js').Env} setup.env
   * @param {Promise<void>} setup.alive before it settles, the hub would count this tab as dead
   * @param {() => void} setup.usurp takes the lead from a hub that does not answer
   * @param {LinkEvents} events
   */
  constructor({ name, tab, tabs, env, alive, usurp }, events) {
    this.transport = 'tab';
    this.traits = { codec: CLONE_CODEC, duplex: true };
    this.events = events;
    this.tab = tab;
    connections += 1;
    this.conn = connections;
    this.env = env;
    this.alive = alive;
    this.usurp = usurp;
    this.received = 0;
    this.isOpen = false;
    this.isDone = false;
    const { BroadcastChannel } = tabs;
    this.toHub = new BroadcastChannel(`im/${name}/hub`);
    this.fromHub = new BroadcastChannel(`im/${name}/tab/${tab}`);
    this.news = new BroadcastChannel(`im/${name}/news`);
  }

  open() {
    this.fromHub.onmessage = ({ data }) => this.on(data);
    this.news.onmessage = () => {
      if (this.isOpen) this.lost({ message: 'another tab holds the connection now' });
      else this.knock();
    };
    this.timer = this.env.setTimeout(this.usurp, HUB_MS);
    this.knock();
  }

  async knock() {
    await this.alive;
    this.post({ open: true });
  }

  /** @param {Omit<import('./channel.js').FromTab, 'tab' | 'conn'>} message */
  post(message) {
    if (!this.isDone) this.toHub.postMessage({ tab: this.tab, conn: this.conn, ...message });
  }

  /** @param {FromHub} message */
  on({ conn, open, frames, lost }) {
    if (conn !== this.conn || this.isDone) return;
    if (open && !this.isOpen) {
      this.isOpen = true;
      this.env.clearTimeout(this.timer);
      this.events.open();
    }
    if (frames) {
      this.received += 1;
      if (this.received % ACK_EVERY === 0) this.post({ ack: this.received });
      this.events.message(frames);
    }
    if (lost) this.lost(lost);
  }

  /** @param {import('../wire/codec.js').Message} message */
  send(message) {
    this.post({ frames: /** @type {import('../wire/value.js').Frame[]} */ (message) });
  }

  welcome() {}

  nudge() {}

  /** @param {import('../core/types.js').Cause} cause */
  lost(cause) {
    if (this.isDone) return;
    this.close();
    this.events.lost(cause);
  }

  close() {
    if (this.isDone) return;
    this.post({ close: true });
    this.isDone = true;
    this.env.clearTimeout(this.timer);
    for (const channel of [this.toHub, this.fromHub, this.news]) channel.close();
  }
}

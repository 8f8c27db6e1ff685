import { Code } from '../codes.js';
import { ImError } from '../error.js';
import { Peer } from './peer.js';
import { forward, stateOf, subscribe } from './catch-up.js';

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/types.js').ClientEvent} ClientEvent
 * @typedef {import('../core/types.js').Cause} Cause
 * @typedef {import('../shell.js').Shell} Shell
 * @typedef {import('./channel.js').FromTab} FromTab
 */

/** The hub's idle time, in milliseconds: tabs send a heartbeat three times as often. */
const IDLE_MS = 30_000;
/** Rooms that are resumed at the same time when a tab connects. */
const TOGETHER = 32;

/** Serves all tabs of a page over one connection. Runs in the tab that leads. */
export class Hub {
  /**
   * @param {object} setup
   * @param {string} setup.name
   * @param {import('./channel.js').TabsEnv} setup.tabs
   * @param {(onEvent: (event: ClientEvent) => void) => Shell} setup.connect opens the connection to
   *   the server
   */
  constructor({ name, tabs, connect }) {
    this.name = name;
    this.tabs = tabs;
    /** @type {Map<string, Peer>} */
    this.peers = new Map();
    /** @type {Map<string, Promise<Frame>>} Rooms that the hub is subscribing to. */
    this.subscribing = new Map();
    this.leaving = new AbortController();
    /** @type {Frame | undefined} The server's welcome, while the connection is open. */
    this.welcome = undefined;
    /** @type {Cause | undefined} Why the client has ended. */
    this.ended = undefined;
    this.fromTabs = new tabs.BroadcastChannel(`im/${name}/hub`);
    this.fromTabs.onmessage = ({ data }) => this.on(data);
    this.shell = connect((event) => this.onEvent(event));
    this.shell.start();
    const news = new tabs.BroadcastChannel(`im/${name}/news`);
    news.postMessage({ hub: true });
    news.close();
  }

  close() {
    this.leaving.abort();
    this.fromTabs.close();
    for (const peer of this.peers.values()) peer.end({ message: 'the tab that held the connection was closed' });
    this.peers.clear();
    this.shell.close();
  }

  /** @param {FromTab} message */
  on({ tab, conn, open, close, frames, ack }) {
    const known = this.peers.get(tab);
    if (open) return this.onOpen(tab, conn, known);
    if (!known || known.conn !== conn) return close || this.disown(tab, conn);
    if (close) return this.remove(known);
    if (ack !== undefined) {
      known.ack(ack);
      for (const room of known.rooms.keys()) forward(this, known, room);
    }
    for (const frame of frames ?? []) this.onCommand(known, frame);
  }

  /**
   * @param {string} tab
   * @param {number} conn
   * @param {Peer | undefined} known
   */
  onOpen(tab, conn, known) {
    if (known?.conn === conn) return known.open();
    if (known) this.remove(known);
    const peer = new Peer(tab, conn, new this.tabs.BroadcastChannel(`im/${this.name}/tab/${tab}`));
    this.peers.set(tab, peer);
    this.watch(peer);
    peer.open();
    if (this.ended) this.remove(peer, this.ended);
  }

  /**
   * Tells a tab that this hub does not know its connection, for example one to an earlier hub.
   *
   * @param {string} tab
   * @param {number} conn
   */
  disown(tab, conn) {
    const peer = new Peer(tab, conn, new this.tabs.BroadcastChannel(`im/${this.name}/tab/${tab}`));
    peer.end({ message: 'another tab holds the connection now' });
  }

  /** Detects the tab's end by the lock that it holds while it is alive. @param {Peer} peer */
  async watch(peer) {
    try {
      const { signal } = this.leaving;
      await this.tabs.locks.request(`im/${this.name}/tab/${peer.tab}`, { signal }, () => this.remove(peer));
    } catch {
      // The hub is closed.
    }
  }

  /**
   * @param {Peer} peer
   * @param {Cause} [cause]
   */
  remove(peer, cause) {
    if (this.peers.get(peer.tab) === peer) this.peers.delete(peer.tab);
    peer.end(cause);
    for (const room of peer.rooms.keys()) this.release(room);
  }

  /** Unsubscribes from a room without subscribed tabs. @param {string} room */
  release(room) {
    for (const peer of this.peers.values()) if (peer.rooms.has(room)) return;
    if (!this.shell.machine.rooms.map.has(room)) return;
    this.shell.command({ t: 'unsubscribe', room }).catch(() => {});
  }

  /**
   * @param {Peer} peer
   * @param {Frame} frame
   */
  async onCommand(peer, frame) {
    const { id } = frame;
    try {
      const fields = await this.answer(peer, frame);
      if (fields) peer.send([{ ...fields, t: 'ok', id }]);
    } catch (error) {
      peer.send([refusal(id, error)]);
    }
    // Events follow after the statuses.
    for (const [room, subscription] of peer.rooms) {
      if (subscription.asked !== id) continue;
      subscription.asked = undefined;
      forward(this, peer, room);
    }
  }

  /**
   * @param {Peer} peer
   * @param {Frame} frame
   * @returns {Promise<Frame | undefined>}
   */
  async answer(peer, frame) {
    const { id: _, ...body } = frame;
    switch (frame.t) {
      case 'hello':
        peer.hello = frame;
        return void this.greet(peer);
      case 'ping':
        return { now: Date.now() };
      case 'subscribe':
        return this.statuses([await subscribe(this, peer, frame.id, frame.room, frame.epoch, frame.since)]);
      case 'resume':
        return this.resume(peer, frame.id, frame.cursors ?? []);
      case 'unsubscribe':
        peer.rooms.delete(frame.room);
        this.release(frame.room);
        return { rev: 0 };
      default:
        return this.shell.command(/** @type {Frame} */ (body));
    }
  }

  /** @param {Peer} peer */
  greet(peer) {
    if (!peer.hello || !this.welcome) return;
    const { id } = peer.hello;
    peer.hello = undefined;
    // The tab stores session and secret, and resumes them if it leads later.
    peer.send([{ ...this.welcome, t: 'ok', id, resumed: true, idle_ms: IDLE_MS }]);
  }

  /** @param {Frame[]} rooms */
  statuses(rooms) {
    return { rooms, rev: 0, gen: this.shell.machine.generation };
  }

  /**
   * @param {Peer} peer
   * @param {number} id of the command
   * @param {[string, string, number][]} cursors
   */
  async resume(peer, id, cursors) {
    const rooms = [];
    for (let at = 0; at < cursors.length; at += TOGETHER) {
      const some = cursors.slice(at, at + TOGETHER);
      rooms.push(...(await Promise.all(some.map(([room, epoch, seq]) => subscribeOrDeny(this, peer, id, room, epoch, seq)))));
    }
    return this.statuses(rooms);
  }

  /** @param {ClientEvent} event */
  onEvent(event) {
    switch (event.type) {
      case 'connected':
        this.welcome = event.welcome;
        return this.peers.forEach((peer) => this.greet(peer));
      case 'disconnected':
      case 'closed': {
        const { code, message, retryMs } = event;
        this.welcome = undefined;
        // A lost connection concerns only hub and server, unless the client has ended.
        const cause = event.type === 'closed' ? { code, message, retryMs } : { message };
        if (event.type === 'closed') this.ended = cause;
        const cut = [...this.peers.values()].filter((peer) => event.type === 'closed' || !peer.hello);
        // After the answer to the command that ended it, for example a logout.
        return void setTimeout(() => cut.forEach((peer) => this.remove(peer, cause)));
      }
      default:
        for (const peer of this.peers.values()) this.push(peer, event);
    }
  }

  /**
   * @param {Peer} peer
   * @param {ClientEvent} event
   */
  push(peer, event) {
    switch (event.type) {
      case 'event':
        return void forward(this, peer, event.event.room, event.event);
      case 'signal': {
        const { room } = event.signal;
        if (peer.hasRoom && (room === undefined || peer.rooms.has(room))) peer.send([{ t: 'signal', ...event.signal }]);
        return;
      }
      case 'state': {
        const subscription = peer.rooms.get(event.update.room);
        if (subscription && peer.hasRoom) peer.send([{ t: 'state', ...event.update }]);
        else if (subscription) subscription.needsState = true;
        return;
      }
      case 'snapshot': {
        const subscription = peer.rooms.get(event.room);
        if (subscription && peer.hasRoom) peer.send([stateOf(this, event.room)]);
        else if (subscription) subscription.needsState = true;
        return;
      }
      case 'room': {
        const { status } = event;
        const subscription = peer.rooms.get(status.room);
        if (!subscription?.sent) return;
        if (status.epoch === undefined || status.cursor === undefined) peer.rooms.delete(status.room);
        else subscription.sent = { epoch: status.epoch, seq: status.cursor };
        return peer.send([{ t: 'room', ...status }]);
      }
    }
  }
}

/**
 * @param {Hub} hub
 * @param {Peer} peer
 * @param {number} id of the command
 * @param {string} room
 * @param {string} epoch
 * @param {number} seq
 * @returns {Promise<Frame>}
 */
async function subscribeOrDeny(hub, peer, id, room, epoch, seq) {
  try {
    return await subscribe(hub, peer, id, room, epoch, seq);
  } catch (error) {
    if (!(error instanceof ImError) || error.kind !== 'refused') throw error;
    return { room, status: 'denied', head: 0, code: error.code };
  }
}

/**
 * @param {number} id
 * @param {unknown} error
 * @returns {Frame}
 */
function refusal(id, error) {
  const { kind, code, retryMs, message } = error instanceof ImError ? error : new ImError('protocol', String(error));
  const codes = { refused: code, invalid: code ?? Code.BadField, full: Code.Overloaded, offline: Code.Overloaded };
  const known = /** @type {Record<string, number | undefined>} */ (codes)[kind] ?? Code.Unknown;
  return { t: 'err', id, code: known, msg: message, retry_ms: retryMs };
}

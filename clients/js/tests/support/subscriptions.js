import { Client } from '../../src/client.js';
import { Ladder } from '../../src/core/ladder.js';
import { Machine } from '../../src/core/machine.js';
import { Shell } from '../../src/shell.js';
import { decodeMessage, JSON_CODEC } from '../../src/wire/codec.js';
import { random } from './model.js';

/** @typedef {import('../../src/wire/value.js').Frame} Frame */
/** @typedef {import('../../src/links/link.js').LinkEvents} LinkEvents */

const EPOCH = '1.1';

/**
 * A client with virtual time, and a server that holds subscriptions. Frames in flight in either
 * direction wait in queues until the test moves them. Without `duplex` answers and pushes are
 * separate, each in its own time.
 */
export class Subscriptions {
  /**
   * @param {number} seed
   * @param {boolean} duplex
   * @param {(options: {signal: AbortSignal}) => Promise<string | null>} [tokens]
   */
  constructor(seed, duplex, tokens) {
    this.random = random(seed);
    this.duplex = duplex;
    this.now = 0;
    /** @type {Map<number, {at: number, act: () => void}>} */
    this.timers = new Map();
    this.nextTimer = 1;
    /** @type {Map<string, Frame[]>} */
    this.logs = new Map();
    /**
     * The session's subscriptions, each with the last seq that was pushed.
     * @type {Map<string, number>}
     */
    this.rooms = new Map();
    this.rev = 0;
    /** @type {MemoryLink | undefined} */
    this.link = undefined;
    this.opening = false;
    /** @type {string[]} Messages in flight to the server. */
    this.up = [];
    /** @type {Frame[]} Frames in flight to the client; without `duplex` only answers. */
    this.down = [];
    /** @type {Frame[]} Pushes in flight to the client, without `duplex`. */
    this.pushes = [];
    this.isUnsubscribed = false;
    this.cuts = 0;
    /** Whether the server refuses some commands at random. */
    this.refuses = false;
    /**
     * When accepted credentials expire, and the tokens that the server has received.
     * @type {number | undefined}
     */
    this.expires = undefined;
    /** @type {(string | undefined)[]} */
    this.shown = [];
    this.client = this.makeClient(tokens);
  }

  /** @param {((options: {signal: AbortSignal}) => Promise<string | null>) | undefined} tokens */
  makeClient(tokens) {
    const client = new Client({ config: { reconnect: { baseMs: 20, maxMs: 50 } } });
    const env = /** @type {any} */ ({
      now: () => this.now,
      wallClock: () => this.now,
      random: this.random,
      setTimeout: (/** @type {() => void} */ act, /** @type {number} */ ms) => {
        this.timers.set(this.nextTimer, { at: this.now + ms, act });
        this.nextTimer += 1;
        return this.nextTimer - 1;
      },
      clearTimeout: (/** @type {number} */ timer) => void this.timers.delete(timer),
    });
    const { config } = client;
    const identity = { renewable: tokens !== undefined, client: 'test' };
    const machine = new Machine({ config, identity, random: this.random, wallClock: env.wallClock });
    const ladder = new Ladder([this.duplex ? 'ws' : 'sse'], config.upgradeMs);
    const link = (/** @type {string} */ name, /** @type {LinkEvents} */ events) => new MemoryLink(this, name, events);
    client.begin(new Shell({ machine, ladder, env, tokens, link, onEvent: (event) => client.onEvent(event) }));
    return client;
  }

  /** @param {number} n */
  draw(n) {
    return Math.floor(this.random() * n);
  }

  /** @param {string} room */
  log(room) {
    const log = this.logs.get(room) ?? [];
    this.logs.set(room, log);
    return log;
  }

  /** @param {string} room */
  publish(room) {
    const log = this.log(room);
    log.push({ t: 'event', room, epoch: EPOCH, seq: log.length + 1, from: 'x', at: 0, kind: 'message', content: 0 });
  }

  hangUp() {
    [this.link, this.opening, this.up, this.down, this.pushes] = [undefined, false, [], [], []];
  }

  cut() {
    const { link } = this;
    if (!link) return;
    this.hangUp();
    this.cuts += 1;
    link.events.lost({ message: 'cut' });
  }

  /** Returns the possible steps. */
  moves() {
    const { link } = this;
    if (!link) return [];
    const moves = [];
    if (this.opening) moves.push(() => ((this.opening = false), link.events.open()));
    if (this.up.length > 0) moves.push(() => decodeMessage(/** @type {any} */ (this.up.shift())).forEach((frame) => this.serve(frame)));
    if (this.down.length > 0) moves.push(() => link.events.message(JSON.stringify(this.down.splice(0, 1 + this.draw(this.down.length)))));
    if (this.pushes.length > 0 && link.isWelcome) {
      moves.push(() => link.events.message(JSON.stringify(this.pushes.splice(0, 1 + this.draw(this.pushes.length)))));
    }
    for (const [room, at] of this.rooms) if (at < this.log(room).length && !this.isUnsubscribed) moves.push(() => this.push(room, at));
    return moves;
  }

  /** @param {string} room @param {number} at */
  push(room, at) {
    (this.duplex ? this.down : this.pushes).push(this.log(room)[at]);
    this.rooms.set(room, at + 1);
  }

  /** Advances the time to the next timer. */
  wait() {
    const [next] = [...this.timers].sort(([, a], [, b]) => a.at - b.at);
    if (!next) return;
    this.timers.delete(next[0]);
    this.now = Math.max(this.now, next[1].at);
    next[1].act();
  }

  /** Runs pending promises and their continuations. */
  async turn() {
    await new Promise(setImmediate);
  }

  /** Runs until nothing is in flight. */
  async settle() {
    for (;;) {
      await this.turn();
      const [move] = this.moves();
      if (move) move();
      else if (this.client.status !== 'online' || this.client.shell?.machine.flight.pending.size) this.wait();
      else return;
    }
  }

  /** @param {Frame} frame */
  serve(frame) {
    const { t, id, room, rev } = frame;
    if (t === 'hello') {
      this.isUnsubscribed = true;
      this.shown.push(frame.token);
      return void this.down.push({ t: 'ok', id, expires: this.expires, session: 's', secret: 'x', user: 'u', device: 'd', resumed: frame.session === 's',
        idle_ms: 60_000, limits: {} });
    }
    if (t === 'refresh') {
      this.shown.push(frame.token);
      return void this.down.push({ t: 'ok', id, expires: this.expires });
    }
    if (t === 'ping') return void this.down.push({ t: 'ok', id, now: 0 });
    if (t === 'resume' && rev !== undefined && rev !== this.rev) return void this.down.push({ t: 'err', id, code: 4401 });
    if (t === 'unsubscribe' && this.refuses && this.draw(4) === 0) return void this.down.push({ t: 'err', id, code: 4200 });
    if (t !== 'unsubscribe') {
      if (this.isUnsubscribed && rev === undefined) this.rooms.clear();
      this.isUnsubscribed = false;
    }
    this.rev += 1;
    const named = t === 'resume' ? frame.cursors : [[room, EPOCH, frame.since ?? this.log(room).length]];
    if (t === 'unsubscribe') {
      this.rooms.delete(room);
      // Answers may arrive in another order than their commands.
      return void this.down.splice(this.draw(this.down.length + 1), 0, { t: 'ok', id, rev: this.rev });
    }
    for (const [name, , at] of named) this.rooms.set(name, at);
    const all = rev === undefined ? named.map((/** @type {string[]} */ [name]) => name) : [...this.rooms.keys()];
    const rooms = all.map((/** @type {string} */ name) => this.status(name));
    this.down.push({ t: 'ok', id, rooms, rev: this.rev, gen: 'g' });
    // On the separate push channel, statuses set the cursors.
    if (!this.duplex) this.pushes.push(...rooms.map((/** @type {Frame} */ status) => ({ ...status, t: 'room' })));
  }

  /** @param {string} room */
  status(room) {
    return { room, status: 'ok', epoch: EPOCH, cursor: this.rooms.get(room), head: this.log(room).length };
  }
}

class MemoryLink {
  /** @param {Subscriptions} server @param {string} transport @param {LinkEvents} events */
  constructor(server, transport, events) {
    this.server = server;
    this.transport = transport;
    this.traits = { codec: JSON_CODEC, duplex: server.duplex };
    this.events = events;
    this.isWelcome = false;
  }

  open() {
    this.server.hangUp();
    this.server.link = this;
    this.server.opening = true;
  }

  /** @param {any} message */
  send(message) {
    if (this.server.link === this) this.server.up.push(message);
  }

  welcome() {
    this.isWelcome = true;
  }

  nudge() {}

  close() {
    if (this.server.link === this) this.server.hangUp();
  }
}

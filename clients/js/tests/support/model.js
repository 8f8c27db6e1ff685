import { configOf } from '../../src/config.js';
import { Machine } from '../../src/core/machine.js';
import { decodeMessage, JSON_CODEC } from '../../src/wire/codec.js';

/** @typedef {import('../../src/wire/value.js').Frame} Frame */

/** Random numbers that a seed repeats (mulberry32). @param {number} seed */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const EPOCH = '1.1';

/** A machine and a server that is as faulty as the protocol allows, in virtual time. */
export class Model {
  /** @param {number} seed */
  constructor(seed) {
    this.random = random(seed);
    this.now = 0;
    const config = configOf({ sendRetries: 1000, checkpointRooms: 1, checkpointMs: 30 });
    this.machine = new Machine({
      config,
      identity: { renewable: false, user: 'ann', client: 'test' },
      random: this.random,
      wallClock: () => 0,
    });
    /** @type {Frame[]} */
    this.log = [];
    /** @type {Map<string, Frame>} By message id. */
    this.kept = new Map();
    /** @type {string | undefined} The refused send that must be retried before others. */
    this.awaited = undefined;
    /** @type {Map<number, Frame | Error>} */
    this.answers = new Map();
    /** @type {import('../../src/core/types.js').ClientEvent[]} */
    this.told = [];
    this.isConnected = false;
    this.isConnecting = false;
    /** @type {import('../../src/wire/codec.js').Message[]} In flight to the server. */
    this.up = [];
    /** @type {Frame[]} In flight to the client. */
    this.down = [];
    /**
     * @type {number | undefined} The last seq that the server has pushed, while the room is
     *   subscribed.
     */
    this.pushed = undefined;
    /**
     * The session's checkpoint: its revision, and the confirmed cursor while the room is
     * subscribed.
     */
    this.checkpoint = { rev: 0, at: /** @type {number | undefined} */ (undefined) };
    /** Whether nothing was subscribed on this connection yet. */
    this.isUnsubscribed = false;
    /** How often a resume had the right revision, and another one. */
    this.resumed = { known: 0, stale: 0 };
    this.isFair = false;
  }

  /** @param {number} n @returns {boolean} once in `n` times, until the model is fair */
  sometimes(n) {
    return !this.isFair && this.random() < 1 / n;
  }

  /** Another user sends a message. */
  publish() {
    this.log.push(this.event({ kind: 'message', from: 'bob', content: this.log.length }));
  }

  /** @param {Frame} fields */
  event(fields) {
    return { t: 'event', room: 'tea', epoch: EPOCH, seq: this.log.length + 1, at: 0, ...fields };
  }

  /** Reads the machine's outputs and events. */
  drain() {
    for (;;) {
      const output = this.machine.outputs.shift();
      if (!output) break;
      if (output.do === 'transmit') this.up.push(output.message);
      else if (output.do === 'connect') this.isConnecting = true;
      else if (output.do === 'disconnect') this.hangUp();
      else if (output.do === 'reply') this.answers.set(output.id, output.error ?? output.reply ?? {});
    }
    this.told.push(...this.machine.events.splice(0));
  }

  hangUp() {
    [this.isConnected, this.isConnecting, this.up, this.down, this.pushed] = [false, false, [], [], undefined];
  }

  /** Runs one random step. */
  step() {
    this.now += Math.floor(this.random() * 20);
    const choice = Math.floor(this.random() * 6);
    if (this.isConnecting && choice === 0) {
      if (this.sometimes(4)) this.lose();
      else {
        this.isConnecting = false;
        this.isConnected = true;
        this.machine.onConnected(this.now, { codec: JSON_CODEC, duplex: true });
      }
    } else if (choice === 1 && this.up.length > 0) {
      for (const frame of decodeMessage(/** @type {any} */ (this.up.shift()))) this.down.push(this.serve(frame));
    } else if (choice === 2 && this.down.length > 0) {
      const n = 1 + Math.floor(this.random() * this.down.length);
      const frames = this.down.splice(0, n);
      this.machine.onMessage(this.now, JSON_CODEC.join(frames.map(JSON_CODEC.encode)));
    } else if (choice === 3 && this.pushed !== undefined && this.pushed < this.log.length) {
      this.push();
    } else if (choice === 4 && this.isConnected && this.sometimes(12)) {
      this.lose();
    } else if (this.now >= this.machine.deadline) {
      this.machine.onTime(this.now);
    } else if (Number.isFinite(this.machine.deadline)) {
      // Virtual time advances to the next timer.
      const isQuiet = this.isFair && this.up.length === 0 && this.down.length === 0;
      if (isQuiet || (!this.isConnected && !this.isConnecting)) this.now = this.machine.deadline;
    }
    this.machine.flush(this.now);
    this.drain();
  }

  lose() {
    this.hangUp();
    this.machine.onLost(this.now, { message: 'cut' });
  }

  /** Pushes the next event; a faulty server redelivers or omits some. */
  push() {
    const at = /** @type {number} */ (this.pushed);
    this.down.push(this.log[at]);
    if (this.sometimes(5)) this.down.push(this.log[Math.floor(this.random() * (at + 1))]);
    this.pushed = at + (this.sometimes(8) ? 2 : 1);
  }

  /** @param {Frame} frame @returns {Frame} the reply */
  serve(frame) {
    const { t, id } = frame;
    if (t === 'hello') {
      this.isUnsubscribed = true;
      return { t: 'ok', id, session: 's', secret: 'x', user: 'ann', device: 'd', resumed: frame.session === 's', rev: this.checkpoint.rev,
        idle_ms: 60_000, limits: { batch: 4, in_flight: 6 } };
    }
    if (t === 'send') return this.keep(frame);
    if (t === 'ping') return { t: 'ok', id, now: 0 };
    if (t === 'checkpoint') return this.confirm(frame);
    return this.subscribe(frame);
  }

  /** @param {Frame} checkpoint @returns {Frame} */
  confirm({ id, cursors }) {
    if (this.sometimes(4)) return { t: 'err', id, code: 4200, msg: 'slow down' };
    const { rev, at } = this.checkpoint;
    const seq = cursors[0]?.[2];
    const isKept = at !== undefined && seq <= Number(this.pushed);
    this.checkpoint = { rev: rev + 1, at: isKept ? seq : at };
    return { t: 'ok', id, rev: rev + 1 };
  }

  /** @param {Frame} frame `subscribe` or `resume` @returns {Frame} */
  subscribe({ t, id, since, cursors, rev }) {
    // Another client uses the session for a moment.
    if (this.sometimes(6)) this.checkpoint.rev += 1;
    const held = this.isUnsubscribed && rev === undefined ? undefined : this.checkpoint.at;
    if (rev !== undefined) {
      const isKnown = this.isUnsubscribed && rev === this.checkpoint.rev;
      this.resumed[isKnown ? 'known' : 'stale'] += 1;
      if (!isKnown) return { t: 'err', id, code: 4401, msg: 'the checkpoint is another one' };
    }
    this.isUnsubscribed = false;
    const at = t === 'subscribe' ? (since ?? this.log.length) : (cursors[0]?.[2] ?? held);
    this.checkpoint = { rev: this.checkpoint.rev + 1, at };
    const answer = { t: 'ok', id, rev: this.checkpoint.rev, gen: 'beef' };
    if (at === undefined) return { ...answer, rooms: [] };
    this.pushed = at;
    return { ...answer, rooms: [{ room: 'tea', status: 'ok', epoch: EPOCH, cursor: at, head: this.log.length }] };
  }

  /** @param {Frame} send @returns {Frame} */
  keep({ id, mid, content }) {
    if ((this.awaited ?? mid) !== mid) return { t: 'err', id, code: 4206, msg: 'not yet' };
    const isRefused = this.sometimes(10);
    this.awaited = isRefused ? mid : undefined;
    if (isRefused) return { t: 'err', id, code: 4200, msg: 'slow down', retry_ms: 5 };
    const before = this.kept.get(mid);
    const event = before ?? this.event({ kind: 'message', from: 'ann', mid, content });
    if (!before) {
      this.kept.set(mid, event);
      this.log.push(event);
    }
    const { room, epoch, seq, at } = event;
    return { t: 'ok', id, room, epoch, seq, at, duplicate: before !== undefined };
  }
}

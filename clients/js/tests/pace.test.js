// Slow links, in virtual time: bytes in flight are no silence, and a large batch is not restarted
// forever.

import assert from 'node:assert/strict';
import test from 'node:test';

import { configOf } from '../src/config.js';
import { Machine } from '../src/core/machine.js';
import { Uplink } from '../src/links/uplink.js';
import { decodeMessage, JSON_CODEC } from '../src/wire/codec.js';
import { Timers } from './support/timers.js';

/** @typedef {import('../src/wire/value.js').Frame} Frame */

/**
 * A machine on an uplink of so many bytes per second; the server answers a message when all of it
 * has arrived.
 */
class SlowUplink {
  /** @param {number} bytesPerSecond @param {number} [delayMs] of each answer */
  constructor(bytesPerSecond, delayMs = 0) {
    this.rate = bytesPerSecond / 1000;
    this.delayMs = delayMs;
    this.now = 0;
    this.freeAt = 0;
    /** @type {{at: number, message: string}[]} */
    this.arriving = [];
    this.cuts = 0;
    this.messages = 0;
    /** @type {Map<number, Frame | Error | undefined>} */
    this.answers = new Map();
    /** The application's sends that the server has stored, in order. @type {string[]} */
    this.kept = [];
    const identity = { renewable: false, client: 'test' };
    this.machine = new Machine({ config: configOf(), identity, random: () => 0.5, wallClock: () => 0 });
    this.machine.start(0);
  }

  /** @param {number} n @param {number} size */
  say(n, size) {
    const content = { text: 'x'.repeat(size) };
    for (let i = 0; i < n; i++) {
      this.machine.onCommand({ t: 'send', room: 'tea', mid: `message-number-${1e6 + i}`, kind: 'message', content });
    }
  }

  /**
   * Runs until all is answered, or the time is over; the machine wakes up and the network breaks at
   * these intervals.
   *
   * @param {number} untilMs
   * @param {number} wakeMs
   * @param {number} [breakMs]
   */
  run(untilMs, wakeMs, breakMs = Infinity) {
    let [wakeAt, breakAt] = [wakeMs, breakMs];
    this.machine.flush(this.now);
    this.take();
    while (this.now < untilMs && (this.machine.flight.pending.size > 0 || this.machine.phase !== 'online')) {
      const next = Math.min(wakeAt, breakAt, this.machine.deadline, this.arriving[0]?.at ?? Infinity);
      this.now = Math.max(this.now, next);
      if (this.arriving[0] && this.arriving[0].at <= this.now) this.serve(/** @type {any} */ (this.arriving.shift()).message);
      else if (this.now >= breakAt) {
        breakAt += breakMs;
        [this.arriving, this.freeAt] = [[], this.now];
        this.machine.onLost(this.now, { message: 'cut' });
      } else if (this.now >= wakeAt) {
        wakeAt += wakeMs;
        this.machine.onWake(this.now);
      } else this.machine.onTime(this.now);
      this.machine.flush(this.now);
      this.take();
    }
  }

  take() {
    for (const output of this.machine.outputs.splice(0)) {
      if (output.do === 'connect') {
        this.machine.onConnected(this.now, { codec: JSON_CODEC, duplex: true });
        this.take();
      } else if (output.do === 'disconnect') {
        this.cuts += 1;
        [this.arriving, this.freeAt] = [[], this.now];
      } else if (output.do === 'reply') this.answers.set(output.id, output.error ?? output.reply);
      else if (output.do === 'transmit') {
        const message = String(output.message);
        this.messages += 1;
        this.freeAt = Math.max(this.freeAt, this.now) + message.length / this.rate;
        this.arriving.push({ at: this.freeAt + this.delayMs, message });
      }
    }
  }

  /** @param {string} message */
  serve(message) {
    const replies = decodeMessage(message).map(({ t, id, mid, cursors }) => {
      if (t === 'hello') return { t: 'ok', id, session: 's', secret: 'x', user: 'u', device: 'd', resumed: false, idle_ms: 60_000, limits: {} };
      if (t === 'send') this.kept.push(mid);
      const rooms = (cursors ?? []).map((/** @type {any[]} */ [room, epoch, cursor]) => ({ room, status: 'ok', epoch, cursor, head: cursor }));
      return { t: 'ok', id, now: 0, room: 'tea', epoch: '1.1', seq: this.kept.length, at: 0, duplicate: false, rooms, rev: 1, gen: 'g' };
    });
    this.machine.onMessage(this.now, JSON.stringify(replies));
  }
}

test('a backlog goes up a slow uplink in one connection, whoever wakes it', () => {
  for (const wakeMs of [Infinity, 1000, 5000, 9000]) {
    const link = new SlowUplink(1500);
    link.say(70, 60);
    link.run(60_000, wakeMs);
    assert.equal(link.answers.size, 70, `waking every ${wakeMs} ms`);
    assert.equal(link.cuts, 0, `waking every ${wakeMs} ms`);
    assert.deepEqual(link.kept, [...link.kept].sort());
  }
});

test('a backlog goes up a slow uplink that breaks before a large batch could be there', () => {
  const link = new SlowUplink(1500);
  link.say(70, 60);
  link.run(120_000, 1000, 6000);
  assert.equal(link.answers.size, 70);
});

test('a message as large as servers take goes up a slow uplink', () => {
  const link = new SlowUplink(1500);
  link.say(2, 30_000);
  link.run(120_000, 5000);
  assert.equal(link.answers.size, 2);
  assert.equal(link.cuts, 0);
});

test('a client of many rooms comes back over a slow uplink', () => {
  const link = new SlowUplink(1500);
  for (let i = 0; i < 1000; i++) link.machine.rooms.subscribed(0, { room: String(i).padEnd(120, 'x'), status: 'ok', epoch: '1.1', cursor: 4, head: 4 });
  link.run(120_000, 5000);
  assert.equal(link.machine.phase, 'online');
  assert.equal(link.cuts, 0);
});

test('on a fast link what is on its way grows with the answers', () => {
  const link = new SlowUplink(10_000_000, 50);
  link.say(250, 200);
  link.run(60_000, Infinity);
  assert.equal(link.answers.size, 250);
  // The greeting, a few batches that grow, then as many at once as the server allows.
  assert.ok(link.now < 50 * 10, String(link.now));
});

test('a link that became slow is given few bytes after a cut', () => {
  const link = new SlowUplink(10_000_000, 50);
  link.say(250, 200);
  link.run(60_000, Infinity);
  assert.ok(link.machine.flight.pace.window > 20_000);
  link.rate = 1.5;
  link.say(100, 200);
  link.run(link.now + 180_000, 5000);
  assert.equal(link.answers.size, 350);
  assert.ok(link.cuts <= 1, String(link.cuts));
});

test('an uplink that is dead is found out, whatever was on its way', () => {
  const link = new SlowUplink(1500);
  link.say(10, 60);
  link.run(60_000, Infinity);
  link.rate = 1e-9;
  link.say(70, 60);
  const before = link.now;
  while (link.cuts === 0) link.run(link.now + 1000, 5000);
  assert.ok(link.now - before < 30_000, String(link.now - before));
});

/**
 * An uplink over a fake `fetch`, and its events.
 *
 * @param {Timers} timers
 * @param {(signal: AbortSignal) => Promise<Response>} fetch
 */
function uplink(timers, fetch) {
  /** @type {string[]} */
  const told = [];
  const env = timers.env({ fetch: (_, init) => fetch(/** @type {AbortSignal} */ (init?.signal)) });
  const setup = { url: 'http://x', token: () => undefined, credentials: /** @type {const} */ ('omit'), encoding: /** @type {const} */ ('json'), env, config: configOf() };
  const events = {
    message: (/** @type {any} */ message) => void told.push(String(message)),
    lost: (/** @type {{message: string}} */ { message }) => void told.push(`lost: ${message}`),
  };
  return { told, link: new Uplink(setup, events) };
}

/**
 * Settles after so long, or when it is aborted.
 * @param {Timers} timers
 * @param {number} ms
 * @param {AbortSignal} signal
 */
function after(timers, ms, signal) {
  return new Promise((resolve, reject) => {
    timers.env().setTimeout(() => resolve(undefined), ms);
    signal.addEventListener('abort', () => reject(signal.reason));
  });
}

test('a POST has the time that its bytes need on the slowest uplink', async () => {
  const timers = new Timers();
  const { told, link } = uplink(timers, async (signal) => {
    await after(timers, 60_000, signal);
    return new Response('[]');
  });
  link.send('x'.repeat(60_000), true);
  await timers.pass(100_000);
  assert.deepEqual(told, ['[]']);
  link.send('x', true);
  await timers.pass(30_100);
  assert.deepEqual(told, ['[]', 'lost: a POST failed: no answer in time']);
});

test('a response that comes slowly is waited for, one that stops coming is not', async () => {
  for (const stops of [false, true]) {
    const timers = new Timers();
    const { told, link } = uplink(timers, async (signal) => {
      let n = 0;
      const body = new ReadableStream({
        async pull(controller) {
          n += 1;
          await after(timers, stops && n === 4 ? 1e9 : 20_000, signal);
          if (n < 8) controller.enqueue(new TextEncoder().encode('x'));
          else controller.close();
        },
      });
      return new Response(body);
    });
    link.send('x', true);
    await timers.pass(300_000);
    assert.deepEqual(told, stops ? ['lost: a POST failed: no answer in time'] : ['xxxxxxx']);
  }
});

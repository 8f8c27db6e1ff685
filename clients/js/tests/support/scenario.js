import assert from 'node:assert/strict';

import { configOf } from '../../src/config.js';
import { Machine } from '../../src/core/machine.js';
import { ImError } from '../../src/error.js';
import { decodeMessage, JSON_CODEC } from '../../src/wire/codec.js';

/** @typedef {import('../../src/wire/value.js').Frame} Frame */

const LIMITS = { message_bytes: 65_536, content_bytes: 32_768, batch: 64, in_flight: 64, page: 200, rooms: 2048, depth: 16, values: 8192 };
const WELCOME = { v: 1, session: 's1', secret: 'x1', user: 'ann', device: 'phone', resumed: false, rev: 0, idle_ms: 60_000, limits: LIMITS };
const EVENT = { epoch: '1.1', from: 'bob', at: 1_767_225_600_000, kind: 'message', content: { text: '…' } };

/** Plays a scenario of `wire/scenarios` to the machine. Their README describes the format. */
export class Player {
  /**
   * @param {any} client of the scenario
   * @param {() => number} random
   */
  constructor({ session, http = false, wall_ms = 1_767_225_600_000, ...identity } = {}, random) {
    this.now = 0;
    this.traits = { codec: JSON_CODEC, duplex: !http };
    this.machine = new Machine({
      // The machine sends no checkpoints by itself.
      config: configOf({ checkpointRooms: Infinity }),
      identity: { renewable: false, client: 'test', ...identity },
      session,
      random,
      wallClock: () => wall_ms + this.now,
    });
    /** The numbers of commands by the scenario's names. @type {Map<string, number>} */
    this.numbers = new Map();
    /** The frame written under each number. @type {Map<number, Frame>} */
    this.written = new Map();
    /** @type {Map<number, string>} */
    this.calls = new Map();
    this.done = nothing();
    this.machine.start(0);
  }

  /** @param {any} step */
  play({ at = this.now, input, output = {} }) {
    this.pass(at);
    if (input) this.give(input);
    this.collect();
    const { done } = this;
    this.done = nothing();
    this.compare(output, done);
  }

  /** Advances the time, running every timer at its deadline. @param {number} until */
  pass(until) {
    assert.ok(until >= this.now, 'time goes back');
    for (let { deadline } = this.machine; deadline <= until; { deadline } = this.machine) {
      this.now = Math.max(this.now, deadline);
      this.machine.onTime(this.now);
      this.collect();
    }
    this.now = until;
  }

  /** @param {any} input */
  give(input) {
    const { machine, now } = this;
    const [[kind, value]] = Object.entries(input);
    switch (kind) {
      case 'connected':
        return machine.onConnected(now, this.traits);
      case 'message':
        return machine.onMessage(now, JSON.stringify(value.map((/** @type {Frame} */ frame) => this.completed(frame))));
      case 'disconnected':
        return machine.onLost(now, { code: value.code, message: 'lost', retryMs: value.retry_ms });
      case 'call':
        return this.call(value);
      case 'token':
        return machine.onToken(now, value);
      case 'token_failed':
        return machine.onNoToken(now, value);
      case 'close':
        return machine.end();
      default:
        assert.fail(`unknown input ${kind}`);
    }
  }

  /** @param {any} call */
  call({ as, ...body }) {
    try {
      this.calls.set(this.machine.onCommand(body), as);
    } catch (error) {
      this.done.results.push(failure(as, error));
    }
    this.machine.flush(this.now);
  }

  /**
   * The frame with its irrelevant fields added, and with numbers in place of names.
   * @param {Frame} frame
   */
  completed(frame) {
    const id = typeof frame.id === 'string' ? this.numbers.get(frame.id) : frame.id;
    if (frame.id !== undefined) assert.ok(id !== undefined, `nothing was written as ${frame.id}`);
    const command = this.written.get(id);
    const named = id === undefined ? frame : { ...frame, id };
    switch (frame.t) {
      case 'event':
        return { ...EVENT, ...frame };
      case 'room':
        return completedStatus(frame);
      case 'err':
      case 'disconnect':
        return { msg: '…', ...named };
    }
    if (frame.t !== 'ok') return frame;
    switch (command?.t) {
      case 'hello':
        return { ...WELCOME, ...named };
      case 'subscribe':
      case 'resume':
        return { rev: 1, gen: '1', ...named, rooms: (frame.rooms ?? []).map(completedStatus) };
      case 'unsubscribe':
      case 'checkpoint':
        return { rev: 1, ...named };
      case 'send':
        return { room: command.room, epoch: '1.1', at: 1_767_225_600_000, duplicate: false, ...named };
      default:
        return named;
    }
  }

  /** Reads the machine's outputs and events. */
  collect() {
    for (const output of this.machine.outputs.splice(0)) this.take(output);
    for (const event of this.machine.events.splice(0)) {
      // Scenarios do not list dropped updates.
      if (event.type !== 'stale') this.done.notifications.push(notification(event));
    }
  }

  /** @param {import('../../src/core/types.js').Output} output */
  take(output) {
    switch (output.do) {
      case 'connect':
        return void this.done.flags.push('connect');
      case 'disconnect':
        return void this.done.flags.push('disconnect');
      case 'fetchToken':
        return void this.done.flags.push('fetch_token');
      case 'reply': {
        const call = this.calls.get(output.id) ?? assert.fail('an answer to no call');
        this.calls.delete(output.id);
        return void this.done.results.push(output.error ? failure(call, output.error) : { call, ok: output.reply });
      }
      case 'transmit':
        for (const frame of decodeMessage(output.message)) {
          this.written.set(frame.id, frame);
          this.done.frames.push(frame);
        }
    }
  }

  /** @param {any} expected @param {ReturnType<typeof nothing>} done */
  compare({ frames = [], results = [], notifications = [], ...flags }, done) {
    assert.deepEqual(done.flags.sort(), Object.keys(flags).sort());
    const lists = { frames, results, notifications };
    for (const name of /** @type {const} */ (['frames', 'results', 'notifications'])) {
      const what = `${name}: ${JSON.stringify(done[name], null, 1)}\nexpected: ${JSON.stringify(lists[name], null, 1)}`;
      assert.equal(done[name].length, lists[name].length, what);
      lists[name].forEach((/** @type {any} */ pattern, /** @type {number} */ at) => {
        assert.ok(this.matches(pattern, done[name][at]), what);
      });
    }
  }

  /** @param {any} pattern @param {any} actual @returns {boolean} */
  matches(pattern, actual) {
    if (pattern === null) return actual === null || actual === undefined;
    if (typeof pattern !== 'object') return pattern === actual;
    if (typeof actual !== 'object' || actual === null || Array.isArray(pattern) !== Array.isArray(actual)) return false;
    if (Array.isArray(pattern)) {
      return pattern.length === actual.length && pattern.every((one, at) => this.matches(one, actual[at]));
    }
    return Object.entries(pattern).every(([name, inner]) => this.fieldMatches(name, inner, actual[name]));
  }

  /** @param {string} name @param {any} pattern @param {any} actual */
  fieldMatches(name, pattern, actual) {
    if (name === 'id' && typeof pattern === 'string' && typeof actual === 'number') {
      this.numbers.set(pattern, actual);
      return true;
    }
    // The order of cursors has no meaning.
    if (name === 'cursors' && Array.isArray(actual)) return this.matches([...pattern].sort(), [...actual].sort());
    if (name === 'entries' && Array.isArray(actual)) return this.matches([...pattern].sort(byKey), [...actual].sort(byKey));
    return this.matches(pattern, actual);
  }
}

/** @param {{key: string}} a @param {{key: string}} b */
const byKey = (a, b) => (a.key < b.key ? -1 : 1);

/** The empty record of a client's outputs during a step. */
function nothing() {
  const [flags, frames, results, notifications] = [/** @type {string[]} */ ([]), ...Array.from({ length: 3 }, () => /** @type {any[]} */ ([]))];
  return { flags, frames, results, notifications };
}

/** @param {Frame} status */
function completedStatus(status) {
  return status.cursor === undefined ? { head: 0, ...status } : { epoch: '1.1', head: status.cursor, ...status };
}

/** @param {string} call @param {unknown} error */
function failure(call, error) {
  if (!(error instanceof ImError)) throw error;
  return { call, error: error.kind, code: error.code };
}

/** @param {import('../../src/core/types.js').ClientEvent} told */
function notification(told) {
  const { type, ...fields } = told;
  switch (told.type) {
    case 'event':
      return { event: told.event };
    case 'signal':
      return { signal: told.signal };
    case 'state':
      return { state: told.update };
    case 'room':
      return { room: told.status };
    case 'connected':
      return { connected: told.welcome };
    default:
      return { [type]: fields };
  }
}

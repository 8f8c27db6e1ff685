// The core without any I/O, in virtual time.

import assert from 'node:assert/strict';
import test from 'node:test';

import { configOf } from '../src/config.js';
import { Backoff } from '../src/core/backoff.js';
import { Ladder } from '../src/core/ladder.js';
import { RoomState } from '../src/core/latest.js';
import { Machine } from '../src/core/machine.js';
import { compareStamps } from '../src/ids.js';
import { JSON_CODEC } from '../src/wire/codec.js';
import { clock } from '../src/env.js';
import { online } from './support/machine.js';
import { Model, random } from './support/model.js';

test('whatever happens, events are read in order and once, and sends are kept in order and once', () => {
  const resumed = { known: 0, stale: 0 };
  for (let seed = 1; seed <= 300; seed++) {
    const model = new Model(seed);
    const { machine } = model;
    machine.start(model.now);
    const subscribe = machine.onCommand({ t: 'subscribe', room: 'tea' });
    for (let i = 0; i < 2000 && !model.answers.has(subscribe); i++) model.step();
    const status = /** @type {any} */ (model.answers.get(subscribe)).rooms[0];
    /** @type {number[]} */
    const sent = [];
    for (let i = 0; i < 600; i++) {
      if (model.sometimes(10)) model.publish();
      if (model.sometimes(15)) sent.push(machine.onCommand({ t: 'send', room: 'tea', mid: `${seed}-${i}`, content: i }));
      model.step();
    }
    model.isFair = true;
    model.publish();
    for (let i = 0; i < 5000 && machine.rooms.cursor('tea')?.seq !== model.log.length; i++) model.step();
    for (let i = 0; i < 5000 && !sent.every((id) => model.answers.has(id)); i++) model.step();

    const read = model.told.flatMap((event) => (event.type === 'event' ? [event.event] : []));
    const what = `seed ${seed}`;
    assert.deepEqual(read.map(({ seq }) => seq), model.log.map(({ seq }) => seq).slice(status.cursor), what);
    const mine = model.log.filter(({ from }) => from === 'ann');
    assert.equal(mine.length, sent.length, what);
    for (const id of sent) assert.ok(!(model.answers.get(id) instanceof Error), what);
    const acks = sent.map((id) => /** @type {any} */ (model.answers.get(id)).seq);
    assert.deepEqual(new Set(acks), new Set(mine.map(({ seq }) => seq)), what);
    resumed.known += model.resumed.known;
    resumed.stale += model.resumed.stale;
  }
  // From a checkpoint as well as without one.
  assert.ok(resumed.known > 100 && resumed.stale > 20, JSON.stringify(resumed));
});

test('sends that are cut off or refused for now are sent again in their order before anything new', () => {
  for (let seed = 1; seed <= 100; seed++) {
    const model = new Model(seed);
    model.machine.start(0);
    for (let i = 0; i < 800; i++) {
      if (i % 20 === 0) model.machine.onCommand({ t: 'send', room: 'tea', mid: `${seed}-${i}`, content: i });
      model.step();
    }
    model.isFair = true;
    for (let i = 0; i < 5000 && model.machine.flight.pending.size > 0; i++) model.step();
    const contents = model.log.map(({ content }) => content);
    assert.deepEqual(contents, Array.from({ length: 40 }, (_, i) => i * 20), `seed ${seed}`);
  }
});

/** @param {string} key @param {number} ms @param {any} [value] */
const update = (key, ms, value) => ({ room: 'r', key, stamp: `${ms}-0-1`, from: 'u', value });

test('the latest wins, whatever the order', () => {
  for (let seed = 1; seed <= 200; seed++) {
    const draw = random(seed);
    const updates = Array.from({ length: 40 }, (_, i) => {
      return update(`k${Math.floor(draw() * 4)}`, 1 + i, draw() < 0.2 ? undefined : i);
    });
    const shuffled = [...updates, ...updates.slice(0, 10)].map((one) => ({ one, at: draw() })).sort((a, b) => a.at - b.at);
    const state = new RoomState();
    state.snapshot('g', [], false);
    for (const { one } of shuffled) {
      // Single, or as part of a snapshot.
      if (draw() < 0.7) state.update(one);
      else state.snapshot('g', [one], false);
    }
    for (const key of ['k0', 'k1', 'k2', 'k3']) {
      const all = updates.filter((one) => one.key === key);
      const newest = all.reduce((a, b) => (compareStamps(a.stamp, b.stamp) > 0 ? a : b), all[0]);
      assert.deepEqual(state.map.held.get(key), newest, `seed ${seed}`);
    }
  }
});

test('another generation replaces, and parts make one snapshot', () => {
  const state = new RoomState();
  state.snapshot('1', [update('a', 5, 1), update('gone', 1, 1)], false);
  assert.equal(state.update(update('a', 9, 2)), true);
  assert.equal(state.update(update('a', 9, 3)), false);
  assert.equal(state.setGeneration('1'), false);
  assert.equal(state.snapshot('2', [update('a', 3, 4)], true), undefined);
  assert.equal(state.update(update('b', 1, 5)), true);
  const all = state.snapshot('2', [update('c', 1, 6)], false) ?? [];
  assert.deepEqual(all.map(({ key, value }) => [key, value]), [['a', 4], ['b', 5], ['c', 6]]);
  assert.equal(state.setGeneration('3'), true);
  assert.equal(state.update(update('a', 1, 7)), true);
});

test('tombstones are held, and of very many the oldest are purged', () => {
  const state = new RoomState();
  state.update(update('a', 5));
  assert.equal(state.update(update('a', 4, 1)), false);
  for (let i = 0; i < 1024; i++) state.update(update(`k${i}`, 10 + i));
  assert.equal(state.update(update('a', 4, 1)), true);
  assert.equal(state.map.tombstones, 1024);
});

test('pauses double up to the longest, and a wish is kept to', () => {
  const policy = { baseMs: 100, maxMs: 2000, attempts: 40, stableMs: 0 };
  const backoff = new Backoff(policy, random(1));
  for (let n = 0; n < 39; n++) {
    const ceiling = Math.min(2000, 100 * 2 ** n);
    const pause = backoff.next() ?? NaN;
    assert.ok(pause >= ceiling / 2 && pause <= ceiling, `${n}: ${pause}`);
  }
  const wished = backoff.next(60_000) ?? NaN;
  assert.ok(wished >= 60_000 && wished <= 90_000);
  assert.equal(backoff.next(), undefined);
});

test('a silent connection is asked, and given up when it does not answer', () => {
  const machine = online();
  assert.equal(machine.deadline, 20_000);
  machine.onTime(20_000);
  assert.match(JSON.stringify(machine.outputs), /ping/);
  machine.onMessage(21_000, '{"t":"ok","id":2,"now":1}');
  assert.equal(machine.phase, 'online');
  machine.onTime(machine.deadline);
  machine.onTime(machine.deadline);
  assert.equal(machine.phase, 'waiting');
});

test('after a sleep it is asked at once, and a wait is cut short', () => {
  const machine = online();
  machine.onWake(500);
  assert.equal(machine.deadline, 4500);
  machine.onTime(4500);
  assert.equal(machine.phase, 'waiting');
  machine.onWake(4501);
  assert.equal(machine.phase, 'connecting');
});

/** @type {[number, string][]} */
const CLOSES = [[4000, 'waiting'], [4001, 'waiting'], [4100, 'waiting'], [4203, 'waiting'], [4300, 'ended'], [4400, 'waiting'],
  [4500, 'waiting'], [4600, 'ended'], [4299, 'waiting'], [4699, 'ended'], [1006, 'waiting'], [1011, 'waiting']];

for (const [code, phase] of CLOSES) {
  test(`after a close with ${code} the client is ${phase}`, () => {
    const machine = online();
    machine.onMessage(1, JSON.stringify({ t: 'disconnect', code, msg: 'x', retry_ms: 7000 }));
    assert.equal(machine.phase, phase);
    if (phase === 'waiting') assert.ok(machine.deadline >= 7000);
    assert.equal(machine.session === undefined, code === 4400);
  });
}

test('commands that could do harm twice are given back, the others wait', () => {
  const machine = online();
  const ids = [{ t: 'create', room: 'a' }, { t: 'put_state', room: 'a', key: 'k', value: 1 }, { t: 'join', room: 'a' },
    { t: 'put_state', room: 'a', key: 'k', value: 1, stamp: '1-0-0' }].map((body) => machine.onCommand(body));
  machine.flush(1);
  machine.onLost(2, { message: 'cut' });
  const replies = machine.outputs.flatMap((output) => (output.do === 'reply' ? [[output.id, output.error?.kind]] : []));
  assert.deepEqual(replies, [[ids[0], 'unknown'], [ids[1], 'unknown']]);
  assert.throws(() => machine.onCommand({ t: 'signal', room: 'a', kind: 'k', content: 1 }), { kind: 'offline' });
});

test('a greeting that was too slow for the server is no fault of what was sent', () => {
  for (const { code, waits } of [{ code: 4510, waits: true }, { code: 4500, waits: false }]) {
    const machine = online();
    machine.onCommand({ t: 'send', room: 'a', mid: '0123456789abcdef', kind: 'message', content: 1 });
    machine.flush(1);
    machine.onLost(2, { code, message: 'x' });
    assert.equal(machine.outputs.every((output) => output.do !== 'reply'), waits, `${code}`);
  }
});

/**
 * Sends and refuses by room and number; returns what the machine sends by its content, message by
 * message.
 *
 * @param {Machine} machine
 */
function sending(machine) {
  return {
    send: (/** @type {string} */ room, /** @type {number} */ n) => {
      return machine.onCommand({ t: 'send', room, mid: `0123456789abcde${n}`, kind: 'message', content: n });
    },
    refuse: (/** @type {number} */ now, /** @type {number} */ id, /** @type {number} */ code, /** @type {number} */ retryMs = 0) => {
      machine.onMessage(now, JSON.stringify({ t: 'err', id, code, msg: 'no', retry_ms: retryMs || undefined }));
    },
    sent: () => machine.outputs.splice(0).flatMap((output) => {
      if (output.do !== 'transmit') return [];
      return [[JSON.parse(String(output.message))].flat().map((frame) => frame.content)];
    }),
  };
}

test('after a refusal for now, sends to that target wait for all answers and go again in their order', () => {
  const machine = online();
  const { send, refuse, sent } = sending(machine);
  const [a, b, c] = [1, 2, 3].map((n) => send('a', n));
  machine.flush(1);
  refuse(2, a, 4100, 500);
  sent();
  send('a', 4);
  send('b', 5);
  machine.flush(3);
  assert.deepEqual(sent(), [[5]]);
  machine.onTime(502);
  assert.deepEqual(sent(), [], 'two are unanswered');
  assert.ok(machine.deadline > 502, 'nothing is due before they are answered');
  refuse(503, b, 4206);
  assert.deepEqual(sent(), []);
  machine.onMessage(504, JSON.stringify({ t: 'ok', id: c, room: 'a', epoch: '1.1', seq: 1, at: 0 }));
  assert.deepEqual(sent(), [[1, 2, 4]]);
});

test('the first one that was refused says how long to wait', () => {
  const machine = online();
  const { send, refuse, sent } = sending(machine);
  const [a, b] = [1, 2].map((n) => send('a', n));
  machine.flush(1);
  refuse(2, b, 4206, 9000);
  refuse(3, a, 4200, 2000);
  sent();
  assert.equal(machine.deadline, 2003);
  machine.onTime(2003);
  assert.deepEqual(sent(), [[1, 2]]);
});

test('sends that came too fast wait for as long as the last of them says', () => {
  const machine = online();
  const { send, refuse, sent } = sending(machine);
  const [a, b, c] = [1, 2, 3].map((n) => send('a', n));
  machine.flush(1);
  refuse(2, a, 4200, 200);
  refuse(3, b, 4206, 5000);
  refuse(4, c, 4200, 300);
  sent();
  assert.equal(machine.deadline, 5003);
  machine.onTime(5003);
  assert.deepEqual(sent(), [[1, 2, 3]]);
});

test('one that had to wait for another is not given up with it', () => {
  const machine = online();
  const { send, refuse, sent } = sending(machine);
  const [a, b] = [1, 2].map((n) => send('a', n));
  machine.flush(1);
  for (let now = 10_000; machine.flight.pending.has(a); now += 10_000) {
    refuse(now, a, 4202);
    if (!machine.flight.pending.has(a)) break;
    refuse(now, b, 4206);
    machine.flush(now + 9000);
  }
  refuse(100_000, b, 4206);
  assert.ok(machine.flight.pending.has(b));
  sent();
  machine.flush(109_000);
  assert.deepEqual(sent(), [[2]]);
});

test('what no server takes is refused before it is sent', () => {
  const machine = online(undefined, { limits: { content_bytes: 100 } });
  const send = (/** @type {any} */ content) => machine.onCommand({ t: 'send', room: 'a', mid: '0123456789abcdef', content });
  assert.throws(() => send('x'.repeat(100)), { kind: 'invalid', code: 4506, mid: '0123456789abcdef' });
  /** @type {any} */
  let deep = [];
  for (let i = 0; i < 16; i++) deep = [deep];
  assert.throws(() => send(deep), { kind: 'invalid', code: 4507 });
  send('x'.repeat(98));
});

test('credentials are renewed before they expire, and when they are refused', () => {
  const machine = online({ token: 'old', renewable: true }, { expires: 1_000_000 + 200_000 });
  machine.onMessage(139_999, '{"t":"future"}');
  machine.onTime(140_000);
  assert.ok(machine.outputs.some((output) => output.do === 'fetchToken'));
  machine.onToken(140_001, 'new');
  assert.match(JSON.stringify(machine.outputs), /refresh.*new/);
  machine.onMessage(140_002, '{"t":"disconnect","code":4302}');
  assert.equal(machine.phase, 'renewing');
  machine.onNoToken(140_003, 'offline');
  machine.onTime(machine.deadline);
  machine.onToken(150_000, 'newer');
  assert.equal(machine.deadline, 150_000);
  machine.onTime(150_000);
  assert.equal(machine.phase, 'connecting');
});

test('statuses that come by the downlink set the cursor, also before the answer to the sub', () => {
  const machine = online();
  machine.traits = { codec: JSON_CODEC, duplex: false };
  const id = machine.onCommand({ t: 'subscribe', room: 'tea' });
  machine.flush(1);
  const event = { t: 'event', room: 'tea', epoch: '1.1', from: 'x', at: 0, kind: 'message', content: 1 };
  const status = { room: 'tea', status: 'ok', epoch: '1.1', cursor: 4, head: 5 };
  machine.onMessage(2, JSON.stringify([{ t: 'room', ...status }, { ...event, seq: 5 }]));
  machine.onMessage(3, JSON.stringify({ t: 'ok', id, rooms: [status], rev: 1, gen: 'g' }));
  machine.onMessage(4, JSON.stringify([{ ...event, seq: 5 }, { ...event, seq: 6 }]));
  assert.deepEqual(machine.events.map((told) => (told.type === 'event' ? told.event.seq : told.type)), [5, 6]);
});

test('an update that is not newer than what is held is told as stale, and not as a change', () => {
  const machine = online();
  const id = machine.onCommand({ t: 'subscribe', room: 'tea' });
  machine.flush(1);
  const status = { room: 'tea', status: 'ok', epoch: '1.1', cursor: 4, head: 4 };
  machine.onMessage(2, JSON.stringify({ t: 'ok', id, rooms: [status], rev: 1, gen: 'g' }));
  const state = (/** @type {number} */ ms) => ({ t: 'state', room: 'tea', key: 'kettle', stamp: `${ms}-0-1`, from: 'x', value: ms });
  machine.onMessage(3, JSON.stringify([state(5), state(4), state(5), state(6), { ...state(9), room: 'elsewhere' }]));
  const told = machine.events.map((event) => ('update' in event ? [event.type, event.update.value] : [event.type]));
  assert.deepEqual(told, [['state', 5], ['stale', 4], ['stale', 5], ['state', 6]]);
});

test('a status that is handed out again changes nothing; a log that ends before the cursor does', () => {
  const machine = online();
  const id = machine.onCommand({ t: 'subscribe', room: 'tea' });
  machine.flush(1);
  const status = { room: 'tea', status: 'reset', epoch: '1.1', cursor: 4, head: 4 };
  const event = { t: 'event', room: 'tea', epoch: '1.1', seq: 5, from: 'x', at: 0, kind: 'message', content: 1 };
  const messages = [{ t: 'ok', id, rooms: [{ ...status, status: 'ok' }], rev: 1, gen: 'g' }, event,
    { t: 'room', ...status, head: 5 }, event, { t: 'room', ...status, status: 'gap' }, { t: 'room', ...status, head: 3, cursor: 3 }];
  machine.onMessage(2, JSON.stringify(messages));
  assert.deepEqual(machine.events.map(({ type }) => type), ['event', 'room']);
  assert.equal(machine.rooms.cursor('tea')?.seq, 3);
});

for (const duplex of [true, false]) {
  test(`what is missing is asked for, whatever a status says (${duplex ? 'one stream' : 'two ways'})`, () => {
    const status = { room: 'tea', status: 'ok', epoch: '1.1', cursor: 4, head: 9 };
    const event = { t: 'event', room: 'tea', epoch: '1.1', from: 'x', at: 0, kind: 'message', content: 1 };
    for (const push of [{ ...event, seq: 7 }, { t: 'room', ...status, cursor: 6 }]) {
      const machine = online();
      const id = machine.onCommand({ t: 'subscribe', room: 'tea' });
      machine.flush(1);
      machine.onMessage(2, JSON.stringify({ t: 'ok', id, rooms: [status], rev: 1, gen: 'g' }));
      machine.traits = { codec: JSON_CODEC, duplex };
      machine.outputs.length = 0;
      machine.onMessage(3, JSON.stringify(push));
      assert.equal(machine.rooms.cursor('tea')?.seq, 4);
      assert.deepEqual(machine.events.filter(({ type }) => type === 'event' || type === 'room'), []);
      assert.equal(machine.phase, 'online');
      assert.match(JSON.stringify(machine.outputs), /sub.*since.{1,4}:4/);
    }
  });
}

test('the ladder falls back to what works, and climbs again', () => {
  const ladder = new Ladder(['ws', 'sse', 'poll', 'short'], 1000);
  for (const name of /** @type {const} */ (['ws', 'sse'])) {
    assert.equal(ladder.choose(0), name);
    ladder.failed(name, false);
  }
  assert.equal(ladder.choose(0), 'poll');
  ladder.works(0, 'poll');
  assert.equal(ladder.choose(999), 'poll');
  assert.deepEqual(ladder.better('poll'), { at: 1000, name: 'ws' });
  assert.equal(ladder.choose(1000), 'ws');
  ladder.passOver(1000, 'ws');
  assert.deepEqual(ladder.better('poll'), { at: 1000, name: 'sse' });
  ladder.works(1000, 'sse');
  assert.deepEqual(ladder.better('sse'), { at: 3000, name: 'ws' });
  const next = new Ladder(['ws', 'sse', 'poll', 'short'], 1000);
  next.load(50_000, JSON.parse(JSON.stringify(ladder.save(1500))));
  assert.equal(next.choose(51_000), 'sse');
  assert.equal(next.choose(51_500), 'ws');
});

test('a transport that is refused at once gets a second try, one that is blocked does not', () => {
  const ladder = new Ladder(['ws', 'sse'], 1000);
  ladder.failed('ws', false, true);
  assert.equal(ladder.choose(0), 'ws');
  ladder.failed('ws', false, true);
  assert.equal(ladder.choose(0), 'sse');
  const other = new Ladder(['ws', 'sse'], 1000);
  other.failed('ws', false, false);
  assert.equal(other.choose(0), 'sse');
});

test('a server that is away is not held against its transports', () => {
  const ladder = new Ladder(['ws', 'sse'], 1000);
  ladder.works(0, 'ws');
  const tried = [];
  for (let n = 0; n < 8; n++) {
    const name = ladder.choose(0);
    tried.push(name);
    ladder.failed(name, false);
  }
  assert.deepEqual(tried.slice(0, 4), ['ws', 'ws', 'ws', 'sse']);
  assert.equal(ladder.better('ws'), undefined);
  ladder.works(0, 'ws');
  assert.deepEqual(Object.keys(ladder.save(0)), ['sse']);
});

test('the clock counts sleep, and never goes back', () => {
  const [steady, wall] = [[0, 10, 20, 30], [1000, 1010, 61_020, 500]];
  const now = clock(() => /** @type {number} */ (steady.shift()), () => /** @type {number} */ (wall.shift()));
  assert.deepEqual([now(), now(), now()], [10, 60_020, 60_030]);
});

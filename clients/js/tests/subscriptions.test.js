// Subscribing and unsubscribing: the last call wins, in whatever order answers come.

import assert from 'node:assert/strict';
import test from 'node:test';

import { JSON_CODEC } from '../src/wire/codec.js';
import { online } from './support/machine.js';
import { Subscriptions } from './support/subscriptions.js';

/** @param {number} from @param {number} to both included */
const range = (from, to) => Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

for (const duplex of [true, false]) {
  const ways = duplex ? 'one stream' : 'two ways';

  test(`subscribe after unsubscribe before the answer delivers (${ways})`, async () => {
    const model = new Subscriptions(1, duplex);
    await model.settle();
    const room = model.client.room('tea');
    /** @type {number[]} */
    const heard = [];
    room.on('event', ({ seq }) => heard.push(seq));
    const overtaken = [room.subscribe(), room.unsubscribe()];
    const answer = room.subscribe();
    await model.settle();
    await Promise.all(overtaken);
    assert.equal((await answer).status, 'ok');
    model.publish('tea');
    await model.settle();
    assert.deepEqual(heard, [1]);
    assert.deepEqual([...model.rooms.keys()], ['tea']);
  });

  test(`unsubscribe before the answer leaves nothing behind (${ways})`, async () => {
    const model = new Subscriptions(1, duplex);
    await model.settle();
    const room = model.client.room('tea');
    room.on('event', () => assert.fail('an event of a room that was left'));
    const overtaken = room.subscribe();
    const left = room.unsubscribe();
    await model.settle();
    await Promise.all([overtaken, left]);
    assert.equal(room.cursor, undefined);
    assert.equal(model.rooms.size, 0);
    // The next connection does not restore it either.
    model.cut();
    model.publish('tea');
    await model.settle();
    assert.equal(room.cursor, undefined);
    assert.equal(model.rooms.size, 0);
  });

  test(`the last sub of a held room decides over any interleaving (${ways})`, async () => {
    let [cuts, moved] = [0, 0];
    for (let seed = 1; seed <= 150; seed++) {
      const model = new Subscriptions(seed, duplex);
      const room = model.client.room('tea');
      /** @type {number[]} */
      const heard = [];
      room.on('event', ({ seq }) => heard.push(seq));
      model.publish('tea');
      let answer = room.subscribe().then(({ cursor }) => cursor);
      await model.settle();
      for (let i = 0; i < 60; i++) {
        const choice = model.draw(10);
        if (choice === 0) {
          const since = model.draw(3) === 0 ? {} : { epoch: '1.1', since: model.draw(model.log('tea').length + 1) };
          answer = model.client.command({ t: 'subscribe', room: 'tea', ...since }).then(({ rooms }) => rooms[0].cursor);
          moved += 1;
        } else if (choice < 4) model.publish('tea');
        else if (choice === 4 && model.draw(5) === 0) model.cut();
        else if (choice === 5 && model.client.status !== 'online') model.wait();
        else {
          const moves = model.moves();
          moves[model.draw(moves.length)]?.();
        }
        await model.turn();
      }
      await model.settle();
      const cursor = Number(await answer);
      const rest = range(cursor + 1, model.log('tea').length);
      assert.deepEqual(heard.slice(heard.length - rest.length), rest, `seed ${seed}`);
      assert.equal(room.cursor?.seq, model.log('tea').length, `seed ${seed}`);
      cuts += model.cuts;
    }
    assert.ok(cuts > 50 && moved > 500, `${cuts} ${moved}`);
  });

  test(`the last call decides over any interleaving (${ways})`, async () => {
    let cuts = 0;
    for (let seed = 1; seed <= 150; seed++) cuts += await interleave(seed, duplex);
    assert.ok(cuts > 100, String(cuts));
  });
}

test('pushes before the answer to a sub wait for it', () => {
  const machine = online();
  machine.traits = { codec: JSON_CODEC, duplex: false };
  const id = machine.onCommand({ t: 'subscribe', room: 'tea', epoch: '1.1', since: 2 });
  machine.flush(1);
  const event = { t: 'event', room: 'tea', epoch: '1.1', from: 'x', at: 0, kind: 'message', content: 1 };
  const status = { room: 'tea', status: 'ok', epoch: '1.1', cursor: 2, head: 5 };
  const told = () => machine.events.splice(0).map((event) => (event.type === 'event' ? event.event.seq : event.type));
  // The status of an earlier subscription, then of this one.
  machine.onMessage(2, JSON.stringify([{ t: 'room', ...status, cursor: 2 }, { ...event, seq: 3 },
    { t: 'snapshot', room: 'tea', gen: 'g', entries: [{ key: 'k', stamp: '1-0-1', from: 'x', value: 1 }], more: false }]));
  assert.deepEqual(told(), []);
  machine.onMessage(3, JSON.stringify({ t: 'ok', id, rooms: [status], rev: 1, gen: 'g' }));
  assert.deepEqual(told(), [3, 'snapshot']);
  machine.onMessage(4, JSON.stringify({ ...event, seq: 4 }));
  assert.deepEqual(told(), [4]);
  assert.equal(machine.phase, 'online');
});

/** @param {number} from @param {number} to both included */
const events = (from, to) => range(from, to).map((seq) => ({ t: 'event', room: 'tea', epoch: '1.1', seq, from: 'x', at: 0, kind: 'message', content: 1 }));

/** @param {number} cursor @param {number} [head] */
const status = (cursor, head = cursor) => ({ room: 'tea', status: 'ok', epoch: '1.1', cursor, head });

/**
 * A machine with separate answers and pushes that has read `tea` up to 7; then a `subscribe` at 2
 * is in flight.
 */
function subscribedAgain() {
  const machine = online();
  machine.traits = { codec: JSON_CODEC, duplex: false };
  const first = machine.onCommand({ t: 'subscribe', room: 'tea' });
  machine.flush(1);
  machine.onMessage(1, JSON.stringify({ t: 'ok', id: first, rooms: [status(7)], rev: 1, gen: 'g' }));
  const id = machine.onCommand({ t: 'subscribe', room: 'tea', epoch: '1.1', since: 2 });
  machine.flush(2);
  machine.outputs.length = 0;
  const told = () => machine.events.splice(0).map((event) => (event.type === 'event' ? event.event.seq : event.type));
  return { machine, id, told };
}

test('pushes of a held room wait for the answer to its next sub', () => {
  const { machine, id, told } = subscribedAgain();
  // Pushes of the former subscription, then of this one.
  machine.onMessage(3, JSON.stringify([...events(8, 8), { t: 'room', ...status(2, 8) }, ...events(3, 5)]));
  assert.deepEqual(told(), []);
  machine.onMessage(4, JSON.stringify({ t: 'ok', id, rooms: [status(2, 8)], rev: 2, gen: 'g' }));
  assert.deepEqual(told(), [3, 4, 5]);
  machine.onMessage(5, JSON.stringify(events(6, 8)));
  assert.deepEqual(told(), [6, 7, 8]);
  // There is no gap, so nothing is requested.
  assert.deepEqual(machine.outputs.filter((output) => output.do === 'transmit'), []);
});

test('pushes of a held room are delivered after its next sub was refused', () => {
  const { machine, id, told } = subscribedAgain();
  machine.onMessage(3, JSON.stringify(events(8, 9)));
  assert.deepEqual(told(), []);
  machine.onMessage(4, JSON.stringify({ t: 'err', id, code: 4200, msg: 'slow down' }));
  assert.deepEqual(told(), [8, 9]);
  assert.equal(machine.rooms.cursor('tea')?.seq, 9);
  assert.equal(machine.early.count, 0);
});

test('a reset in the answer drops pushes of the former epoch', () => {
  const { machine, id, told } = subscribedAgain();
  machine.onMessage(3, JSON.stringify(events(8, 8)));
  machine.onMessage(4, JSON.stringify({ t: 'ok', id, rooms: [{ ...status(6), status: 'reset', epoch: '2.1' }], rev: 2, gen: 'g' }));
  assert.deepEqual(told(), ['room']);
  assert.deepEqual(machine.rooms.cursor('tea'), { epoch: '2.1', seq: 6 });
});

test('more pushes than wait for an answer are asked for after it', () => {
  const machine = online();
  machine.traits = { codec: JSON_CODEC, duplex: false };
  const id = machine.onCommand({ t: 'subscribe', room: 'tea', epoch: '1.1', since: 0 });
  machine.flush(1);
  machine.onMessage(2, JSON.stringify(events(1, 1500)));
  assert.equal(machine.early.count, 1024);
  machine.onMessage(3, JSON.stringify({ t: 'ok', id, rooms: [{ room: 'tea', status: 'ok', epoch: '1.1', cursor: 0, head: 1500 }], rev: 1, gen: 'g' }));
  assert.equal(machine.rooms.cursor('tea')?.seq, 1024);
  assert.match(JSON.stringify(machine.outputs), /sub.*since.{1,4}:1024/);
  assert.equal(machine.phase, 'online');
  assert.equal(machine.early.count, 0);
});

/**
 * Runs calls, answers, pushes and cuts in a seeded order, until nothing is in flight.
 *
 * @param {number} seed
 * @param {boolean} duplex
 */
async function interleave(seed, duplex) {
  const model = new Subscriptions(seed, duplex);
  model.refuses = true;
  const names = ['a', 'b', 'c'];
  const calls = new Map(names.map((name) => [name, call(model, name, false)]));
  for (let i = 0; i < 80; i++) {
    const name = names[model.draw(names.length)];
    const choice = model.draw(12);
    if (choice < 3) calls.set(name, call(model, name, model.draw(2) === 0));
    else if (choice === 3) model.publish(name);
    else if (choice === 4 && model.draw(3) === 0) model.cut();
    else if (choice === 5 && model.client.status !== 'online') model.wait();
    else {
      const moves = model.moves();
      moves[model.draw(moves.length)]?.();
    }
    await model.turn();
  }
  await model.settle();
  for (const name of names) model.publish(name);
  await model.settle();
  // The server may have refused an unsubscribe; the next connection's resume corrects that.
  model.cut();
  await model.settle();
  assert.equal(model.client.shell?.machine.decisions.rooms.size, 0, `seed ${seed}`);
  for (const [name, { subscribes, heard, answer }] of calls) {
    const what = `seed ${seed}, room ${name}`;
    assert.equal(!model.isUnsubscribed && model.rooms.has(name), subscribes, what);
    assert.equal(model.client.room(name).cursor !== undefined, subscribes, what);
    const status = /** @type {any} */ (await answer.catch((error) => assert.equal(subscribes, false, error)));
    if (subscribes) assert.deepEqual(heard, range(status.cursor + 1, model.log(name).length), what);
    else assert.deepEqual(heard, [], what);
  }
  return model.cuts;
}

/**
 * Subscribes to a room, or unsubscribes. Collects the events from then on: none after an
 * unsubscribe.
 *
 * @param {Subscriptions} model
 * @param {string} name
 * @param {boolean} subscribes
 */
function call(model, name, subscribes) {
  const room = model.client.room(name);
  room.listeners.clear();
  /** @type {number[]} */
  const heard = [];
  room.on('event', ({ seq }) => heard.push(seq));
  const log = model.log(name);
  const since = model.draw(2) === 0 ? { epoch: '1.1', seq: model.draw(log.length + 1) } : undefined;
  const answer = subscribes ? room.subscribe({ since }) : room.unsubscribe();
  answer.catch(() => {});
  return { subscribes, heard, answer };
}

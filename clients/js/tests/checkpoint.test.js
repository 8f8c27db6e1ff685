// Resuming from a checkpoint, in virtual time.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Code } from '../src/index.js';
import { decodeMessage, JSON_CODEC } from '../src/wire/codec.js';
import { online } from './support/machine.js';

/** @typedef {import('../src/core/machine.js').Machine} Machine */
/** @typedef {import('../src/wire/value.js').Frame} Frame */

const EPOCH = '1.1';

/** A client that is subscribed to `n` rooms, each at its event 4, and the checkpoint's revision. */
class Rig {
  /** @param {number} n @param {{duplex?: boolean}} [traits] */
  constructor(n, { duplex = true } = {}) {
    this.machine = online();
    this.duplex = duplex;
    this.rev = 0;
    this.now = 1;
    for (let i = 0; i < n; i++) this.subscribe(`r${i}`);
    this.machine.traits = { codec: JSON_CODEC, duplex };
    this.machine.events.length = 0;
  }

  /** Returns the frames that the machine wrote, message by message. */
  written() {
    this.machine.flush(this.now);
    const messages = this.machine.outputs.splice(0).flatMap((output) => (output.do === 'transmit' ? [output.message] : []));
    return messages.map((message) => ({ length: message.length, frames: decodeMessage(message) }));
  }

  frames() {
    return this.written().flatMap(({ frames }) => frames);
  }

  /** @param {...Frame} frames */
  says(...frames) {
    this.machine.onMessage(this.now, JSON.stringify(frames));
  }

  /** @param {string} room */
  subscribe(room) {
    const id = this.machine.onCommand({ t: 'subscribe', room });
    this.machine.flush(this.now);
    this.says(this.rooms(id, [[room, 4]]));
    this.machine.outputs.length = 0;
  }

  /** @param {number} id @param {[string, number][]} rooms */
  rooms(id, rooms) {
    this.rev += 1;
    const statuses = rooms.map(([room, cursor]) => ({ room, status: 'ok', epoch: EPOCH, cursor, head: 9 }));
    return { t: 'ok', id, rooms: statuses, rev: this.rev, gen: 'g' };
  }

  /** @param {string} room @param {number} seq */
  event(room, seq) {
    this.says({ t: 'event', room, epoch: EPOCH, seq, from: 'x', at: 0, kind: 'message', content: seq });
  }

  /** Cuts the connection and opens the next one. Returns the frames of the greeting's message. */
  reconnect() {
    this.machine.onLost(this.now, { message: 'cut' });
    this.now = this.machine.deadline;
    this.machine.onTime(this.now);
    this.machine.outputs.length = 0;
    this.machine.onConnected(this.now, { codec: JSON_CODEC, duplex: this.duplex });
    return this.written();
  }

  /** @param {Frame} hello @param {object} [fields] */
  welcome({ id }, fields) {
    this.says({ t: 'ok', id, session: 's', secret: 'x', user: 'u', device: 'd', resumed: true, rev: this.rev, idle_ms: 60_000,
      limits: {}, ...fields });
  }
}

for (const duplex of [true, false]) {
  test(`a client of a thousand rooms comes back in one small message (${duplex ? 'one stream' : 'two ways'})`, () => {
    const rig = new Rig(1000, { duplex });
    rig.event('r7', 5);
    rig.event('r8', 5);
    rig.event('r8', 6);
    const greeting = rig.reconnect();
    assert.equal(greeting.length, 1);
    const [hello, resume] = greeting[0].frames;
    assert.equal(hello.session, 's');
    assert.deepEqual([resume.rev, resume.cursors], [1000, [['r7', EPOCH, 5], ['r8', EPOCH, 6]]]);
    assert.ok(greeting[0].length < 300, String(greeting[0].length));
    rig.welcome(hello);
    rig.says(rig.rooms(resume.id, Array.from({ length: 1000 }, (_, i) => [`r${i}`, i === 7 ? 5 : i === 8 ? 6 : 4])));
    assert.deepEqual(rig.machine.events.filter(({ type }) => type === 'room'), []);
    assert.deepEqual(rig.frames(), []);
    assert.deepEqual(rig.reconnect()[0].frames[1].cursors, []);
  });
}

test('where the checkpoint is another one, all rooms are named', () => {
  const rig = new Rig(200);
  const [hello, resume] = rig.reconnect()[0].frames;
  rig.welcome(hello);
  rig.says({ t: 'err', id: resume.id, code: Code.StaleCheckpoint, msg: '' });
  const again = rig.frames();
  assert.ok(again.length > 1 && again.every(({ t, rev }) => t === 'resume' && rev === undefined));
  const named = again.flatMap(({ cursors }) => cursors);
  assert.deepEqual(named, Array.from({ length: 200 }, (_, i) => [`r${i}`, EPOCH, 4]));
  for (const { id, cursors } of again) rig.says(rig.rooms(id, cursors.map((/** @type {any[]} */ [room, , seq]) => [room, seq])));
  const [, next] = rig.reconnect()[0].frames;
  assert.deepEqual([next.rev, next.cursors], [rig.rev, []]);
});

test('a new session has no checkpoint', () => {
  const rig = new Rig(3);
  const [hello] = rig.reconnect()[0].frames;
  rig.says({ t: 'err', id: hello.id, code: Code.UnknownSession, msg: '' });
  const [anew, resume] = rig.reconnect()[0].frames;
  assert.deepEqual([anew.session, resume.rev, resume.cursors.length], [undefined, undefined, 3]);
});

test('after a change whose answer was lost, the revision is not known', () => {
  for (const change of [{ t: 'unsubscribe', room: 'r0' }, { t: 'subscribe', room: 'more' }]) {
    const rig = new Rig(3);
    rig.machine.onCommand(change);
    assert.equal(rig.frames().length, 1);
    const [, resume] = rig.reconnect()[0].frames;
    assert.deepEqual([resume.rev, resume.cursors.length], [undefined, change.t === 'unsubscribe' ? 2 : 3]);
    // The same on the next connection: now the resume is unanswered.
    assert.equal(rig.reconnect()[0].frames[1].rev, undefined);
  }
});

test('a room in which something is missing is named, whatever the checkpoint is thought to have', () => {
  const rig = new Rig(3);
  rig.event('r1', 6);
  assert.equal(rig.frames()[0].t, 'subscribe');
  rig.machine.rooms.learnRev(rig.rev);
  rig.machine.flight.pending.clear();
  assert.deepEqual(rig.reconnect()[0].frames[1].cursors, [['r1', EPOCH, 4]]);
});

test('when many rooms have moved the server is told, one checkpoint at a time', () => {
  const rig = new Rig(100);
  const { checkpointRooms: most, checkpointMs: pause } = rig.machine.config;
  for (let i = 0; i < most - 1; i++) rig.event(`r${i}`, 5);
  rig.now = pause * 2;
  assert.deepEqual(rig.frames(), []);
  rig.event('r99', 5);
  const [checkpoint] = rig.frames();
  assert.deepEqual([checkpoint.t, checkpoint.cursors.length], ['checkpoint', most]);
  for (let i = 20; i < 60; i++) rig.event(`r${i}`, 5);
  rig.event('r99', 6);
  rig.now += pause * 2;
  assert.deepEqual(rig.frames(), []);
  rig.rev += 1;
  rig.says({ t: 'ok', id: checkpoint.id, rev: rig.rev });
  // Rooms that moved meanwhile are confirmed now, and a refused checkpoint is retried later.
  const [second] = rig.frames();
  assert.equal(second.cursors.length, 41);
  assert.deepEqual(second.cursors.filter((/** @type {any[]} */ [room]) => room === 'r99'), [['r99', EPOCH, 6]]);
  rig.says({ t: 'err', id: second.id, code: 4200, msg: '' });
  assert.deepEqual(rig.frames(), []);
  assert.equal(rig.machine.rooms.nextCheckpoint(rig.machine.config), rig.now + pause);
  rig.now += pause;
  const [third] = rig.frames();
  rig.rev += 1;
  rig.says({ t: 'ok', id: third.id, rev: rig.rev });
  const [, resume] = rig.reconnect()[0].frames;
  assert.deepEqual([resume.rev, resume.cursors], [rig.rev, []]);
});

test('after an answer that makes no sense, the checkpoint is not relied on', () => {
  const rig = new Rig(2);
  const id = rig.machine.onCommand({ t: 'subscribe', room: 'more' });
  rig.frames();
  rig.says({ t: 'ok', id, rooms: 'none', rev: 3, gen: 'g' });
  assert.equal(rig.machine.decisions.rooms.size, 0);
  const [, resume] = rig.reconnect()[0].frames;
  assert.deepEqual([resume.rev, resume.cursors.length], [undefined, 2]);
});

test('a room that was denied is not denied again by the checkpoint', () => {
  const rig = new Rig(2);
  rig.says({ t: 'room', room: 'r0', status: 'denied', head: 0, code: 4602 });
  assert.equal(rig.machine.events.length, 1);
  const [hello, resume] = rig.reconnect()[0].frames;
  rig.machine.events.length = 0;
  rig.welcome(hello);
  const answer = rig.rooms(resume.id, [['r1', 4]]);
  rig.says({ ...answer, rooms: [...answer.rooms, { room: 'r0', status: 'denied', head: 0, code: 4602 }] });
  assert.deepEqual(rig.machine.events.map(({ type }) => type), ['connected']);
});

test('a room that was denied does not come back from the checkpoint', () => {
  for (const duplex of [true, false]) {
    const rig = new Rig(2, { duplex });
    rig.says({ t: 'room', room: 'r0', status: 'denied', head: 0, code: 4602 });
    // The answer to another command contains the revision of a checkpoint that still has the room.
    rig.subscribe('r1');
    const [hello, resume] = rig.reconnect()[0].frames;
    assert.deepEqual([resume.rev, resume.cursors], [undefined, [['r1', EPOCH, 4]]]);
    rig.welcome(hello);
    rig.says(rig.rooms(resume.id, [['r1', 4]]));
    const [again, next] = rig.reconnect()[0].frames;
    assert.deepEqual([next.rev, next.cursors], [rig.rev, []]);
    rig.welcome(again);
    // The answer that denies the room is about the checkpoint itself.
    rig.says({ ...rig.rooms(next.id, []), rooms: [{ room: 'r1', status: 'denied', head: 0, code: 4602 }] });
    assert.equal(rig.machine.rooms.hasStray, false);
  }
});

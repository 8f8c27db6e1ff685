// Unused handles to rooms are released.

import assert from 'node:assert/strict';
import test from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { Subscriptions } from './support/subscriptions.js';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

/**
 * Collects garbage until at most `most` of these are alive.
 * @param {WeakRef<object>[]} refs
 * @param {number} most
 */
async function alive(refs, most) {
  const count = () => refs.filter((ref) => ref.deref()).length;
  for (let n = 0; n < 20 && count() > most; n++) {
    // A dereferenced WeakRef keeps its target to the end of the turn.
    await new Promise(setImmediate);
    collect();
  }
  return count();
}

/** @param {Subscriptions} model @param {number} n */
async function followAndLeave(model, n) {
  /** @type {WeakRef<object>[]} */
  const refs = [];
  for (let i = 0; i < n; i++) {
    const room = model.client.room(`r${i}`);
    refs.push(new WeakRef(room));
    const stop = room.on('event', () => {});
    const done = room.subscribe().then(() => room.unsubscribe());
    await model.settle();
    await done;
    stop();
  }
  return refs;
}

test('rooms that were subscribed to and left are released', async () => {
  const model = new Subscriptions(1, true);
  await model.settle();
  const refs = await followAndLeave(model, 2000);
  assert.equal(model.client.handles.held.size, 0);
  assert.ok((await alive(refs, 10)) <= 10);
  assert.equal(model.client.shell?.machine.rooms.map.size, 0);
  assert.equal(model.client.shell?.machine.decisions.rooms.size, 0);
  // The engine calls the registry back some time after each collection.
  while (model.client.handles.idle.size > 10) await new Promise(setImmediate);
});

test('a handle that is subscribed to or listened to is kept without the application', async () => {
  const model = new Subscriptions(1, true);
  await model.settle();
  /** @type {string[]} */
  const heard = [];
  const refs = ['subscribed', 'listened', 'iterated'].map((name) => {
    const room = model.client.room(name);
    if (name === 'subscribed') room.subscribe();
    if (name === 'listened') room.on('event', () => heard.push(name));
    if (name === 'iterated') room.events();
    return new WeakRef(room);
  });
  await model.settle();
  assert.equal(await alive(refs, 0), 3);
  const subscription = model.client.room('listened').subscribe();
  await model.settle();
  await subscription;
  model.publish('listened');
  await model.settle();
  assert.deepEqual(heard, ['listened']);
});

test('a handle that the application holds is the one for its room, whatever was collected', async () => {
  const model = new Subscriptions(1, true);
  await model.settle();
  const room = model.client.room('tea');
  for (let n = 0; n < 3; n++) {
    const done = room.subscribe().then(() => room.unsubscribe());
    await model.settle();
    await done;
    collect();
    await new Promise(setImmediate);
    assert.equal(model.client.room('tea'), room);
  }
});

test('a room that was denied is released', async () => {
  const model = new Subscriptions(1, true);
  await model.settle();
  const refs = [new WeakRef(model.client.room('tea'))];
  model.client.room('tea').subscribe();
  await model.settle();
  model.down.push({ t: 'room', room: 'tea', status: 'denied', head: 0, code: 4602 });
  await model.settle();
  assert.equal(model.client.handles.held.size, 0);
  assert.equal(await alive(refs, 0), 0);
});

// The hub that serves the tabs of a page, on a fake connection.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Hub } from '../src/tabs/hub.js';
import { FakeLocks } from './support/locks.js';

/** @typedef {import('../src/wire/value.js').Frame} Frame */

/** A connection whose commands the test answers. */
function fakeShell() {
  const map = new Map();
  const machine = { generation: 'g', rooms: { map, cursor: (/** @type {string} */ room) => map.get(room)?.cursor } };
  /** @type {{body: Frame, answer: (reply: Frame) => void}[]} */
  const asked = [];
  return {
    asked,
    machine,
    start() {},
    close() {},
    /** @param {Frame} body @returns {Promise<Frame>} */
    command: (body) => new Promise((answer) => void asked.push({ body, answer })),
  };
}

/** @param {import('node:test').TestContext} t */
function start(t) {
  const shell = fakeShell();
  class BroadcastChannel {
    postMessage() {}
    close() {}
  }
  const tabs = /** @type {any} */ ({ locks: new FakeLocks(), BroadcastChannel });
  // The locks of tabs that never end.
  tabs.locks.request = () => new Promise(() => {});
  const hub = new Hub({ name: 'page', tabs, connect: () => /** @type {any} */ (shell) });
  t.after(() => hub.close());
  return { hub, shell };
}

test('a room whose tab left before the answer is left too', async (t) => {
  for (const leaves of [{ close: /** @type {const} */ (true) }, { frames: [{ t: 'unsubscribe', id: 2, room: 'tea' }] }]) {
    const { hub, shell } = start(t);
    hub.on({ tab: 'one', conn: 1, open: true });
    hub.on({ tab: 'one', conn: 1, frames: [{ t: 'subscribe', id: 1, room: 'tea' }] });
    hub.on({ tab: 'one', conn: 1, ...leaves });
    await new Promise(setImmediate);
    assert.deepEqual(shell.asked.map(({ body }) => body.t), ['subscribe']);
    shell.machine.rooms.map.set('tea', { cursor: { epoch: '1.1', seq: 4 } });
    shell.asked[0].answer({ rooms: [{ room: 'tea', status: 'ok', epoch: '1.1', cursor: 4 }] });
    await new Promise(setImmediate);
    assert.deepEqual(shell.asked.map(({ body }) => [body.t, body.room]), [['subscribe', 'tea'], ['unsubscribe', 'tea']]);
  }
});

test('a room that another tab is subscribed to stays when the first leaves before the answer', async (t) => {
  const { hub, shell } = start(t);
  for (const tab of ['one', 'two']) {
    hub.on({ tab, conn: 1, open: true });
    hub.on({ tab, conn: 1, frames: [{ t: 'subscribe', id: 1, room: 'tea' }] });
  }
  hub.on({ tab: 'one', conn: 1, close: true });
  shell.machine.rooms.map.set('tea', { cursor: { epoch: '1.1', seq: 4 } });
  shell.asked[0].answer({ rooms: [{ room: 'tea', status: 'ok', epoch: '1.1', cursor: 4 }] });
  await new Promise(setImmediate);
  assert.deepEqual(shell.asked.map(({ body }) => body.t), ['subscribe']);
});

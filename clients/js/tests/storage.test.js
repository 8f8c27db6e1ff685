// What survives a reload of the page.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect } from '../src/index.js';
import { PersistentStore } from '../src/storage.js';
import { FakeHttp } from './support/fake-http.js';
import { memoryStorage, QUICK } from './support/server.js';

/**
 * A page without a network, on this storage.
 * @param {import('../src/storage.js').StorageLike} storage
 */
function offline(storage) {
  const env = { webSocket: () => new Promise(() => {}) };
  return connect({ url: 'ws://127.0.0.1:9/ws', user: 'ann', name: 'page', storage, env });
}

test('sends survive reloads in their order, though the clock is set back', async (t) => {
  const storage = memoryStorage();
  const now = t.mock.method(Date, 'now', () => 0);
  /** @type {string[]} */
  const texts = [];
  for (let load = 0; load < 3; load++) {
    const page = offline(storage);
    for (let n = 0; n < 12; n++) {
      // Each clock reading is an hour before the previous one.
      now.mock.mockImplementation(() => 2e12 - texts.length * 3_600_000);
      const text = `${load}/${n}`;
      texts.push(text);
      page.room('tea').send({ text }).catch(() => {});
    }
    page.close();
  }
  now.mock.restore();
  const fake = await FakeHttp.start(t);
  const next = connect({ url: fake.url, user: 'ann', name: 'page', storage, transport: 'poll', config: QUICK });
  t.after(() => next.close());
  let acks = 0;
  next.on('ack', () => (acks += 1));
  while (acks < texts.length) await next.once('ack');
  assert.deepEqual(fake.log('tea').map(({ content }) => content.text), texts);
});

test('tabs on one storage keep the order of each, also where the counter finds no room', () => {
  const storage = memoryStorage();
  /** @type {unknown[]} */
  const errors = [];
  const [one, other] = [0, 1].map(() => new PersistentStore(storage, 'page', (error) => void errors.push(error)));
  const send = (/** @type {number} */ n) => ({ t: 'send', room: 'tea', mid: `message-number-${n}`, content: n });
  [one, other, other, one, other, one].forEach((store, n) => store.storeSend(send(n)));
  assert.deepEqual(one.sends().map(({ content }) => content), [0, 1, 2, 3, 4, 5]);
  // A reload after the counter was lost.
  storage.removeItem('im/page/order');
  const { setItem } = storage;
  storage.setItem = (key, value) => {
    if (key === 'im/page/order') throw new Error('full');
    setItem.call(storage, key, value);
  };
  const next = new PersistentStore(storage, 'page', (error) => void errors.push(error));
  next.storeSend(send(6));
  next.storeSend(send(7));
  assert.deepEqual(next.sends().map(({ content }) => content), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert.equal(errors.length, 2);
});

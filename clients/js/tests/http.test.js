// The links over plain HTTP, against a small server that follows the protocol.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect } from '../src/index.js';
import { FakeHttp } from './support/fake-http.js';
import { FakeLocks } from './support/locks.js';
import { collect, QUICK } from './support/server.js';

/** @typedef {import('../src/links/link.js').Transport} Transport */

/**
 * @param {import('node:test').TestContext} t
 * @param {FakeHttp} fake
 * @param {Partial<import('../src/index.js').Options>} options
 */
function client(t, fake, options) {
  const config = { ...QUICK, pollMs: 20, ...options.config };
  const made = connect({ url: fake.url, user: 'ann', ...options, config });
  t.after(() => made.close());
  return made;
}

/** @param {number} n @param {number} [from] */
const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => String(from + i));

/** @type {[Transport, 'json' | 'msgpack', string][]} */
const LINKS = [
  ['sse', 'json', '/im/sse'],
  ['sse', 'msgpack', '/im/sse'],
  ['poll', 'json', '/im/poll'],
  ['poll', 'msgpack', '/im/poll'],
  ['short', 'json', '/im/poll'],
];

for (const [transport, encoding, path] of LINKS) {
  const name = `${transport}, ${encoding}`;

  test(`sends and receives, in order and once (${name})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport, encoding, token: 'secret' });
    const room = ann.room('tea');
    const status = await room.subscribe();
    assert.equal(status.cursor, 0);
    const heard = collect(room);
    const acks = await Promise.all(numbers(30).map((text) => room.send({ text, bytes: new Uint8Array([1]) })));
    assert.deepEqual(await heard.until(30), numbers(30));
    assert.deepEqual(acks.map(({ seq }) => seq), numbers(30, 1).map(Number));
    assert.equal(ann.transport, transport);
    assert.ok(fake.requests.every(({ headers }) => headers.authorization === 'Bearer secret'));
  });

  test(`answers that are lost cost nothing (${name})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport, encoding });
    const room = ann.room('tea');
    await room.subscribe();
    const heard = collect(room);
    await room.send({ text: '0' });
    await heard.until(1);
    // The request arrives, and its answer is lost: it is requested again from the same position.
    fake.losses.set(path, 2);
    fake.publish('tea', { text: '1' });
    await heard.until(2);
    // The message arrives, and its ack is lost: it is sent again under the same id.
    fake.losses.set('/im/send', 1);
    const ack = await room.send({ text: '2' });
    assert.equal(ack.duplicate, true);
    fake.publish('tea', { text: '3' });
    assert.deepEqual(await heard.until(4), numbers(4));
    assert.equal(fake.log('tea').length, 4);
  });

  test(`comes back when the server says so (${name})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport, encoding, config: { pollMs: 5 } });
    const room = ann.room('tea');
    await room.subscribe();
    const heard = collect(room);
    fake.publish('tea', { text: '0' });
    await heard.until(1);
    if (transport === 'short') return;
    await waitForDownlink(fake, ann);
    const left = ann.once('status');
    fake.disconnect(4001, 30);
    const change = await left;
    assert.equal(change.code, 4001);
    assert.ok(Number(change.retryInMs) >= 30);
    fake.publish('tea', { text: '1' });
    assert.deepEqual(await heard.until(2), numbers(2));
    await waitForDownlink(fake, ann);
    fake.disconnect(4600);
    while (ann.status !== 'closed') await ann.once('status');
  });
}

/**
 * Waits until the session's downlink is open. Without one the server cannot send a disconnect.
 *
 * @param {FakeHttp} fake
 * @param {import('../src/client.js').Client} ann
 */
async function waitForDownlink(fake, ann) {
  for (;;) {
    const { session = '' } = ann.shell?.machine.session ?? {};
    if (fake.sessions.get(session)?.down) return;
    await ann.ping();
  }
}

test('what is asked during a request goes up together in the next', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: 'poll' });
  const room = ann.room('tea');
  await room.subscribe();
  const before = fake.requests.filter(({ method }) => method === 'POST').length;
  let open = () => {};
  fake.gate = new Promise((resolve) => (open = () => resolve(undefined)));
  const sent = [];
  for (const text of numbers(8)) {
    sent.push(room.send({ text }));
    await new Promise(setImmediate);
  }
  open();
  await Promise.all(sent);
  assert.equal(fake.requests.filter(({ method }) => method === 'POST').length - before, 2);
  assert.deepEqual(fake.log('tea').map(({ content }) => content.text), numbers(8));
});

test('a poll that brings nothing is answered by 304', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: 'short' });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await fake.saw('GET /im/poll 304', 2);
  fake.publish('tea', { text: '0' });
  assert.deepEqual(await heard.until(1), ['0']);
});

test('a short poll after a full answer or a command is at once', async (t) => {
  const fake = await FakeHttp.start(t);
  // Longer than any test takes: a client that pauses receives nothing.
  const ann = client(t, fake, { transport: 'short', config: { pollMs: 3_600_000 } });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await room.send({ text: '0' });
  await heard.until(1);
  // A poll that returned something is followed by one that returns nothing.
  await fake.saw('GET /im/poll 304', 1);
  const polls = () => fake.requests.filter(({ url }) => url?.startsWith('/im/poll')).length;
  const before = polls();
  let open = () => {};
  fake.late = new Promise((resolve) => (open = () => resolve(undefined)));
  await ann.ping();
  while (polls() === before) await new Promise(setImmediate);
  // The answer to this poll is in transit already, without the new event.
  fake.publish('tea', { text: '1' });
  await room.send({ text: '2' });
  open();
  assert.deepEqual(await heard.until(3), numbers(3));
});

for (const transport of /** @type {const} */ (['sse', 'poll', 'short'])) {
  test(`create again after a lost answer tells the server's (${transport})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport });
    await ann.room('other').subscribe();
    fake.losses.set('/im/send', 1);
    await assert.rejects(ann.room('tea').create({ open: true }), { kind: 'unknown' });
    assert.deepEqual(await ann.room('tea').create({ open: true }).then(({ seq, duplicate }) => [seq, duplicate]), [1, true]);
  });
}

test('a session that somebody else takes over is left to them', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: 'sse' });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await waitForDownlink(fake, ann);
  const before = ann.shell?.machine.session;
  fake.disconnect(4101);
  assert.equal((await ann.once('status')).code, 4101);
  await ann.online();
  assert.notEqual(ann.shell?.machine.session?.session, before?.session);
  fake.publish('tea', { text: '0' });
  assert.deepEqual(await heard.until(1), ['0']);
});

test('a session that is not known any more is begun anew, and nothing is lost', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: 'poll' });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  fake.publish('tea', { text: '0' });
  await heard.until(1);
  await waitForDownlink(fake, ann);
  fake.sessions.set('s1', { secret: 'another', user: 'ann', rooms: new Map(), rev: 0 });
  fake.publish('tea', { text: '1' });
  const ack = room.send({ text: '2' });
  assert.deepEqual(await heard.until(3), numbers(3));
  assert.equal((await ack).seq, 3);
});

test('falls back to what works, and remembers', async (t) => {
  const fake = await FakeHttp.start(t);
  fake.blocked.add('/im/sse');
  const ann = client(t, fake, {});
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await room.send({ text: '0' });
  await heard.until(1);
  while (ann.transport !== 'poll') await ann.once('status');
  fake.publish('tea', { text: '1' });
  assert.deepEqual(await heard.until(2), numbers(2));
  const now = ann.shell?.env.now() ?? 0;
  assert.deepEqual(Object.keys(ann.shell?.ladder.save(now) ?? {}), ['ws', 'sse']);
});

for (const [transport, path] of /** @type {const} */ ([['sse', '/im/sse'], ['poll', '/im/poll'], ['sse', '/im/send'], ['poll', '/im/send']])) {
  const order = /** @type {Transport[]} */ ([transport, 'short']);

  test(`a gateway's 502 at the start demotes nothing (${transport}, ${path})`, async (t) => {
    const fake = await FakeHttp.start(t);
    fake.away.set(path, 1);
    const ann = client(t, fake, { transport: order });
    const room = ann.room('tea');
    await room.subscribe();
    const heard = collect(room);
    fake.publish('tea', { text: '0' });
    assert.deepEqual(await heard.until(1), ['0']);
    assert.equal(ann.transport, transport);
    assert.deepEqual(ann.shell?.ladder.save(ann.shell.env.now()), {});
  });

  test(`a gateway's 502 later is borne without a break (${transport}, ${path})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport: order });
    const room = ann.room('tea');
    await room.subscribe();
    const heard = collect(room);
    await room.send({ text: '0' });
    await heard.until(1);
    ann.on('status', (change) => assert.fail(JSON.stringify(change)));
    fake.away.set(path, 1);
    fake.cut();
    const ack = await room.send({ text: '1' });
    assert.equal(ack.seq, 2);
    assert.deepEqual(await heard.until(2), numbers(2));
    assert.equal(ann.transport, transport);
    ann.listeners.clear();
  });
}

test('what must not be done twice is not repeated after a 502, nor is the transport left', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: ['sse', 'poll'] });
  await ann.room('tea').subscribe();
  await waitForDownlink(fake, ann);
  fake.away.set('/im/send', 1);
  await assert.rejects(ann.room('new').create(), { kind: 'unknown' });
  await ann.online();
  assert.equal(fake.seen.filter((entry) => entry === 'POST /im/send 502').length, 1);
  assert.equal(ann.transport, 'sse');
});

test('a server that was away behind a gateway is found again by the same transport', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: ['sse', 'short'] });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await waitForDownlink(fake, ann);
  for (const path of ['/im/send', '/im/sse', '/im/poll']) fake.away.set(path, 8);
  fake.cut();
  const ack = room.send({ text: '0' });
  await fake.saw('GET /im/sse 502', 3);
  for (const path of ['/im/send', '/im/sse', '/im/poll']) fake.away.delete(path);
  assert.equal((await ack).seq, 1);
  assert.deepEqual(await heard.until(1), ['0']);
  assert.equal(ann.transport, 'sse');
});

test('moves up in mid-stream when a better transport works again', async (t) => {
  const fake = await FakeHttp.start(t);
  fake.blocked.add('/im/sse');
  const ann = client(t, fake, { transport: ['sse', 'poll'], config: { upgradeMs: 40 } });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  room.on('status', (status) => assert.fail(JSON.stringify(status)));
  while (ann.transport !== 'poll') await ann.once('status');
  let n = 0;
  room.on('event', () => n < 200 && void room.send({ text: String(++n) }));
  await room.send({ text: '0' });
  await heard.until(20);
  fake.blocked.delete('/im/sse');
  while ((/** @type {string | undefined} */ (ann.transport)) !== 'sse') await ann.once('status');
  assert.deepEqual(await heard.until(201), numbers(201));
  assert.equal(fake.log('tea').length, 201);
});

for (const transport of /** @type {const} */ (['sse', 'poll'])) {
  test(`a room is read again from an earlier cursor (${transport})`, async (t) => {
    const fake = await FakeHttp.start(t);
    const ann = client(t, fake, { transport });
    const room = ann.room('tea');
    await room.subscribe();
    const heard = collect(room);
    numbers(5).forEach((text) => fake.publish('tea', { text }));
    await heard.until(5);
    const { epoch } = heard.events[0];
    await room.unsubscribe();
    await room.subscribe({ since: { epoch, seq: 2 } });
    fake.publish('tea', { text: '5' });
    assert.deepEqual(await heard.until(9), [...numbers(5), ...numbers(4, 2)]);
  });
}

test('tabs share what comes by polls, and take over from each other', async (t) => {
  const fake = await FakeHttp.start(t);
  const tabsEnv = { locks: /** @type {any} */ (new FakeLocks()), BroadcastChannel };
  const tab = () => client(t, fake, { transport: 'poll', tabs: true, tabsEnv, name: fake.url });
  const [first, second] = [tab(), tab()];
  await Promise.all([first, second].map((one) => one.room('tea').subscribe()));
  const heard = [first, second].map((one) => collect(one.room('tea')));
  await second.room('tea').send({ text: '0' });
  await Promise.all(heard.map((one) => one.until(1)));
  assert.equal(fake.sessions.size, 1);
  first.close();
  fake.publish('tea', { text: '1' });
  await second.room('tea').send({ text: '2' });
  assert.deepEqual(await heard[1].until(3), numbers(3));
  assert.equal(fake.sessions.size, 1);
  assert.ok(second.isLeader());
});

test('a stream that is taken up many times leaves nothing behind', async (t) => {
  const fake = await FakeHttp.start(t);
  const ann = client(t, fake, { transport: 'sse' });
  const room = ann.room('tea');
  await room.subscribe();
  const heard = collect(room);
  const warned = (/** @type {Error} */ warning) => assert.fail(warning);
  process.on('warning', warned);
  t.after(() => process.off('warning', warned));
  for (let n = 0; n < 15; n++) {
    await waitForDownlink(fake, ann);
    for (const { down } of fake.sessions.values()) down?.wake();
    ann.shell?.wake();
    await fake.saw('GET /im/sse', n + 1);
  }
  fake.publish('tea', { text: '0' });
  assert.deepEqual(await heard.until(1), ['0']);
});

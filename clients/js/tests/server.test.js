// End to end, against the real server. IM_TEST_SERVER names its binary.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Code, connect, ImError } from '../src/index.js';
import { collect, needsServer, Proxy, QUICK, Server, memoryStorage } from './support/server.js';

/**
 * @param {import('node:test').TestContext} t
 * @param {Partial<import('../src/index.js').Options> & {url: string, user: string}} options
 */
function client(t, options) {
  const made = connect({ config: QUICK, ...options });
  t.after(() => made.close());
  return made;
}

/** @param {number} n @param {number} [from] */
const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => String(from + i));

for (const encoding of /** @type {const} */ (['json', 'msgpack'])) {
  test(`two clients talk (${encoding})`, needsServer, async (t) => {
    const server = await Server.start(t);
    const ann = client(t, { url: server.url, user: 'ann', encoding });
    const bob = client(t, { url: server.url, user: 'bob', encoding });
    const tea = ann.room('tea');
    await tea.create({ open: true });
    await bob.room('tea').join();
    await Promise.all([tea.subscribe(), bob.room('tea').subscribe()]);
    const heard = collect(bob.room('tea'));

    const content = { text: 'hello', bytes: new Uint8Array([0, 255]), $price: 1.5, big: 2 ** 60, none: null };
    const ack = await tea.send(content);
    await heard.until(1);
    const [event] = heard.events;
    assert.deepEqual(event.content, content);
    assert.equal(event.seq, ack.seq);
    assert.equal(event.from, 'ann');
    const page = await bob.room('tea').history({ limit: 1 });
    assert.deepEqual(page.events, [event]);

    const changed = bob.room('tea').once('state');
    await tea.putState('kettle', 'on');
    assert.equal((await changed).value, 'on');
    assert.equal(bob.room('tea').state.get('kettle'), 'on');
    const signalled = bob.room('tea').once('signal');
    await tea.signal('typing', true);
    assert.equal((await signalled).content, true);

    assert.equal((await tea.create({ open: true })).duplicate, true);
    await assert.rejects(tea.create(), (error) => error instanceof ImError && error.code === Code.Exists);
    await assert.rejects(bob.room('nowhere').subscribe(), (error) => error instanceof ImError && error.kind === 'refused');
    await assert.rejects(tea.send(() => {}), (error) => error instanceof ImError && error.kind === 'invalid');
    const mid = 'chosen-by-the-application-1';
    const first = await ann.send({ peer: 'bob' }, { text: 'a' }, { mid });
    const again = await ann.send({ peer: 'bob' }, { text: 'a' }, { mid });
    assert.deepEqual([again.seq, again.duplicate], [first.seq, true]);
    await assert.rejects(ann.send({ peer: 'bob' }, 'b', { mid }), (error) => error instanceof ImError && error.code === Code.Conflict);
  });
}

test('nothing is lost or repeated when the network is cut in the middle', needsServer, async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, () => server.port);
  const url = `ws://127.0.0.1:${proxy.port}/ws`;
  const ann = client(t, { url, user: 'ann' });
  const bob = client(t, { url, user: 'bob', encoding: 'msgpack' });
  await ann.room('tea').create({ open: true, members: ['bob'] });
  await bob.room('tea').subscribe();
  const heard = collect(bob.room('tea'));
  bob.room('tea').on('status', (status) => assert.fail(JSON.stringify(status)));
  const sent = numbers(200).map(async (text) => {
    if (Number(text) % 80 === 50) proxy.cut();
    return ann.room('tea').send({ text });
  });
  bob.room('tea').on('event', ({ content }) => /** @type {any} */ (content).text === '90' && proxy.cut());
  const acks = await Promise.all(sent);
  assert.deepEqual(await heard.until(200), numbers(200));
  assert.deepEqual(acks.map(({ seq }) => seq), heard.events.map(({ seq }) => seq));
  assert.ok(proxy.count > 2);
});

test('an ack that was lost comes again under the same message id', needsServer, async (t) => {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, () => server.port);
  const ann = client(t, { url: `ws://127.0.0.1:${proxy.port}/ws`, user: 'ann' });
  const bob = client(t, { url: server.url, user: 'bob' });
  await ann.room('tea').create({ open: true, members: ['bob'] });
  await bob.room('tea').subscribe();
  const heard = collect(bob.room('tea'));
  proxy.isDeaf = true;
  const ack = ann.room('tea').send({ text: 'once' });
  // The message has arrived, but the sender has no ack.
  await heard.until(1);
  proxy.isDeaf = false;
  proxy.cut();
  assert.deepEqual([(await ack).duplicate, (await ack).seq], [true, heard.events[0].seq]);
  await ann.room('tea').send({ text: 'twice' });
  assert.deepEqual(await heard.until(2), ['once', 'twice']);
});

test('the session goes on when the server is killed and started again', needsServer, async (t) => {
  const server = await Server.start(t);
  const ann = client(t, { url: server.url, user: 'ann' });
  const bob = client(t, { url: server.url, user: 'bob' });
  await ann.room('tea').create({ open: true, members: ['bob'] });
  await bob.room('tea').subscribe();
  const heard = collect(bob.room('tea'));
  await Promise.all(numbers(20).map((text) => ann.room('tea').send({ text })));
  await heard.until(20);
  const { session } = bob.shell?.machine.session ?? {};
  await server.kill();
  const sent = numbers(20, 20).map((text) => ann.room('tea').send({ text }));
  await server.run();
  await Promise.all(sent);
  assert.deepEqual(await heard.until(40), numbers(40));
  assert.equal(bob.shell?.machine.session?.session, session);
});

test('an iterator that falls behind reads on from history', needsServer, async (t) => {
  const server = await Server.start(t);
  const ann = client(t, { url: server.url, user: 'ann' });
  const bob = client(t, { url: server.url, user: 'bob', config: { ...QUICK, maxQueued: 8 } });
  await ann.room('tea').create({ open: true, members: ['bob'] });
  await bob.room('tea').subscribe();
  const heard = collect(bob.room('tea'));
  const events = bob.room('tea').events();
  for (const text of numbers(60)) await ann.room('tea').send({ text });
  await heard.until(60);
  const read = [];
  for await (const { content } of events) {
    read.push(/** @type {any} */ (content).text);
    if (read.length === 30) await ann.room('tea').send({ text: '60' });
    if (read.length === 61) break;
  }
  assert.deepEqual(read, numbers(61));
});

test('what was not sent is sent by the next client on the same storage', needsServer, async (t) => {
  const server = await Server.start(t);
  const storage = memoryStorage();
  const ann = client(t, { url: server.url, user: 'ann', storage });
  await ann.room('tea').create({ open: true });
  const { session } = ann.shell?.machine.session ?? {};
  await server.kill();
  const lost = ann.room('tea').send({ text: 'kept' }).catch((/** @type {ImError} */ error) => error.kind);
  ann.close();
  assert.equal(await lost, 'closed');
  await server.run();
  const next = client(t, { url: server.url, user: 'ann', storage });
  await next.once('ack');
  assert.equal(next.shell?.machine.session?.session, session);
  const { events } = await next.room('tea').history({ limit: 1 });
  assert.deepEqual(events[0].content, { text: 'kept' });
  assert.equal([...storage.map.keys()].filter((key) => key.includes('/send/')).length, 0);
});

test('logout ends the client', needsServer, async (t) => {
  const server = await Server.start(t);
  const ann = client(t, { url: server.url, user: 'ann' });
  await ann.logout();
  assert.equal(ann.status, 'closed');
  await assert.rejects(ann.ping(), (error) => error instanceof ImError && error.kind === 'closed');
});

// Every transport against the real server, and moves between them with commands in flight.
// IM_TEST_SERVER names its binary.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Code, connect, ImError } from '../src/index.js';
import { collect, needsServer, Proxy, QUICK, Server } from './support/server.js';

/** @typedef {import('../src/links/link.js').Transport} Transport */

/**
 * The beginning of a request for each transport's downlink.
 * @type {Record<'ws' | 'sse' | 'poll', string>}
 */
const REQUESTS = { ws: 'GET /im/ws', sse: 'GET /im/sse', poll: 'GET /im/poll' };

/** @type {[Transport, 'json' | 'msgpack'][]} */
const LINKS = [['ws', 'json'], ['ws', 'msgpack'], ['sse', 'json'], ['sse', 'msgpack'], ['poll', 'json'], ['poll', 'msgpack'],
  ['short', 'json'], ['short', 'msgpack']];

/**
 * @param {import('node:test').TestContext} t
 * @param {Partial<import('../src/index.js').Options> & {url: string, user: string}} options
 */
function client(t, options) {
  const made = connect({ ...options, config: { ...QUICK, pollMs: 20, ...options.config } });
  t.after(() => made.close());
  return made;
}

/** @param {import('node:test').TestContext} t */
async function cuttable(t) {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, () => server.port);
  return { server, proxy, url: `http://127.0.0.1:${proxy.port}/im` };
}

/** @param {number} n @param {number} [from] */
const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => String(from + i));

/** @param {import('../src/client.js').Client} one @param {Transport} transport */
async function reaches(one, transport) {
  while (one.transport !== transport) await one.once('status');
}

for (const [transport, encoding] of LINKS) {
  const name = `${transport}, ${encoding}`;

  test(`two people talk (${name})`, needsServer, async (t) => {
    const { prefix: url } = await Server.start(t);
    const [ann, bob] = ['ann', 'bob'].map((user) => client(t, { url, user, transport, encoding }));
    const tea = ann.room('tea');
    await tea.create({ open: true });
    await bob.room('tea').join();
    await Promise.all([tea.subscribe(), bob.room('tea').subscribe()]);
    const heard = collect(bob.room('tea'));
    const content = { text: 'hello', bytes: new Uint8Array([0, 255]), $price: 1.5, big: 2 ** 60, none: null };
    const ack = await tea.send(content);
    await heard.until(1);
    assert.deepEqual(heard.events[0].content, content);
    assert.equal(heard.events[0].seq, ack.seq);
    assert.deepEqual((await bob.room('tea').history({ limit: 1 })).events, heard.events);

    const changed = bob.room('tea').once('state');
    await tea.putState('kettle', 'on');
    assert.equal((await changed).value, 'on');
    // A signal reaches the current subscribers, which includes a short poller between two polls.
    const signalled = bob.room('tea').once('signal');
    await tea.signal('typing', true);
    assert.equal((await signalled).content, true);
    await assert.rejects(tea.create(), (error) => error instanceof ImError && error.code === Code.Exists);
    const denied = bob.room('tea').once('status');
    await tea.member('bob', 'remove');
    assert.equal((await denied).status, 'denied');
    assert.deepEqual([ann.transport, bob.transport], [transport, transport]);
  });

  test(`nothing is lost or repeated when the network is cut in the middle (${name})`, needsServer, async (t) => {
    const { proxy, url } = await cuttable(t);
    const [ann, bob] = ['ann', 'bob'].map((user) => client(t, { url, user, transport, encoding }));
    await ann.room('tea').create({ open: true, members: ['bob'] });
    await bob.room('tea').subscribe();
    const heard = collect(bob.room('tea'));
    bob.room('tea').on('status', (status) => assert.fail(JSON.stringify(status)));
    // Messages of this client, each sent after the previous ack; the reading client cuts its
    // connection independently.
    bob.room('tea').on('event', ({ content }) => /** @type {any} */ (content).text % 30 === 20 && proxy.cut());
    const acks = [];
    for (const text of numbers(120)) {
      if (Number(text) % 50 === 40) proxy.cut();
      acks.push(await ann.room('tea').send({ text }));
    }
    assert.deepEqual(await heard.until(120), numbers(120));
    assert.deepEqual(acks.map(({ seq }) => seq), heard.events.map(({ seq }) => seq));
  });

  test(`the session goes on when the server is killed and started again (${name})`, needsServer, async (t) => {
    const server = await Server.start(t);
    const [ann, bob] = ['ann', 'bob'].map((user) => client(t, { url: server.prefix, user, transport, encoding }));
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
}

test('falls from one transport to the next and climbs back in mid-stream, and misses nothing', needsServer, async (t) => {
  const { proxy, url } = await cuttable(t);
  const config = { upgradeMs: 50 };
  const [ann, bob] = ['ann', 'bob'].map((user) => client(t, { url, user, config }));
  await ann.room('tea').create({ open: true, members: ['bob'] });
  await bob.room('tea').subscribe();
  const heard = collect(bob.room('tea'));
  bob.room('tea').on('status', (status) => assert.fail(JSON.stringify(status)));
  let said = 0;
  let isDone = false;
  const talking = (async () => {
    while (!isDone) await ann.room('tea').send({ text: String(said++) });
  })();
  /** @type {Transport[]} */
  const way = [];
  const goesOn = async () => {
    way.push(/** @type {Transport} */ (bob.transport));
    const now = heard.texts().length;
    await heard.until(now + 10);
  };

  await goesOn();
  for (const [blocked, next] of /** @type {['ws' | 'sse', Transport][]} */ ([['ws', 'sse'], ['sse', 'poll']])) {
    proxy.blocked.add(REQUESTS[blocked]);
    proxy.cut();
    await reaches(bob, next);
    await goesOn();
  }
  proxy.blocked.delete(REQUESTS.sse);
  await reaches(bob, 'sse');
  await goesOn();
  proxy.blocked.delete(REQUESTS.ws);
  await reaches(bob, 'ws');
  await goesOn();

  isDone = true;
  await talking;
  assert.deepEqual(await heard.until(said), numbers(said));
  assert.deepEqual(way, ['ws', 'sse', 'poll', 'sse', 'ws']);
});

test('a room is subscribed to from an earlier cursor on every transport', needsServer, async (t) => {
  const { prefix: url } = await Server.start(t);
  const ann = client(t, { url, user: 'ann' });
  await ann.room('tea').create({ open: true, members: ['bob'] });
  const first = await ann.room('tea').send({ text: '0' });
  for (const text of numbers(4, 1)) await ann.room('tea').send({ text });
  for (const transport of /** @type {Transport[]} */ (['ws', 'sse', 'poll', 'short'])) {
    const bob = client(t, { url, user: 'bob', transport });
    const heard = collect(bob.room('tea'));
    const status = await bob.room('tea').subscribe({ since: { epoch: first.epoch, seq: first.seq } });
    assert.equal(status.status, 'ok');
    assert.deepEqual(await heard.until(4), numbers(4, 1));
    bob.close();
  }
});

for (const transport of /** @type {Transport[]} */ (['ws', 'sse', 'poll', 'short'])) {
  test(`a client of many rooms comes back from its checkpoint (${transport})`, needsServer, async (t) => {
    const { server, proxy, url } = await cuttable(t);
    const config = { checkpointRooms: 4, checkpointMs: 20 };
    const bob = client(t, { url, user: 'bob', transport, config });
    const ann = client(t, { url: server.prefix, user: 'ann' });
    const rooms = numbers(60).map((n) => `r${n}`);
    await Promise.all(rooms.map((room) => ann.room(room).create({ open: true, members: ['bob'] })));
    await Promise.all(rooms.map((room) => bob.room(room).subscribe()));
    const heard = rooms.map((room) => collect(bob.room(room)));
    for (const room of rooms) bob.room(room).on('status', (status) => assert.fail(JSON.stringify(status)));
    const { machine } = /** @type {NonNullable<typeof bob.shell>} */ (bob.shell);
    // Commands and their answers.
    /** @type {import('../src/wire/value.js').Frame[]} */
    const asked = [];
    const { flight } = machine;
    const write = flight.write.bind(flight);
    flight.write = (now, body, ...rest) => {
      asked.push(body);
      return write(now, body, ...rest);
    };

    for (const [round, text] of ['0', '1'].entries()) {
      await Promise.all(rooms.map((room) => ann.room(room).send({ text })));
      await Promise.all(heard.map((one) => one.until(round * 2 + 1)));
      // All cursors but a few are in the server's checkpoint.
      while (machine.rooms.moved.size >= config.checkpointRooms || flight.pending.size > 0) await bob.ping();
      const back = bob.once('status');
      proxy.isClosed = true;
      proxy.cut();
      bob.shell?.wake();
      await back;
      await Promise.all(rooms.map((room) => ann.room(room).send({ text: `${text}, cut` })));
      proxy.isClosed = false;
      await Promise.all(heard.map((one) => one.until(round * 2 + 2)));
    }
    const resumes = asked.filter(({ t }) => t === 'resume');
    assert.ok(resumes.length >= 2, JSON.stringify(resumes));
    assert.ok(resumes.some(({ rev, cursors }) => rev !== undefined && cursors.length < config.checkpointRooms), JSON.stringify(resumes));
    const all = ['0', '0, cut', '1', '1, cut'];
    for (const one of heard) assert.deepEqual(one.texts(), all);
  });
}

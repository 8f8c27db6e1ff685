// Tabs that share one connection. In these tests they run in one process, with Node's channels and
// fake locks.

import assert from 'node:assert/strict';
import test from 'node:test';

import { connect } from '../src/index.js';
import { Election } from '../src/tabs/election.js';
import { FakeLocks } from './support/locks.js';
import { collect, needsServer, Proxy, QUICK, Server } from './support/server.js';

/** @param {number} n @param {number} [from] */
const numbers = (n, from = 0) => Array.from({ length: n }, (_, i) => String(from + i));

/**
 * A page with tabs, behind a proxy that counts connections.
 *
 * @param {import('node:test').TestContext} t
 */
async function page(t) {
  const server = await Server.start(t);
  const proxy = await Proxy.start(t, () => server.port);
  const tabsEnv = { locks: /** @type {any} */ (new FakeLocks()), BroadcastChannel };
  const name = `page-${server.port}`;
  const tab = (user = 'ann') => {
    const client = connect({ url: `ws://127.0.0.1:${proxy.port}/ws`, user, tabs: true, tabsEnv, name: `${name}-${user}`, config: QUICK });
    t.after(() => client.close());
    return client;
  };
  const other = (user = 'bob') => {
    const client = connect({ url: server.url, user, config: QUICK });
    t.after(() => client.close());
    return client;
  };
  return { server, proxy, tab, other };
}

test('tabs share one connection, and all hear everything', needsServer, async (t) => {
  const { proxy, tab } = await page(t);
  const tabs = [tab(), tab(), tab()];
  const room = tabs[0].room('tea');
  await room.create({ open: true });
  await room.putState('kettle', 'on');
  await Promise.all(tabs.map((client) => client.room('tea').subscribe()));
  const heard = tabs.map((client) => collect(client.room('tea')));
  const acks = await Promise.all(numbers(60).map((text) => tabs[Number(text) % 3].room('tea').send({ text })));
  const all = await Promise.all(heard.map((one) => one.until(60)));
  assert.deepEqual(all[1], all[0]);
  assert.deepEqual(all[2], all[0]);
  assert.deepEqual(new Set(all[0]), new Set(numbers(60)));
  assert.equal(new Set(acks.map(({ seq }) => seq)).size, 60);
  assert.equal(proxy.count, 1);
  assert.deepEqual(tabs.map((client) => client.isLeader()).filter(Boolean), [true]);
  assert.equal(tabs[1].transport, 'tab');
  for (const client of tabs) {
    while (client.room('tea').state.get('kettle') !== 'on') await client.room('tea').once('state');
  }
  const typing = tabs[2].room('tea').once('signal');
  await tabs[1].room('tea').signal('typing');
  assert.equal((await typing).kind, 'typing');
});

test('a tab that comes late reads what it asks for', needsServer, async (t) => {
  const { tab } = await page(t);
  const first = tab();
  const room = first.room('tea');
  const { epoch } = await room.create({ open: true });
  await room.subscribe();
  const heard = collect(room);
  for (const text of numbers(300)) await room.send({ text });
  await heard.until(300);
  const late = tab();
  const lateHeard = collect(late.room('tea'));
  await late.room('tea').subscribe({ since: { epoch, seq: 1 } });
  assert.deepEqual(await lateHeard.until(300), numbers(300));
});

test('another tab takes over when the one that leads is closed', needsServer, async (t) => {
  const { proxy, tab, other } = await page(t);
  const [first, second, third] = [tab(), tab(), tab()];
  await first.room('tea').create({ open: true, members: ['bob'] });
  assert.ok(first.isLeader());
  const session = first.shell?.machine.session;
  await Promise.all([second, third].map((client) => client.room('tea').subscribe()));
  const heard = [second, third].map((client) => collect(client.room('tea')));
  const bob = other();
  await bob.online();
  /** @type {Promise<any>[]} */
  const sent = [];
  for (const text of numbers(100)) {
    sent.push((Number(text) % 2 ? bob : second).room('tea').send({ text }));
    if (text === '40') first.close();
    if (Number(text) % 10 === 0) await sent.at(-1);
  }
  await Promise.all(sent);
  const all = await Promise.all(heard.map((one) => one.until(100)));
  assert.deepEqual(all[1], all[0]);
  assert.deepEqual(new Set(all[0]), new Set(numbers(100)));
  assert.equal(proxy.count, 2);
  assert.deepEqual(second.shell?.machine.session, session);
  assert.equal([second, third].filter((client) => client.isLeader()).length, 1);
});

test('a cut of the connection loses and repeats nothing for any tab', needsServer, async (t) => {
  const { proxy, tab } = await page(t);
  const [first, second] = [tab(), tab()];
  await first.room('tea').create({ open: true });
  await Promise.all([first, second].map((client) => client.room('tea').subscribe()));
  const heard = [first, second].map((client) => collect(client.room('tea')));
  heard[0].events.length = 0;
  const sent = numbers(100).map(async (text) => {
    const ack = second.room('tea').send({ text });
    if (text === '50') proxy.cut();
    return ack;
  });
  second.room('tea').on('event', ({ content }) => /** @type {any} */ (content).text === '20' && proxy.cut());
  await Promise.all(sent);
  for (const one of heard) assert.deepEqual(await one.until(100), numbers(100));
});

test('a logout in one tab ends all of them', needsServer, async (t) => {
  const { tab } = await page(t);
  const [first, second] = [tab(), tab()];
  await Promise.all([first.online(), second.online()]);
  await second.logout();
  while (first.status !== 'closed') await first.once('status');
  assert.equal(second.status, 'closed');
});

test('the lead can be taken from a tab that does not answer, and comes back', async (t) => {
  const locks = /** @type {any} */ (new FakeLocks());
  /** @type {string[]} */
  const told = [];
  /** @type {(() => void)[]} */
  const watchers = [];
  const tell = (/** @type {string} */ what) => {
    told.push(what);
    watchers.splice(0).forEach((watch) => watch());
  };
  const until = async (/** @type {number} */ n) => {
    while (told.length < n) await new Promise((resolve) => watchers.push(() => resolve(undefined)));
  };
  const elect = (/** @type {string} */ tab) => {
    const election = new Election({
      name: 'page',
      tab,
      locks,
      lead: () => {
        tell(`${tab} leads`);
        return () => tell(`${tab} ends`);
      },
    });
    t.after(() => election.leave());
    return election;
  };
  const first = elect('first');
  const second = elect('second');
  await until(1);
  second.usurp();
  await until(3);
  assert.deepEqual([first.isLeader, second.isLeader], [false, true]);
  second.leave();
  await until(5);
  assert.deepEqual(new Set(told.slice(1, 3)), new Set(['first ends', 'second leads']));
  assert.deepEqual(told.slice(3), ['second ends', 'first leads']);
});

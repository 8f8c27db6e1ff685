// Moving between links with commands in flight, with fake links.

import assert from 'node:assert/strict';
import test from 'node:test';

import { Client } from '../src/client.js';
import { Ladder } from '../src/core/ladder.js';
import { Machine } from '../src/core/machine.js';
import { environment } from '../src/env.js';
import { Shell } from '../src/shell.js';
import { JSON_CODEC, decodeMessage } from '../src/wire/codec.js';
import { collect, QUICK } from './support/server.js';
import { Model } from './support/model.js';

/** @typedef {import('../src/links/link.js').LinkEvents} LinkEvents */

/** A server in memory for the links; a session has one connection. */
class TestServer {
  constructor() {
    this.model = new Model(1);
    this.model.isFair = true;
    /** @type {MemoryLink | undefined} */
    this.current = undefined;
    this.worksBy = new Set(['poll']);
    this.opened = /** @type {string[]} */ ([]);
    /** Commands of these kinds are not answered. */
    this.silent = new Set();
  }

  /** @param {MemoryLink} link @param {import('../src/wire/codec.js').Message} message */
  take(link, message) {
    if (!this.worksBy.has(link.transport)) return link.events.lost({ message: 'gone' });
    for (const frame of decodeMessage(message)) {
      if (frame.t === 'hello') this.current = link;
      if (this.current !== link) return link.events.lost({ code: 4101, message: 'another one came' });
      if (this.silent.has(frame.t)) continue;
      const reply = frame.t === 'create' ? { ...this.model.event({}), t: 'ok', id: frame.id, duplicate: false } : this.model.serve(frame);
      link.events.message(JSON_CODEC.join([JSON_CODEC.encode(reply)]));
      this.push();
    }
  }

  push() {
    const { model } = this;
    while (model.pushed !== undefined && model.pushed < model.log.length) {
      const event = model.log[model.pushed];
      model.pushed += 1;
      this.current?.events.message(JSON_CODEC.join([JSON_CODEC.encode(event)]));
    }
  }
}

class MemoryLink {
  /** @param {string} transport @param {TestServer} server @param {LinkEvents} events */
  constructor(transport, server, events) {
    this.transport = transport;
    this.traits = { codec: JSON_CODEC, duplex: true };
    this.server = server;
    this.isDone = false;
    /** @type {LinkEvents} */
    this.events = events;
  }

  open() {
    this.server.opened.push(this.transport);
    const works = this.server.worksBy.has(this.transport);
    setImmediate(() => this.isDone || (works ? this.events.open() : this.events.lost({ message: 'refused' })));
  }

  /** @param {import('../src/wire/codec.js').Message} message */
  send(message) {
    setImmediate(() => this.isDone || this.server.take(this, message));
  }

  welcome() {}
  nudge() {}

  close() {
    this.isDone = true;
  }
}

/** @param {import('node:test').TestContext} t */
function start(t) {
  const server = new TestServer();
  const client = new Client({ config: { ...QUICK, upgradeMs: 10 } });
  const env = environment();
  const identity = { renewable: false, client: 'test' };
  const machine = new Machine({ config: client.config, identity, random: env.random, wallClock: env.wallClock });
  const ladder = new Ladder(['ws', 'poll'], client.config.upgradeMs);
  const link = (/** @type {string} */ name, /** @type {LinkEvents} */ events) => new MemoryLink(name, server, events);
  client.begin(new Shell({ machine, ladder, env, tokens: undefined, link, onEvent: (event) => client.onEvent(event) }));
  t.after(() => client.close());
  return { server, client };
}

/** @param {Client} client @param {string} transport */
async function onTransport(client, transport) {
  while (client.transport !== transport) await client.once('status');
}

test('falls back, and moves up in mid-stream without loss or repeat', async (t) => {
  const { server, client } = start(t);
  const room = client.room('tea');
  await room.subscribe();
  assert.equal(client.transport, 'poll');
  const heard = collect(room);
  /** @type {import('../src/client.js').StatusChange[]} */
  const changes = [];
  client.on('status', (change) => changes.push(change));
  /** @type {Promise<any>[]} */
  const sent = [];
  room.on('event', () => sent.length < 400 && void sent.push(room.send({ text: String(sent.length) })));
  sent.push(room.send({ text: '0' }));
  await heard.until(20);
  server.worksBy.add('ws');
  await onTransport(client, 'ws');
  const texts = await heard.until(400);
  await Promise.all(sent);
  assert.deepEqual(texts, Array.from({ length: 400 }, (_, i) => String(i)));
  assert.equal(server.model.log.length, 400);
  // The application was never notified of a lost connection.
  assert.deepEqual(changes.map(({ status }) => status), ['online']);
});

test('does not move while something is under way that could not be repeated', async (t) => {
  const { server, client } = start(t);
  await client.online();
  server.silent.add('create');
  const created = client.room('new').create();
  server.worksBy.add('ws');
  const { machine } = /** @type {Shell} */ (client.shell);
  while (server.opened.filter((name) => name === 'ws').length < 2) await new Promise(setImmediate);
  await client.ping();
  assert.equal(client.transport, 'poll');
  const [id] = [...machine.flight.pending].find(([, { body }]) => body.t === 'create') ?? [];
  const ack = { t: 'ok', id, room: 'new', epoch: '1.1', seq: 1, at: 0, duplicate: false };
  server.current?.events.message(JSON.stringify(ack));
  assert.equal((await created).seq, 1);
  await onTransport(client, 'ws');
});

test('a better link that opens and then fails is left again', async (t) => {
  const { server, client } = start(t);
  const room = client.room('tea');
  await room.subscribe();
  const heard = collect(room);
  await room.send({ text: '0' });
  // The link opens, and loses what is sent.
  const take = server.take.bind(server);
  server.take = (link, message) => (link.transport === 'ws' ? link.events.lost({ message: 'cut' }) : take(link, message));
  server.worksBy.add('ws');
  while (server.opened.filter((name) => name === 'ws').length < 4) await new Promise(setImmediate);
  await room.send({ text: '1' });
  assert.deepEqual(await heard.until(2), ['0', '1']);
});

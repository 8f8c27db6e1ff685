// How long an event stream may be silent, with virtual timers.

import assert from 'node:assert/strict';
import test from 'node:test';

import { configOf } from '../src/config.js';
import { linkOf } from '../src/links/index.js';
import { Timers } from './support/timers.js';

/** A sign of life on a stream. */
const COMMENT = new TextEncoder().encode(':\n\n');

/**
 * A link over event streams, and a server whose streams send a sign of life at these times after
 * each request, and nothing else. Without times the head of the response does not arrive either.
 *
 * @param {{says: (stream: number) => number[] | undefined, heartbeatMs?: number}} server
 *   `heartbeatMs`: as it announces
 */
function linked({ says, heartbeatMs }) {
  const timers = new Timers();
  /** The times of the requests for streams. @type {number[]} */
  const streams = [];
  /** @type {{at: number, unfit: boolean | undefined}[]} */
  const lost = [];
  const env = timers.env({
    fetch: async (url, init) => {
      if (url === 'http://x/im') {
        const offer = { v: 1, transports: ['sse'], heartbeat_ms: heartbeatMs };
        return heartbeatMs === undefined ? new Response('', { status: 404 }) : new Response(JSON.stringify(offer));
      }
      assert.equal(url, 'http://x/im/sse');
      streams.push(timers.now);
      const times = says(streams.length);
      const aborted = new Promise((_, reject) => init?.signal?.addEventListener('abort', () => reject(new Error('aborted'))));
      if (!times) return aborted;
      const body = new ReadableStream({
        start(controller) {
          for (const ms of times) env.setTimeout(() => init?.signal?.aborted || controller.enqueue(COMMENT), ms);
          aborted.catch((error) => controller.error(error));
        },
      });
      return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
    },
  });
  /** @type {import('../src/links/index.js').LinkSetup} */
  const setup = { addresses: { ws: 'ws://x/im/ws', http: 'http://x/im' }, encoding: 'json', credentials: 'omit', token: () => undefined, env, config: configOf() };
  const nothing = () => {};
  const link = linkOf('sse', setup, {
    open: nothing,
    message: nothing,
    heard: nothing,
    steady: nothing,
    lost: ({ unfit }) => lost.push({ at: timers.now, unfit }),
  });
  link.open();
  link.welcome({ session: 's', secret: 'x' });
  return { timers, streams, lost, link };
}

/** @param {number} every @param {number} until */
const beats = (every, until) => Array.from({ length: Math.floor(until / every) + 1 }, (_, n) => n * every);

for (const [what, says] of /** @type {const} */ ([['response', undefined], ['byte', []]])) {
  test(`a stream without a first ${what} is unfit after 15 s`, async () => {
    const { timers, streams, lost } = linked({ says: () => says && [...says] });
    await timers.pass(14_999);
    assert.deepEqual(lost, []);
    await timers.pass(2);
    assert.deepEqual(lost, [{ at: 15_000, unfit: true }]);
    await timers.pass(1_000_000);
    assert.deepEqual(streams, [0]);
  });
}

test('a silent stream is taken up after three heartbeats of its server', async () => {
  const { timers, streams, lost } = linked({ says: (stream) => (stream === 1 ? [0] : beats(5_000, 100_000)), heartbeatMs: 5_000 });
  await timers.pass(90_000);
  assert.deepEqual(lost, []);
  assert.equal(streams.length, 2);
  assert.ok(streams[1] >= 15_000 && streams[1] < 16_000, String(streams));
});

test('a silent stream of a server that names no heartbeat is taken up after 60 s', async () => {
  const { timers, streams } = linked({ says: (stream) => (stream === 1 ? [0] : beats(20_000, 200_000)) });
  await timers.pass(150_000);
  assert.equal(streams.length, 2);
  assert.ok(streams[1] >= 60_000 && streams[1] < 61_000, String(streams));
});

test('a stream with long heartbeats is left alone', async () => {
  const { timers, streams, lost } = linked({ says: () => beats(100_000, 1_000_000), heartbeatMs: 100_000 });
  await timers.pass(1_000_000);
  assert.deepEqual([streams, lost], [[0], []]);
});

test('a stream that worked is tried again before the transport is left', async () => {
  const { timers, streams, lost } = linked({ says: (stream) => (stream === 1 ? [0] : []), heartbeatMs: 20_000 });
  await timers.pass(300_000);
  // Silent after 60 s, and then without a first byte for 15 s each.
  assert.equal(streams.length, 4);
  assert.equal(lost.length, 1);
  assert.ok(lost[0].at >= 105_000 && lost[0].at < 110_000, JSON.stringify(lost));
});

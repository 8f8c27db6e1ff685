// Encodings, event streams and WebSocket frames beyond the vectors.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import test from 'node:test';

import { environment } from '../src/env.js';
import { NodeWebSocket } from '../src/links/ws-node.js';
import { WebSocketLink } from '../src/links/ws.js';
import { EventStreamParser } from '../src/links/sse-parser.js';
import * as json from '../src/wire/json.js';
import * as msgpack from '../src/wire/msgpack.js';
import { measure, toValue } from '../src/wire/value.js';
import { random } from './support/model.js';

/** @typedef {import('../src/wire/value.js').Value} Value */

/**
 * @param {() => number} draw
 * @param {number} depth
 * @returns {Value}
 */
function anyValue(draw, depth) {
  const n = Math.floor(draw() * 300);
  const text = Array.from({ length: n % 40 }, () => 'aé世😀"\\\n$\u2028\u0000'[Math.floor(draw() * 9)] ?? '').join('').replace(/[\ud800-\udfff]/g, '');
  switch (Math.floor(draw() * (depth > 0 ? 8 : 6))) {
    case 0:
      return [null, true, false][n % 3];
    case 1:
      return toValue(Math.round((draw() - 0.5) * 2 ** (n % 64)));
    case 2:
      return toValue((draw() - 0.5) * 10 ** ((n % 600) - 300));
    case 3:
      return new Uint8Array(n).fill(n);
    case 4:
      return text.repeat(n % 8);
    case 5:
      return 2 ** (n % 60) * (draw() < 0.5 ? 1 : -1);
    case 6:
      return Array.from({ length: n % 20 }, () => anyValue(draw, depth - 1));
    default:
      return Object.fromEntries(Array.from({ length: n % 20 }, (_, i) => [`${text}${i || '$bytes'}`, anyValue(draw, depth - 1)]));
  }
}

test('every value survives both encodings, and is as large as it says', () => {
  const draw = random(7);
  for (let n = 0; n < 2000; n++) {
    const value = anyValue(draw, 3);
    const packed = msgpack.encode(value);
    assert.deepEqual(msgpack.decode(packed), value);
    assert.deepEqual(json.decode(json.encode(value)), value);
    assert.equal(measure(value).bytes, packed.length);
  }
});

test('bytes that mean nothing are refused, and nothing worse', () => {
  const draw = random(11);
  for (let n = 0; n < 5000; n++) {
    const bytes = Uint8Array.from({ length: Math.floor(draw() * 40) }, () => Math.floor(draw() * 256));
    for (const decode of [() => msgpack.decode(bytes), () => json.decode(String.fromCharCode(...bytes))]) {
      try {
        decode();
      } catch (error) {
        assert.equal(/** @type {Error} */ (error).name, 'WireError');
      }
    }
  }
});

test('a key named __proto__ is a key like any other', () => {
  const value = json.decode('{"__proto__":{"a":1}}');
  assert.equal(json.encode(value), '{"__proto__":{"a":1}}');
  assert.deepEqual(msgpack.decode(msgpack.encode(value)), value);
  assert.equal(/** @type {any} */ (value).a, undefined);
  assert.equal(json.encode(toValue(value)), '{"__proto__":{"a":1}}');
});

test('what is no value is refused', () => {
  for (const bad of [NaN, Infinity, () => 1, Symbol('x'), 5n, new Date(0), new Map(), '\ud800', { a: [undefined] }, { '\udc00': 1 }]) {
    assert.throws(() => toValue(bad), { name: 'WireError' });
  }
  assert.deepEqual(toValue({ a: undefined, b: -0, c: new Uint16Array([1]) }), { b: 0, c: new Uint8Array([1, 0]) });
});

test('an event stream means the same however it is cut', () => {
  const stream = [':hello\r\n', 'retry: 1500\n\n', 'data: {"a":"é"}\r\n\r\n', 'data:one\ndata: two\nid: m1\n\n', 'event: x\ndata\n\n',
    'id: m2\r\r', ': beat\n\n', 'id\n\n', 'data: last\n'].join('');
  const bytes = new TextEncoder().encode(stream);
  const expected = ['retry 1500', 'data {"a":"é"}', 'data one', 'data two', 'id m1', 'id m2', 'id '];
  for (let size = 1; size <= bytes.length; size++) {
    /** @type {string[]} */
    const seen = [];
    const parser = new EventStreamParser({
      data: (data) => seen.push(`data ${data}`),
      id: (id) => seen.push(`id ${id}`),
      retry: (ms) => seen.push(`retry ${ms}`),
    });
    for (let at = 0; at < bytes.length; at += size) parser.push(bytes.subarray(at, at + size));
    assert.deepEqual(seen, expected, `pieces of ${size}`);
  }
  const strict = new EventStreamParser({ data: () => {}, id: () => {}, retry: () => {} }, 100);
  assert.throws(() => strict.push(new TextEncoder().encode(`data: ${'x'.repeat(100)}`)), /too long/);
});

/**
 * A server of WebSockets that sends these frames unchanged, piece by piece, and records what it
 * receives.
 *
 * @param {import('node:test').TestContext} t
 * @param {number[][]} pieces
 */
async function listen(t, pieces) {
  /** @type {Buffer[]} */
  const heard = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    let head = '';
    socket.on('data', (data) => {
      if (head.includes('\r\n\r\n')) return void heard.push(data);
      head += data.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      const key = /sec-websocket-key: (.*)\r\n/i.exec(head)?.[1];
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      socket.write(`HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
      for (const piece of pieces) socket.write(Buffer.from(piece));
    });
    socket.on('end', () => socket.end());
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => server.close());
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  return { url: `ws://127.0.0.1:${port}/ws`, heard };
}

/**
 * Returns a WebSocket's output for them.
 * @param {import('node:test').TestContext} t
 * @param {number[][]} pieces
 */
async function rawServer(t, pieces) {
  const { url, heard } = await listen(t, pieces);
  const socket = new NodeWebSocket(url, ['im.v1.json']);
  /** @type {any[]} */
  const messages = [];
  socket.onmessage = ({ data }) => messages.push(typeof data === 'string' ? data : [...new Uint8Array(data)]);
  /** @type {{code: number, reason: string}} */
  const closed = await new Promise((resolve) => (socket.onclose = resolve));
  return { messages, closed, heard: Buffer.concat(heard) };
}

test('WebSocket messages come in fragments, with pings in between, and end with a code', async (t) => {
  const { messages, closed, heard } = await rawServer(t, [
    // Half of an é, a ping of one byte, the other half.
    [0x01, 1, 0xc3], [0x89, 1, 7], [0x80, 1, 0xa9],
    // Three bytes, with a length field that is wider than needed, cut in the middle; then the
    // close.
    [0x82, 126, 0, 3, 1, 2], [3], [0x88, 4, 0x0f, 0xa1, 0x6f, 0x6b],
  ]);
  assert.deepEqual(messages, ['é', [1, 2, 3]]);
  assert.deepEqual(closed, { code: 4001, reason: 'ok' });
  // A masked pong with the same payload.
  assert.equal(heard[0], 0x8a);
  assert.equal(heard[1], 0x81);
  assert.equal(heard[6] ^ heard[2], 7);
});

test('a part of a message is a sign of life', async (t) => {
  // A text of five bytes, of which two arrive.
  const { url } = await listen(t, [[0x81, 5, 65, 66]]);
  const env = { ...environment(), webSocket: async () => NodeWebSocket };
  await new Promise((resolve, reject) => {
    const link = new WebSocketLink({ url, encoding: 'json', env }, {
      open: () => {},
      heard: () => resolve(link.close()),
      message: () => reject(new Error('half a message')),
      steady: () => {},
      lost: reject,
    });
    link.open();
  });
});

for (const [name, frame] of /** @type {[string, number[]][]} */ ([
  ['a masked frame', [0x81, 0x81, 0, 0, 0, 0, 65]],
  ['reserved bits', [0xc1, 1, 65]],
  ['a continuation of nothing', [0x80, 1, 65]],
  ['a kind that does not exist', [0x83, 0]],
  ['a message of 4 GiB', [0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]],
  ['a text that is no UTF-8', [0x81, 1, 0xff]],
])) {
  test(`a WebSocket is left after ${name}`, async (t) => {
    const { messages, closed } = await rawServer(t, [frame]);
    assert.deepEqual(messages, []);
    assert.equal(closed.code, 1006);
  });
}

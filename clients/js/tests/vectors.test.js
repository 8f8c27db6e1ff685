// The golden vectors of wire/, which the server's tests read too.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';

import { advice, Code, meaning } from '../src/codes.js';
import { compareStamps, directRoom, isEpoch, isId, messageId, parseStamp } from '../src/ids.js';
import { decodeMessage, JSON_CODEC, MSGPACK_CODEC } from '../src/wire/codec.js';
import * as json from '../src/wire/json.js';
import * as msgpack from '../src/wire/msgpack.js';
import { fromUtf8, measure, WireError } from '../src/wire/value.js';
import { fromHex, toHex, vectors } from './support/vectors.js';

const frames = vectors('frames.json');

for (const frame of frames.frames) {
  test(`frame: ${frame.name}`, () => {
    const [one] = decodeMessage(frame.json);
    const [other] = decodeMessage(fromHex(frame.msgpack));
    assert.deepEqual(other, one);
    assert.equal(json.encode(one), frame.json);
    assert.equal(toHex(msgpack.encode(one)), frame.msgpack);
    assert.equal(measure(one).bytes, frame.msgpack.length / 2);
  });
}

for (const variant of frames.variants) {
  test(`variant: ${variant.encoding}: ${variant.name}`, () => {
    // The server decides what is absent and what is unknown; the values must be the same.
    const [frame] = decodeMessage(variant.text ?? fromHex(variant.hex));
    const meant = json.decode(frames.frames.find((/** @type {any} */ f) => f.name === variant.means).json);
    for (const [key, value] of Object.entries(frame)) {
      if (value !== null && Object.hasOwn(/** @type {any} */ (meant), key)) {
        assert.deepEqual(value, /** @type {any} */ (meant)[key], key);
      }
    }
  });
}

for (const batch of frames.batches) {
  test(`batch: ${batch.name}`, () => {
    const list = decodeMessage(batch.json);
    assert.deepEqual(decodeMessage(fromHex(batch.msgpack)), list);
    assert.equal(list.length, batch.frames.length);
    assert.equal(JSON_CODEC.join(list.map(JSON_CODEC.encode)), batch.json);
    const bytes = /** @type {Uint8Array} */ (MSGPACK_CODEC.join(list.map(MSGPACK_CODEC.encode)));
    assert.equal(toHex(bytes), batch.msgpack);
  });
}

const { refused, taken, limits } = vectors('refused.json');
const LIMITS = { bytes: limits.message_bytes, depth: 21, values: limits.values, batch: limits.batch };

/** @param {any} entry */
function bytesOf(entry) {
  const { text, hex, pieces, encoding } = entry;
  if (text !== undefined) return new TextEncoder().encode(text);
  const all = hex ?? pieces.map((/** @type {[string, number]} */ [piece, n]) => piece.repeat(n)).join('');
  return hex !== undefined || encoding === 'msgpack' ? fromHex(all) : new TextEncoder().encode(all);
}

/** @param {any} entry */
function decodeEntry(entry) {
  const bytes = bytesOf(entry);
  return decodeMessage(entry.encoding === 'json' ? fromUtf8(bytes) : bytes, LIMITS);
}

for (const entry of refused.filter((/** @type {any} */ e) => e.answer === 'close')) {
  test(`refused: ${entry.encoding}: ${entry.name}`, () => {
    assert.throws(() => decodeEntry(entry), (error) => error instanceof WireError && error.code === entry.code);
  });
}

for (const entry of taken) {
  test(`taken: ${entry.encoding}: ${entry.name}`, () => {
    assert.ok(decodeEntry(entry).length >= 1);
  });
}

/**
 * The hash that SPEC defines, to check decoded values.
 *
 * @param {import('../src/wire/value.js').Value} value
 * @param {import('node:crypto').Hash} hash
 */
function digest(value, hash) {
  /** @type {(tag: string, n: number) => void} */
  const head = (tag, n) => {
    const bytes = Buffer.alloc(9, tag);
    bytes.writeBigInt64BE(BigInt(n), 1);
    hash.update(bytes);
  };
  /** @type {(tag: string, bytes: Uint8Array) => void} */
  const bytes = (tag, content) => {
    head(tag, content.length);
    hash.update(content);
  };
  if (value === null) hash.update('n');
  else if (typeof value === 'boolean') hash.update(Buffer.from([0x62, Number(value)]));
  else if (typeof value === 'number' && Number.isSafeInteger(value)) {
    const eight = Buffer.alloc(8);
    eight.writeBigInt64BE(BigInt(value));
    bytes('i', eight);
  } else if (typeof value === 'number') {
    const eight = Buffer.alloc(8);
    eight.writeDoubleBE(value);
    bytes('f', eight);
  } else if (typeof value === 'string') bytes('t', Buffer.from(value));
  else if (value instanceof Uint8Array) bytes('x', value);
  else if (Array.isArray(value)) {
    const count = Buffer.alloc(8);
    count.writeBigInt64BE(BigInt(value.length));
    bytes('a', count);
    value.forEach((item) => digest(item, hash));
  } else {
    const count = Buffer.alloc(8);
    count.writeBigInt64BE(BigInt(Object.keys(value).length));
    bytes('m', count);
    for (const key of Object.keys(value).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
      bytes('k', Buffer.from(key));
      digest(value[key], hash);
    }
  }
}

for (const content of vectors('contents.json').contents) {
  test(`content: ${content.name}`, () => {
    const values = [...content.json.map((/** @type {string} */ text) => json.decode(text)),
      ...content.msgpack.map((/** @type {string} */ hex) => msgpack.decode(fromHex(hex)))];
    for (const value of values) {
      const hash = createHash('sha256');
      const kind = Buffer.from(content.kind);
      const head = Buffer.alloc(9, 'k');
      head.writeBigInt64BE(BigInt(kind.length), 1);
      hash.update(head).update(kind);
      digest(value, hash);
      assert.equal(hash.digest('hex'), content.sha256);
    }
    assert.equal(json.encode(values[0]), content.json[0]);
    assert.equal(toHex(msgpack.encode(values[0])), content.msgpack[0]);
  });
}

const names = vectors('names.json');

test('direct rooms', async () => {
  for (const { users, room } of names.direct_rooms) assert.equal(await directRoom(users[0], users[1]), room);
});

for (const { id, good, bad } of names.ids) {
  test(`ids: ${id}`, () => {
    for (const text of good) assert.ok(isId(id, text), JSON.stringify(text));
    for (const text of bad) assert.ok(!isId(id, text), JSON.stringify(text));
  });
}

test('epochs and stamps', () => {
  for (const text of names.epochs.good) assert.ok(isEpoch(text), text);
  for (const text of names.epochs.bad) assert.ok(!isEpoch(text), text);
  for (const text of names.stamps.good) assert.ok(parseStamp(text), text);
  for (const text of names.stamps.bad) assert.ok(!parseStamp(text), text);
  const ascending = names.stamps_ascending;
  for (let i = 1; i < ascending.length; i++) assert.ok(compareStamps(ascending[i - 1], ascending[i]) < 0);
});

test('codes', () => {
  const { codes } = vectors('codes.json');
  assert.deepEqual(Code, Object.fromEntries(codes.map((/** @type {any} */ c) => [c.name, c.code])));
  for (const { code, advice: expected, meaning: words } of codes) {
    assert.equal(advice(code), expected);
    assert.equal(meaning(code), words);
  }
});

test('message ids begin with the time and are UUIDs of version 7', () => {
  const before = Date.now();
  const [one, other] = [messageId(), messageId()];
  const after = Date.now();
  for (const id of [one, other]) {
    assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    const time = parseInt(id.slice(0, 8) + id.slice(9, 13), 16);
    assert.ok(before <= time && time <= after, `${id} is of ${time}`);
  }
  assert.notEqual(one, other);
});

// Names typed into the page of quickstart, and the ids that it derives. Ids stay strict.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';

import { isId } from '../src/ids.js';
import { random } from './support/model.js';

const source = readFileSync(new URL('../../../examples/quickstart/page/names.js', import.meta.url), 'utf8');
/** @type {any} */
const { asId, readable, initial, nameKey, reportedName } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

/** @type {[string, string, string][]} Name, id, initial. */
const NAMES = [
  ['Ada Lovelace', 'Ada_Lovelace', 'A'],
  ['  Ada \t Lovelace\u00a0', 'Ada_Lovelace', 'A'],
  // Persian with a zero-width non-joiner, Sinhala with a joiner.
  ['علی\u200cرضا', 'علیرضا', 'ع'],
  ['ශ\u0dca\u200dරී', 'ශ\u0dcaරී', 'ශ'],
  // Emoji with joiners, selectors and a tone.
  ['👩\u200d👩\u200d👧 family', '👩👩👧_family', '👩\u200d👩\u200d👧'],
  ['❤\ufe0f', '❤', '❤\ufe0f'],
  ['👍🏽', '👍🏽', '👍🏽'],
  ['Zoe\u0308', 'Zo\u00eb', 'Z'],
  ['\u200e\u202eevil\u202c', 'evil', 'E'],
  ['a\u3000b', 'a_b', 'A'],
  ['\ud800x', 'x', 'X'],
];

test('a name that people type becomes an id', () => {
  for (const [name, id, first] of NAMES) {
    const what = JSON.stringify(name);
    assert.equal(asId(name, 64), id, what);
    assert.ok(isId('user', asId(name, 64)), what);
    assert.ok(isId('room', asId(name, 128)), what);
    assert.ok(isId('state key', nameKey(asId(name, 64))), what);
    if (!/^[\s\u200e\ud800]/.test(name)) assert.ok(initial(name).startsWith(first), what);
  }
});

test('a name of which nothing can be seen has no id', () => {
  for (const name of ['', ' ', '\u200d', '\ufe0f\u200c', '\u2800', '\u3164 \u115f', '\u00ad', '\u{e0041}', '\n']) {
    assert.equal(asId(name, 64), '', JSON.stringify(name));
  }
});

test('whatever is typed, what comes out is an id or nothing', () => {
  const draw = random(1);
  const odd = [0x20, 0x200c, 0x200d, 0xfe0f, 0x2800, 0xfff9, 0x3164, 0xd800, 0x7f, 0x85, 0x34f, 0x1f469, 0x0301, 0xe0100];
  for (let n = 0; n < 20_000; n++) {
    const length = 1 + Math.floor(draw() * 40);
    const points = Array.from({ length }, () => (draw() < 0.4 ? odd[Math.floor(draw() * odd.length)] : Math.floor(draw() * 0x11000)));
    const name = String.fromCodePoint(...points);
    const id = asId(name, 64);
    assert.ok(id === '' || isId('user', id), JSON.stringify(name));
    assert.equal(asId(id, 64), id, JSON.stringify(name));
  }
});

test('names are told by those who bear them', () => {
  const name = '👩\u200d💻 ❤\ufe0f';
  const user = asId(name, 64);
  assert.notEqual(readable(user), name);
  assert.deepEqual(reportedName({ key: nameKey(user), from: user, value: name }), { user, name });
  assert.equal(reportedName({ key: nameKey(user), from: 'somebody', value: name }), undefined);
  assert.equal(reportedName({ key: 'kettle', from: user, value: name }), undefined);
  assert.equal(reportedName({ key: nameKey(user), from: user, value: 7 }), undefined);
  assert.equal(reportedName({ key: nameKey(user), from: user }), undefined);
});

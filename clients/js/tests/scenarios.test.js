// The scenarios of wire/scenarios run on the state machine; event streams, cut anywhere, on the
// parser.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import test from 'node:test';

import { EventStreamParser } from '../src/links/sse-parser.js';
import { Player } from './support/scenario.js';

/** Optional features of clients that this client has. */
const FEATURES = ['rev'];
const FOLDER = new URL('../../../wire/scenarios/', import.meta.url);

const names = readdirSync(FOLDER).filter((name) => name.endsWith('.json'));
const scenarios = names.map((name) => ({ name, ...JSON.parse(readFileSync(new URL(name, FOLDER), 'utf8')) }));

test('there are scenarios of both kinds', () => {
  assert.deepEqual(new Set(scenarios.map(({ kind }) => kind)), new Set(['conversation', 'event stream']));
});

for (const { name, kind, about, needs = [], client, steps } of scenarios) {
  if (kind !== 'conversation') continue;
  const lacks = needs.filter((/** @type {string} */ feature) => !FEATURES.includes(feature));
  test(`${name}: ${about}`, { skip: lacks.length > 0 ? `this client has no ${lacks.join(', ')}` : false }, () => {
    // Pauses are drawn at random: the scenario must hold for the shortest and the longest.
    for (const draw of [0, 0.5, 0.999]) {
      const player = new Player(client, () => draw);
      steps.forEach((/** @type {any} */ step, /** @type {number} */ at) => {
        try {
          player.play(step);
        } catch (error) {
          if (error instanceof Error) error.message = `step ${at + 1}: ${JSON.stringify(step)}\n${error.message}`;
          throw error;
        }
      });
    }
  });
}

/**
 * Returns the parser's output for these pieces.
 *
 * @param {Uint8Array[]} pieces
 */
function parse(pieces) {
  /** @type {any[]} */
  const output = [];
  const parser = new EventStreamParser({
    data: (data) => output.push({ message: JSON.parse(data) }),
    id: (position) => output.push({ position }),
    retry: () => {},
  });
  for (const piece of pieces) parser.push(piece);
  return output;
}

for (const { name, kind, about, text, output } of scenarios) {
  if (kind !== 'event stream') continue;
  test(`${name}: ${about}`, () => {
    const bytes = new TextEncoder().encode(text);
    for (let at = 0; at <= bytes.length; at++) {
      assert.deepEqual(parse([bytes.subarray(0, at), bytes.subarray(at)]), output, `cut at ${at}`);
    }
    for (let size = 1; size <= bytes.length; size++) {
      const count = Math.ceil(bytes.length / size);
      const pieces = Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size));
      assert.deepEqual(parse(pieces), output, `pieces of ${size} bytes`);
    }
  });
}

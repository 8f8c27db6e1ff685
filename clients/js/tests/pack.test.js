// The content of the published package.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import test from 'node:test';

const FOLDER = fileURLToPath(new URL('../', import.meta.url));

test('the package has its sources, their types and papers, and nothing else', () => {
  // The types are in the repository for dependents on this folder. Publishing generates them again.
  const told = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts', '--loglevel=error'], { cwd: FOLDER, encoding: 'utf8' });
  const [pack] = JSON.parse(told.slice(told.search(/^\[/m)));
  /** @type {string[]} */
  const files = pack.files.map((/** @type {{path: string}} */ { path }) => path);
  const papers = ['LICENSE-APACHE', 'LICENSE-MIT', 'README.md', 'package.json'];
  const odd = files.filter((path) => !papers.includes(path) && !/^(src\/.+\.js|types\/.+\.d\.ts)$/.test(path));
  assert.deepEqual(odd, []);
  for (const paper of papers) assert.ok(files.includes(paper), `${paper} is missing`);
  const sources = files.filter((path) => path.startsWith('src/'));
  for (const source of sources) {
    const types = source.replace(/^src/, 'types').replace(/js$/, 'd.ts');
    assert.ok(files.includes(types), `${types} is missing`);
  }
  const { exports, type, types, dependencies } = JSON.parse(readFileSync(`${FOLDER}package.json`, 'utf8'));
  const named = [types, exports['.'].types, exports['.'].default].map((path) => path.replace('./', ''));
  for (const path of named) assert.ok(files.includes(path), `${path} is named and missing`);
  assert.deepEqual([type, dependencies], ['module', undefined]);
});

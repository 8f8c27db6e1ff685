// The README's example works as printed.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import { needsServer, Server } from './support/server.js';

const PACKAGE = new URL('../', import.meta.url);

test('the example says hello', needsServer, async (t) => {
  const server = await Server.start(t);
  const readme = await readFile(new URL('README.md', PACKAGE), 'utf8');
  const examples = [...readme.matchAll(/```js\n(.*?)```/gs)].map(([, code]) => code);
  const example = examples.find((code) => code.includes('ws://127.0.0.1:8080/ws'));
  assert.ok(example);
  // Within the package its own name resolves to it.
  const folder = await mkdtemp(join(fileURLToPath(PACKAGE), '.readme-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const file = join(folder, 'hello.mjs');
  await writeFile(file, example.replace('ws://127.0.0.1:8080/ws', server.url));
  const child = spawn(process.execPath, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill());
  const line = await new Promise((resolve, reject) => {
    createInterface(child.stdout).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the example ended: ${code}`)));
  });
  assert.equal(line, 'alice: hello');
});

// The types of the package: equal to those of its sources, and usable from TypeScript.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('../', import.meta.url));
const COMPILER = `${FOLDER}node_modules/typescript/bin/tsc`;
const needsCompiler = {
  skip: existsSync(COMPILER) || process.env.IM_TEST_REQUIRE === 'all' ? false : 'there is no compiler: run npm ci',
};

/** @param {string[]} args */
function compile(args) {
  try {
    return execFileSync(process.execPath, [COMPILER, ...args], { encoding: 'utf8' });
  } catch (error) {
    throw new Error(/** @type {any} */ (error).stdout);
  }
}

/** @param {import('node:test').TestContext} t */
function temporary(t) {
  const folder = mkdtempSync(join(tmpdir(), 'im-types-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Returns all files of a folder, by their paths in it. @param {string} folder */
function contents(folder) {
  const paths = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.ts')).sort();
  return Object.fromEntries(paths.map((path) => [path, readFileSync(join(folder, path), 'utf8')]));
}

test('the types in the tree are those of the sources', needsCompiler, (t) => {
  const folder = temporary(t);
  compile(['--project', `${FOLDER}tsconfig.types.json`, '--outDir', folder]);
  assert.deepEqual(contents(`${FOLDER}types`), contents(folder), 'run npm run types');
});

const CONSUMER = `
import { connect, directRoom, ImError, Code, type AppendAck, type RoomEvent, type Cursor } from 'im-client';

const client = connect({ url: '/im', token: async ({ signal }) => (signal.aborted ? null : 'token'), transport: ['ws', 'poll'] });
const room = client.room(await directRoom('ann', 'bob'));
const stop: () => void = room.on('message', ({ from, seq }: RoomEvent) => console.log(from.toUpperCase(), seq + 1));
const status = await room.subscribe({ since: { epoch: '1.1', seq: 2 } });
const cursor: Cursor | undefined = room.cursor;
const ack: AppendAck = await room.send({ text: 'hello' }, { kind: 'message' });
try {
  await room.member('bob', 'add', { role: 'moderator' });
} catch (error) {
  if (error instanceof ImError && error.code === Code.Forbidden) console.log(error.advice, error.retryMs);
}
for await (const event of room.events()) console.log(event.at.toFixed(), cursor, ack.seq, status.status, stop);
client.on('status', ({ status, retryInMs }) => console.log(status === 'online', retryInMs));

// @ts-expect-error there is no such event
room.on('massage', () => {});
// @ts-expect-error a role that does not exist
room.member('bob', 'add', { role: 'king' });
// @ts-expect-error the address is needed
connect({});
// @ts-expect-error an ack has no text
ack.text;
`;

test('a consumer in TypeScript compiles', needsCompiler, (t) => {
  const folder = temporary(t);
  // The files that npm would publish, in the folder where npm would install them.
  execFileSync('npm', ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', folder], { cwd: FOLDER, encoding: 'utf8' });
  const [archive] = readdirSync(folder);
  const installed = join(folder, 'node_modules/im-client');
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(folder, archive), '-C', installed, '--strip-components=1']);
  writeFileSync(join(folder, 'consumer.mts'), CONSUMER);
  const lib = ['es2023', 'dom', 'dom.iterable', 'dom.asynciterable'];
  const compilerOptions = { strict: true, noEmit: true, target: 'es2022', lib, module: 'nodenext', skipLibCheck: false, types: [] };
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['consumer.mts'] }));
  assert.equal(compile(['--project', folder]), '');
});

// In a real browser: tabs that share one connection. IM_TEST_CHROMIUM names the browser.

import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect as connectTcp } from 'node:net';
import { fileURLToPath } from 'node:url';
import test from 'node:test';

import { needsServer, Server } from './support/server.js';

const CHROMIUM = process.env.IM_TEST_CHROMIUM;
const REQUIRED = process.env.IM_TEST_REQUIRE === 'all';
const ARGS = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync'];
const needsBrowser = {
  skip: needsServer.skip || (CHROMIUM || REQUIRED ? false : 'IM_TEST_CHROMIUM does not name a Chromium'),
};

const SOURCES = fileURLToPath(new URL('../src/', import.meta.url));

/**
 * Serves the client's files and an empty page, and forwards WebSockets to the server.
 *
 * @param {import('node:test').TestContext} t
 * @param {Server} server
 */
async function site(t, server) {
  const seen = { connections: 0 };
  const web = createServer(async (request, response) => {
    const path = /^\/src\/([a-z0-9/-]+\.js)$/.exec(request.url ?? '')?.[1];
    const body = path ? await readFile(SOURCES + path).catch(() => undefined) : '<!doctype html><title>im</title>';
    if (body === undefined) return void response.writeHead(404).end();
    response.setHeader('content-type', path ? 'text/javascript' : 'text/html').end(body);
  });
  web.on('upgrade', (request, socket, head) => {
    seen.connections += 1;
    const upstream = connectTcp(server.port, '127.0.0.1');
    const lines = request.rawHeaders.map((text, i) => (i % 2 ? `${text}\r\n` : `${text}: `)).join('');
    upstream.write(`GET ${request.url} HTTP/1.1\r\n${lines}\r\n`);
    upstream.write(head);
    upstream.pipe(socket).pipe(upstream);
    for (const one of [socket, upstream]) one.on('error', () => {});
    socket.on('close', () => upstream.destroy());
    upstream.on('close', () => socket.destroy());
  });
  await new Promise((resolve) => web.listen(0, '127.0.0.1', () => resolve(undefined)));
  t.after(() => {
    web.closeAllConnections();
    web.close();
  });
  const { port } = /** @type {import('node:net').AddressInfo} */ (web.address());
  return { url: `http://127.0.0.1:${port}/`, seen };
}

/** @param {import('node:test').TestContext} t */
async function browser(t) {
  const { chromium } = await import('playwright-core');
  const launched = await chromium.launch({ executablePath: CHROMIUM, args: ARGS, headless: true });
  t.after(() => launched.close());
  return launched.newContext();
}

/**
 * Opens a tab whose client is subscribed to the room `tea` and records the messages.
 *
 * @param {import('playwright-core').BrowserContext} context
 * @param {string} url
 */
async function openTab(context, url) {
  const page = await context.newPage();
  await page.goto(url);
  await page.evaluate(async () => {
    const module = '/src/index.js';
    const { connect } = await import(module);
    const scope = /** @type {any} */ (globalThis);
    scope.heard = [];
    scope.client = connect({ url: '/', user: 'ann', tabs: true });
    const room = scope.client.room('tea');
    room.on('message', (/** @type {any} */ { content }) => scope.heard.push(content.text));
    await room.create({ open: true }).catch(() => {});
    await room.subscribe();
  });
  return page;
}

/** @param {import('playwright-core').Page} page @param {string} text */
const send = (page, text) => page.evaluate((said) => /** @type {any} */ (globalThis).client.room('tea').send({ text: said }), text);
/** @param {import('playwright-core').Page} page @param {number} n */
const hears = (page, n) => page.waitForFunction((count) => /** @type {any} */ (globalThis).heard.length >= count, n);
/** @param {import('playwright-core').Page} page @returns {Promise<string[]>} */
const heard = (page) => page.evaluate(() => /** @type {any} */ (globalThis).heard);

test('tabs of a browser share one connection, and go on when the one that holds it is closed', needsBrowser, async (t) => {
  const server = await Server.start(t);
  const { url, seen } = await site(t, server);
  const context = await browser(t);
  const first = await openTab(context, url);
  const second = await openTab(context, url);
  const third = await openTab(context, url);
  await send(first, '0');
  await send(second, '1');
  await Promise.all([first, second, third].map((page) => hears(page, 2)));
  assert.equal(seen.connections, 1);
  assert.equal(await first.evaluate(() => /** @type {any} */ (globalThis).client.isLeader()), true);

  const session = await second.evaluate(() => /** @type {any} */ (globalThis).client.shell.machine.session.session);
  const said = send(second, '2');
  await first.close();
  await said;
  await send(third, '3');
  await Promise.all([second, third].map((page) => hears(page, 4)));
  assert.deepEqual(await heard(second), ['0', '1', '2', '3']);
  assert.deepEqual(await heard(third), ['0', '1', '2', '3']);
  assert.equal(seen.connections, 2);
  assert.equal(await third.evaluate(() => /** @type {any} */ (globalThis).client.shell.machine.session.session), session);
});

test('a page comes back when it is online again', needsBrowser, async (t) => {
  const server = await Server.start(t);
  const { url } = await site(t, server);
  const context = await browser(t);
  const page = await openTab(context, url);
  await send(page, '0');
  await hears(page, 1);
  await server.kill();
  await page.waitForFunction(() => /** @type {any} */ (globalThis).client.status === 'waiting');
  const said = send(page, '1');
  await server.run();
  await page.evaluate(() => globalThis.dispatchEvent(new Event('online')));
  await said;
  await hears(page, 2);
  assert.deepEqual(await heard(page), ['0', '1']);
});

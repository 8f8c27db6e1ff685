import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** The path of a built `quickstart`. */
const SERVER = process.env.IM_TEST_SERVER;
const REQUIRED = process.env.IM_TEST_REQUIRE === 'all';

/**
 * The options of a `test` that needs a server: skips with the reason if there is none, unless that
 * is forbidden.
 */
export const needsServer = {
  skip: SERVER || REQUIRED ? false : 'IM_TEST_SERVER does not name a built quickstart server',
};

/** A real server on a folder of its own. It can be killed and started again at the same address. */
export class Server {
  /** @param {import('node:test').TestContext} t */
  static async start(t) {
    if (!SERVER) throw new Error('IM_TEST_SERVER must name a built quickstart server');
    const server = new Server(await mkdtemp(join(tmpdir(), 'im-js-')));
    t.after(() => server.remove());
    await server.run();
    return server;
  }

  /** @param {string} data */
  constructor(data) {
    this.data = data;
    this.port = 0;
  }

  async run() {
    // One user creates more rooms in these tests than the default quota allows.
    const args = ['--listen', `127.0.0.1:${this.port}`, '--store', `sqlite:${this.data}/im.db`, '--no-quotas'];
    const process_ = spawn(String(SERVER), args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NO_COLOR: '1' } });
    this.process = process_;
    /** @type {string[]} */
    const said = [];
    this.port = await new Promise((resolve, reject) => {
      for (const stream of [process_.stdout, process_.stderr]) {
        createInterface(stream).on('line', (line) => {
          said.push(line);
          const found = /http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
          if (found) resolve(Number(found[1]));
        });
      }
      process_.once('exit', (code) => reject(new Error(`the server ended (${code}): ${said.join('\n')}`)));
      process_.once('error', reject);
    });
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/ws`;
  }

  /** The prefix of all transports. */
  get prefix() {
    return `http://127.0.0.1:${this.port}/im`;
  }

  /** @param {NodeJS.Signals} [signal] */
  async kill(signal = 'SIGKILL') {
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  async remove() {
    await this.kill();
    await rm(this.data, { recursive: true, force: true });
  }
}

/** A TCP proxy that can cut connections, drop bytes of one side, or block some requests. */
export class Proxy {
  /**
   * @param {import('node:test').TestContext} t
   * @param {() => number} target a port of this machine
   */
  static async start(t, target) {
    const proxy = new Proxy(target);
    await new Promise((resolve) => proxy.server.listen(0, '127.0.0.1', () => resolve(undefined)));
    t.after(() => proxy.stop());
    return proxy;
  }

  /** @param {() => number} target */
  constructor(target) {
    this.target = target;
    /** @type {Set<import('node:net').Socket>} */
    this.sockets = new Set();
    /** The number of connections so far. */
    this.count = 0;
    /** Bytes from the server are dropped. */
    this.isDeaf = false;
    /** New connections are refused. */
    this.isClosed = false;
    /**
     * Beginnings of requests that are answered like a gateway that blocks them.
     * @type {Set<string>}
     */
    this.blocked = new Set();
    this.server = createServer((socket) => this.accept(socket));
  }

  get port() {
    return /** @type {import('node:net').AddressInfo} */ (this.server.address()).port;
  }

  /** @param {import('node:net').Socket} socket */
  accept(socket) {
    if (this.isClosed) return void socket.destroy();
    this.count += 1;
    const server = connect(this.target(), '127.0.0.1');
    for (const [one, other] of [[socket, server], [server, socket]]) {
      this.sockets.add(one);
      one.on('data', (data) => {
        if (one === socket && this.blocks(data)) {
          socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n');
          server.destroy();
        } else if (one === socket || !this.isDeaf) other.write(data);
      });
      one.on('error', () => {});
      one.on('close', () => {
        this.sockets.delete(one);
        other.destroy();
      });
    }
  }

  /** @param {Buffer} data */
  blocks(data) {
    for (const request of this.blocked) if (data.subarray(0, request.length).toString('latin1') === request) return true;
    return false;
  }

  /** Cuts all connections. */
  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  stop() {
    this.cut();
    this.server.close();
  }
}

/** Short pauses, so that tests reconnect quickly. */
export const QUICK = { reconnect: { baseMs: 20, maxMs: 100 } };

/**
 * Collects a room's events, and waits for so many.
 *
 * @param {import('../../src/room.js').Room} room
 */
export function collect(room) {
  /** @type {import('../../src/core/rooms.js').RoomEvent[]} */
  const events = [];
  room.on('event', (event) => events.push(event));
  return {
    events,
    texts: () => events.map(({ content }) => /** @type {any} */ (content)?.text).filter((text) => text !== undefined),
    /** @param {number} n texts */
    async until(n) {
      while (this.texts().length < n) await room.once('event');
      return this.texts();
    },
  };
}

/** A `Storage` in memory. The order of its keys is unspecified. */
export function memoryStorage() {
  const map = new Map();
  return {
    map,
    get length() {
      return map.size;
    },
    key: (/** @type {number} */ i) => [...map.keys()].reverse()[i] ?? null,
    getItem: (/** @type {string} */ key) => map.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void map.set(key, value),
    removeItem: (/** @type {string} */ key) => void map.delete(key),
  };
}

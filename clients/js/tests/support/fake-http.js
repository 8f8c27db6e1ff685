import { createServer } from 'node:http';

import * as json from '../../src/wire/json.js';
import * as msgpack from '../../src/wire/msgpack.js';

/** @typedef {import('../../src/wire/value.js').Frame} Frame */

/**
 * A waiting downlink: calls it when there is something to deliver, ends it with a refusal, or cuts
 * it.
 *
 * @typedef {{wake: () => void, cut: () => void, refuse: (code: number, retryMs?: number) => void}}
 *   Waiting
 */

/**
 * `rev`: of the checkpoint, which is `rooms`.
 *
 * @typedef {{secret: string, user: string, rooms: Map<string, {at: number, sub: number}>, rev:
 *   number, down?: Waiting}} Session
 */

const EPOCH = '1.1';

/**
 * The part of a server's HTTP side that the links need: rooms, sessions, positions. All in memory.
 */
export class FakeHttp {
  /** @param {import('node:test').TestContext} t */
  static async start(t) {
    const fake = new FakeHttp();
    await new Promise((resolve) => fake.server.listen(0, '127.0.0.1', () => resolve(undefined)));
    t.after(() => fake.stop());
    return fake;
  }

  constructor() {
    /** @type {Map<string, Session>} */
    this.sessions = new Map();
    /** @type {Map<string, Frame[]>} */
    this.logs = new Map();
    this.subs = 0;
    /** Paths that a proxy blocks. @type {Set<string>} */
    this.blocked = new Set();
    /**
     * How many of the next requests on a path a gateway answers, as if the server were down.
     * @type {Map<string, number>}
     */
    this.away = new Map();
    /** How many of the next answers on a path are lost. @type {Map<string, number>} */
    this.losses = new Map();
    /** Answers to commands wait for this promise. @type {Promise<unknown>} */
    this.gate = Promise.resolve();
    /** Answers to polls are in transit until this promise settles. @type {Promise<unknown>} */
    this.late = Promise.resolve();
    /** The requests with their statuses, as `GET /im/poll 200`. @type {string[]} */
    this.seen = [];
    /** @type {(() => void)[]} */
    this.watchers = [];
    /** Heads of the requests, in their order. @type {import('node:http').IncomingMessage[]} */
    this.requests = [];
    this.server = createServer((request, response) => this.on(request, response));
  }

  get url() {
    return `http://127.0.0.1:${/** @type {import('node:net').AddressInfo} */ (this.server.address()).port}/im`;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  /**
   * Waits for a request with this answer.
   *
   * @param {string} what the beginning of an entry of `seen`
   * @param {number} [n] how many of them
   */
  async saw(what, n = 1) {
    while (this.seen.filter((entry) => entry.startsWith(what)).length < n) {
      await new Promise((resolve) => this.watchers.push(() => resolve(undefined)));
    }
  }

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  async on(request, response) {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://fake');
    this.requests.push(request);
    response.on('close', () => {
      this.seen.push(`${request.method} ${pathname} ${response.statusCode}`);
      this.watchers.splice(0).forEach((watch) => watch());
    });
    if (this.countDown(this.away, pathname)) return void response.writeHead(502).end('<h1>Bad gateway</h1>');
    if (this.blocked.has(pathname)) return void response.writeHead(502).end('<h1>Bad gateway</h1>');
    if (pathname === '/im/send' && request.method === 'POST') return this.send(request, response);
    if (pathname === '/im/sse') return this.stream(request, response);
    if (pathname === '/im/poll') return this.poll(request, response, searchParams);
    response.writeHead(404).end();
  }

  /**
   * @param {import('node:http').ServerResponse} response
   * @param {number} status
   * @param {Frame} body
   */
  refuse(response, status, body) {
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  }

  /** Whether the next answer on this path is to be lost. @param {string} path */
  loses(path) {
    return this.countDown(this.losses, path);
  }

  /** @param {Map<string, number>} counts @param {string} path */
  countDown(counts, path) {
    const left = counts.get(path) ?? 0;
    if (left > 0) counts.set(path, left - 1);
    return left > 0;
  }

  /** @param {import('node:http').IncomingMessage} request */
  sessionOf(request) {
    const [id, secret] = String(request.headers['im-session'] ?? '').split(' ');
    const session = this.sessions.get(id);
    return session?.secret === secret ? session : undefined;
  }

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  async send(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    await this.gate;
    const body = Buffer.concat(parts);
    const packed = request.headers['content-type'] === 'application/msgpack';
    const message = /** @type {any} */ (packed ? msgpack.decode(body) : json.decode(body.toString()));
    const context = { session: this.sessionOf(request), isUnsubscribed: false };
    const replies = [message].flat().map((frame) => this.command(context, frame));
    if (!context.session) return this.refuse(response, 404, { code: 4400, msg: 'the session is not known' });
    if (this.loses('/im/send')) return void response.destroy();
    const type = packed ? 'application/msgpack' : 'application/json';
    response.writeHead(200, { 'content-type': type }).end(packed ? msgpack.encode(replies) : json.encode(replies));
  }

  /**
   * @param {{session?: Session, isUnsubscribed: boolean}} context
   * @param {Frame} frame
   * @returns {Frame}
   */
  command(context, frame) {
    const { t, id, room } = frame;
    if (t === 'hello') return this.hello(context, frame);
    const { session } = context;
    if (!session) return { t: 'err', id, code: 4509, msg: 'hello comes first' };
    if (t === 'send') {
      const log = this.log(room);
      const before = log.find(({ mid }) => mid === frame.mid);
      const event = before ?? this.publish(room, frame.content, { from: session.user, mid: frame.mid });
      return { t: 'ok', id, room, epoch: EPOCH, seq: event.seq, at: event.at, duplicate: before !== undefined };
    }
    if (t === 'create') {
      const duplicate = this.log(room).length > 0;
      const event = this.log(room)[0] ?? this.publish(room, { changes: [] }, { from: session.user, kind: 'im.members' });
      return { t: 'ok', id, room, epoch: EPOCH, seq: event.seq, at: event.at, duplicate };
    }
    if (t === 'history') {
      const log = this.log(room);
      return { t: 'ok', id, epoch: EPOCH, head: log.length, first: 1, events: log.slice(frame.after), more: false };
    }
    if (t === 'resume' && frame.rev !== undefined && frame.rev !== session.rev) {
      return { t: 'err', id, code: 4401, msg: 'the checkpoint is another one' };
    }
    const subscribes = t === 'subscribe' || t === 'resume';
    // After `hello` the first subscription replaces the session's rooms, except a resume by
    // revision.
    if (subscribes && context.isUnsubscribed && frame.rev === undefined) session.rooms.clear();
    if (subscribes) context.isUnsubscribed = false;
    const held = frame.rev === undefined ? [] : [...session.rooms.keys()];
    if (t === 'subscribe') this.subscribe(session, room, frame.since ?? this.log(room).length);
    if (t === 'unsubscribe') session.rooms.delete(room);
    for (const [name, , seq] of frame.cursors ?? []) this.subscribe(session, name, seq);
    if (t !== 'ping') session.rev += 1;
    session.down?.wake();
    const named = t === 'subscribe' ? [room] : (frame.cursors ?? []).map((/** @type {any[]} */ [name]) => name);
    const rooms = [...new Set([...held, ...named])].map((name) => this.status(name, session.rooms.get(name)?.at ?? 0));
    return { t: 'ok', id, rooms, rev: session.rev, gen: 'beef', now: 0 };
  }

  /**
   * @param {{session?: Session, isUnsubscribed: boolean}} context
   * @param {Frame} frame
   * @returns {Frame}
   */
  hello(context, { id, session, secret, user, device = 'a device' }) {
    const known = this.sessions.get(session);
    if (session && known?.secret !== secret) return { t: 'err', id, code: 4400, msg: 'the session is not known' };
    const name = known ? session : `s${this.sessions.size + 1}`;
    context.session = known ?? { secret: `secret-of-${name}`, user, rooms: new Map(), rev: 0 };
    context.isUnsubscribed = true;
    this.sessions.set(name, context.session);
    return { t: 'ok', id, v: 1, session: name, secret: context.session.secret, user, device, resumed: known !== undefined,
      rev: 0, idle_ms: 60_000, limits: { batch: 8, in_flight: 8 } };
  }

  /** @param {string} room */
  log(room) {
    const log = this.logs.get(room) ?? [];
    this.logs.set(room, log);
    return log;
  }

  /** @param {Session} session @param {string} room @param {number} at */
  subscribe(session, room, at) {
    this.subs += 1;
    session.rooms.set(room, { at, sub: this.subs });
  }

  /** @param {string} room @param {number} cursor */
  status(room, cursor) {
    return { room, status: 'ok', epoch: EPOCH, cursor, head: this.log(room).length };
  }

  /** @param {string} room @param {any} content @param {Frame} [fields] */
  publish(room, content, fields = {}) {
    const log = this.log(room);
    const event = { t: 'event', room, epoch: EPOCH, seq: log.length + 1, from: 'x', at: 1, kind: 'message', ...fields, content };
    log.push(event);
    for (const session of this.sessions.values()) if (session.rooms.has(room)) session.down?.wake();
    return event;
  }

  /**
   * Returns the frames after a position, and the position after them.
   *
   * @param {Session} session
   * @param {string} position
   */
  after(session, position) {
    const held = position === '' ? {} : JSON.parse(Buffer.from(position, 'base64url').toString());
    /** @type {Frame[]} */
    const frames = [];
    /** @type {Record<string, [number, number]>} */
    const next = {};
    for (const [room, { at, sub }] of session.rooms) {
      const [seq, since] = held[room] ?? [];
      const begins = since === sub ? seq : at;
      if (since !== sub) frames.push({ t: 'room', ...this.status(room, begins) });
      frames.push(...this.log(room).slice(begins));
      next[room] = [this.log(room).length, sub];
    }
    return { frames, position: Buffer.from(JSON.stringify(next)).toString('base64url') };
  }

  /**
   * Sets the session's one downlink.
   *
   * @param {Session} session
   * @param {Waiting} down
   */
  take(session, down) {
    session.down?.refuse(4101);
    session.down = down;
  }

  /** Cuts every downlink. */
  cut() {
    for (const session of this.sessions.values()) session.down?.cut();
  }

  /** Ends every downlink. @param {number} code @param {number} [retryMs] */
  disconnect(code, retryMs) {
    for (const session of this.sessions.values()) session.down?.refuse(code, retryMs);
  }

  /**
   * A block of frames with the position after them; without frames the position alone.
   *
   * @param {Frame[]} frames
   * @param {string} position
   */
  block(frames, position) {
    return `data: ${json.encode(frames.length > 0 ? frames : { t: 'position', at: position })}\nid: ${position}\n\n`;
  }

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   */
  stream(request, response) {
    const session = this.sessionOf(request);
    if (!session) return this.refuse(response, 404, { code: 4400, msg: 'the session is not known' });
    let position = String(request.headers['last-event-id'] ?? '');
    response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`retry: 20\n\n${this.block([], position)}:\n\n`);
    const down = {
      wake: () => {
        const { frames, position: next } = this.after(session, position);
        if (frames.length === 0) return;
        if (this.loses('/im/sse')) return void response.destroy();
        position = next;
        response.write(this.block(frames, position));
      },
      refuse: (/** @type {number} */ code, /** @type {number | undefined} */ retryMs) => {
        session.down = undefined;
        response.end(`data: ${JSON.stringify({ t: 'disconnect', code, msg: 'disconnect', retry_ms: retryMs })}\n\n`);
      },
      cut: () => void response.destroy(),
    };
    this.take(session, down);
    response.on('close', () => session.down === down && (session.down = undefined));
    down.wake();
  }

  /**
   * @param {import('node:http').IncomingMessage} request
   * @param {import('node:http').ServerResponse} response
   * @param {URLSearchParams} query
   */
  poll(request, response, query) {
    const session = this.sessionOf(request);
    if (!session) return this.refuse(response, 404, { code: 4400, msg: 'the session is not known' });
    const at = query.get('at') ?? '';
    const known = request.headers['if-none-match'];
    let isDone = false;
    const down = {
      wake: (isLast = false) => {
        const { frames, position } = this.after(session, at);
        if (isDone || (frames.length === 0 && !isLast)) return;
        isDone = true;
        session.down = undefined;
        clearTimeout(timer);
        if (this.loses('/im/poll')) return void response.destroy();
        if (frames.length === 0 && known === `"${position}"`) return void this.late.then(() => response.writeHead(304).end());
        const packed = request.headers.accept === 'application/msgpack';
        const list = [...frames, { t: 'position', at: position }];
        response.setHeader('etag', `"${position}"`);
        response.setHeader('content-type', packed ? 'application/msgpack' : 'application/json');
        void this.late.then(() => response.end(packed ? msgpack.encode(list) : json.encode(list)));
      },
      refuse: (/** @type {number} */ code, /** @type {number | undefined} */ retryMs) => {
        isDone = true;
        clearTimeout(timer);
        session.down = undefined;
        this.refuse(response, code === 4101 ? 409 : code === 4001 ? 503 : 410, { code, msg: 'disconnect', retry_ms: retryMs });
      },
      cut: () => void response.destroy(),
    };
    this.take(session, down);
    const hold = Number(query.get('hold') ?? 25) * 1000;
    const timer = setTimeout(() => down.wake(true), hold).unref();
    response.on('close', () => session.down === down && (session.down = undefined));
    down.wake(hold === 0);
  }
}

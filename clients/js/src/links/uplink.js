import { fromUtf8 } from '../wire/value.js';
import { causeOf, isFromServer, wordsOf } from './link.js';

/**
 * @typedef {import('./link.js').Cause} Cause
 * @typedef {import('./link.js').Session} Session
 * @typedef {import('../wire/codec.js').Message} Message
 */

/** A request that is not answered for so long is given up, in milliseconds. */
const PATIENCE_MS = 30_000;

/**
 * Commands up by POST, one request at a time so that they arrive in order; the replies are the response. At most as many
 * messages wait as the server allows commands in flight.
 */
export class Uplink {
  /**
   * @param {object} setup
   * @param {string} setup.url the prefix, without a slash at its end
   * @param {() => string | undefined} setup.token
   * @param {RequestCredentials} setup.credentials
   * @param {'json' | 'msgpack'} setup.encoding
   * @param {import('./link.js').Env} setup.env
   * @param {{message: (message: Message) => void, lost: (cause: Cause & {unfit?: boolean}) => void}} events
   */
  constructor(setup, events) {
    this.setup = setup;
    this.events = events;
    /** @type {Session | undefined} */
    this.session = undefined;
    /** @type {Message[]} */
    this.queue = [];
    this.isBusy = false;
    this.aborter = new AbortController();
  }

  /** @param {Message} message */
  send(message) {
    this.queue.push(message);
    this.next();
  }

  async next() {
    if (this.isBusy || this.aborter.signal.aborted) return;
    const message = this.queue.shift();
    if (message === undefined) return;
    this.isBusy = true;
    const answer = await this.post(message);
    this.isBusy = false;
    if (this.aborter.signal.aborted) return;
    if ('cause' in answer) return this.events.lost(answer.cause);
    this.events.message(answer.message);
    this.next();
  }

  /**
   * @param {Message} message
   * @returns {Promise<{message: Message} | {cause: Cause & {unfit?: boolean}}>}
   */
  async post(message) {
    const type = `application/${this.setup.encoding}`;
    const headers = { ...this.headers(), accept: type, 'content-type': type };
    try {
      const body = /** @type {BodyInit} */ (message);
      const response = await this.request('/send', { method: 'POST', headers, body }, PATIENCE_MS);
      if (response.status !== 200) return { cause: await causeOf(response) };
      return { message: await messageOf(response) };
    } catch (error) {
      return { cause: { message: `the request failed: ${wordsOf(error)}` } };
    }
  }

  /** The headers that every request carries. */
  headers() {
    /** @type {Record<string, string>} */
    const headers = {};
    const token = this.setup.token();
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    if (this.session) headers['im-session'] = `${this.session.session} ${this.session.secret}`;
    return headers;
  }

  /**
   * A request that ends with its signal, and with a `patienceMs` also with the link, or after that time without a complete
   * answer. Without one it is a stream, which whoever reads it ends.
   *
   * @param {string} path under the prefix
   * @param {RequestInit} init
   * @param {number} [patienceMs]
   */
  async request(path, init, patienceMs) {
    const { env, url, credentials } = this.setup;
    const aborter = new AbortController();
    const give = () => aborter.abort(new Error('no answer in time'));
    const timer = patienceMs === undefined ? undefined : env.setTimeout(give, patienceMs);
    const end = () => aborter.abort();
    if (patienceMs !== undefined) this.aborter.signal.addEventListener('abort', end, { once: true });
    init.signal?.addEventListener('abort', end, { once: true });
    try {
      const response = await env.fetch(url + path, { ...init, credentials, cache: 'no-store', signal: aborter.signal });
      // A stream is read by whoever asked for it; everything else is read here, so that the time counts for it too.
      if (patienceMs === undefined || response.status === 304) return response;
      return new Response(await response.arrayBuffer(), { status: response.status, headers: response.headers });
    } finally {
      env.clearTimeout(timer);
      if (patienceMs !== undefined) {
        this.aborter.signal.removeEventListener('abort', end);
        init.signal?.removeEventListener('abort', end);
      }
    }
  }

  close() {
    this.queue = [];
    this.aborter.abort();
  }
}

/**
 * The body of a response as a message: bytes if it is MessagePack.
 *
 * @param {Response} response
 * @returns {Promise<Message>}
 */
export async function messageOf(response) {
  const bytes = new Uint8Array(await response.arrayBuffer());
  return response.headers.get('content-type')?.includes('msgpack') ? bytes : fromUtf8(bytes);
}

/** How often a downlink that breaks is taken up again before the link gives up. */
const TRIES = 3;

/** Counts how often a downlink broke without anything coming through in between. */
export class Tries {
  constructor() {
    this.failed = 0;
    this.hasWorked = false;
  }

  worked() {
    this.failed = 0;
    this.hasWorked = true;
  }

  /**
   * The pause before the next try in milliseconds; undefined if there is to be none.
   *
   * @param {Cause & {unfit?: boolean}} cause
   */
  next(cause) {
    // The greeting has just come through, so that one that never worked is refused by something in between.
    if (isFromServer(cause) || (cause.unfit && !this.hasWorked)) return undefined;
    this.failed += 1;
    return this.failed > TRIES ? undefined : 100 * 4 ** (this.failed - 1);
  }
}

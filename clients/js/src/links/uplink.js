import { fromUtf8, utf8Length, WireError } from '../wire/value.js';
import { causeOf, isFromServer, wordsOf } from './link.js';

/**
 * @typedef {import('./link.js').LinkCause} LinkCause
 * @typedef {import('./link.js').Session} Session
 * @typedef {import('../wire/codec.js').Message} Message
 */

/**
 * Longest time without progress of a request, in milliseconds. The upload of its body has time
 * beyond that.
 */
const PATIENCE_MS = 30_000;

/** The error of a request without progress for too long. */
class Late extends Error {}

/**
 * Commands by POST, one request at a time so that they arrive in order; the response has the
 * replies. At most as many messages wait as the server allows commands in flight.
 *
 * A request that fails on its way (a gateway's 502, a broken connection) is retried after a short
 * pause, if all of it can be carried out twice. Only when retries fail as well is the link lost.
 */
export class Uplink {
  /**
   * @param {object} setup
   * @param {string} setup.url the prefix, without a slash at its end
   * @param {() => string | undefined} setup.token
   * @param {RequestCredentials} setup.credentials
   * @param {'json' | 'msgpack'} setup.encoding
   * @param {import('./link.js').Env} setup.env
   * @param {Pick<import('../config.js').Config, 'slowestUplink'>} setup.config
   * @param {{message: (message: Message) => void, lost: (cause: LinkCause) => void}} events
   */
  constructor(setup, events) {
    this.setup = setup;
    this.events = events;
    /** @type {Session | undefined} */
    this.session = undefined;
    /** @type {{message: Message, idempotent: boolean}[]} */
    this.queue = [];
    this.isBusy = false;
    this.tries = new Tries();
    this.aborter = new AbortController();
  }

  /**
   * @param {Message} message
   * @param {boolean} [idempotent] whether all of it can be carried out twice
   */
  send(message, idempotent = false) {
    this.queue.push({ message, idempotent });
    this.next();
  }

  async next() {
    if (this.isBusy || this.aborter.signal.aborted) return;
    const first = this.queue.shift();
    if (first === undefined) return;
    this.isBusy = true;
    const answer = await this.deliver(first.message, first.idempotent);
    this.isBusy = false;
    if (this.aborter.signal.aborted) return;
    if ('cause' in answer) return this.events.lost(answer.cause);
    this.events.message(answer.message);
    this.next();
  }

  /**
   * @param {Message} message
   * @param {boolean} idempotent
   */
  async deliver(message, idempotent) {
    for (;;) {
      const answer = await this.post(message);
      if (!('cause' in answer)) {
        this.tries.worked();
        return answer;
      }
      const { isPassing, retryMs = 0 } = answer.cause;
      const pause = idempotent && isPassing ? this.tries.next(answer.cause) : undefined;
      // A longer pause that the server asked for is made before the next connection.
      if (pause === undefined || retryMs > pause) return answer;
      await this.rest(pause);
      if (this.aborter.signal.aborted) return answer;
    }
  }

  /** A pause that ends with the link. @param {number} ms */
  rest(ms) {
    const { env } = this.setup;
    const { signal } = this.aborter;
    return new Promise((resolve) => {
      const end = () => {
        env.clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve(undefined);
      };
      const timer = env.setTimeout(end, ms);
      signal.addEventListener('abort', end);
    });
  }

  /**
   * @param {Message} message
   * @returns {Promise<{message: Message} | {cause: LinkCause}>}
   */
  async post(message) {
    const type = `application/${this.setup.encoding}`;
    const headers = { ...this.headers(), accept: type, 'content-type': type };
    // The progress of an upload is not reported: the slowest uplink is assumed.
    const bytes = typeof message === 'string' ? utf8Length(message) : message.length;
    const patience = PATIENCE_MS + (bytes / this.setup.config.slowestUplink) * 1000;
    try {
      const body = /** @type {BodyInit} */ (message);
      const response = await this.request('/send', { method: 'POST', headers, body }, patience);
      if (response.status !== 200) return { cause: await causeOf(response) };
      return { message: await messageOf(response) };
    } catch (error) {
      return { cause: failure('a POST', error) };
    }
  }

  /** Returns the headers of every request. */
  headers() {
    /** @type {Record<string, string>} */
    const headers = {};
    const token = this.setup.token();
    if (token !== undefined) headers.authorization = `Bearer ${token}`;
    if (this.session) headers['im-session'] = `${this.session.session} ${this.session.secret}`;
    return headers;
  }

  /**
   * A request that is aborted by its signal. With `patienceMs` it is also aborted with the link, or
   * after so long without a piece of the response. Without it the response is a stream, which its
   * reader ends.
   *
   * @param {string} path under the prefix
   * @param {RequestInit} init
   * @param {number} [patienceMs]
   */
  async request(path, init, patienceMs) {
    const { env, url, credentials } = this.setup;
    const aborter = new AbortController();
    /** @type {any} */
    let timer;
    const wait = (/** @type {number} */ ms) => {
      env.clearTimeout(timer);
      timer = env.setTimeout(() => aborter.abort(new Late('no answer in time')), ms);
    };
    const end = () => aborter.abort();
    init.signal?.addEventListener('abort', end, { once: true });
    if (patienceMs !== undefined) {
      this.aborter.signal.addEventListener('abort', end, { once: true });
      wait(patienceMs);
    }
    try {
      const response = await env.fetch(url + path, { ...init, credentials, cache: 'no-store', signal: aborter.signal });
      // A stream is read by the caller; every other body is read here, so that the time limit
      // covers it too.
      if (patienceMs === undefined || response.status === 304) return response;
      const body = await bodyOf(response, () => wait(PATIENCE_MS));
      return new Response(body, { status: response.status, headers: response.headers });
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
 * The cause of a request that failed without a response.
 *
 * @param {string} what
 * @param {unknown} error
 * @returns {LinkCause}
 */
export function failure(what, error) {
  return { message: `${what} failed: ${wordsOf(error)}`, isPassing: !(error instanceof Late || error instanceof WireError) };
}

/**
 * Reads the whole body of a response.
 *
 * @param {Response} response
 * @param {() => void} moves called with each piece
 */
async function bodyOf(response, moves) {
  moves();
  const reader = response.body?.getReader();
  /** @type {Uint8Array[]} */
  const parts = [];
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done || !value) return new Blob(/** @type {BlobPart[]} */ (parts)).arrayBuffer();
    moves();
    parts.push(value);
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

/**
 * How often a failed request is retried before the link is lost, if it has worked, and if it never
 * has.
 */
const TRIES = 3;
const FIRST_TRIES = 1;

/** Counts failures in a row, without a success in between. */
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
   * Returns the pause before the next try in milliseconds; undefined after the last one.
   *
   * @param {LinkCause} cause
   */
  next(cause) {
    // The greeting has just succeeded, so a downlink that never worked is refused by a proxy.
    if (isFromServer(cause) || (cause.unfit && !this.hasWorked)) return undefined;
    this.failed += 1;
    return this.failed > (this.hasWorked ? TRIES : FIRST_TRIES) ? undefined : 100 * 4 ** (this.failed - 1);
  }
}

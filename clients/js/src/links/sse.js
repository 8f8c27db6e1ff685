import { codecOf } from '../wire/codec.js';
import { causeOf, finalCause, wordsOf } from './link.js';
import { EventStreamParser } from './sse-parser.js';
import { failure, Tries, Uplink } from './uplink.js';

/** A stream that is silent for so many heartbeats is reopened: wire/SPEC.md, "Time-outs". */
const HEARTBEATS = 3;
/**
 * Bounds of the silence that is tolerated, in milliseconds: the upper is the longest timer of
 * browsers.
 */
const [LEAST_SILENCE_MS, LONGEST_SILENCE_MS] = [1000, 2 ** 31 - 1];

/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('./link.js').LinkCause} LinkCause
 * @typedef {import('../config.js').Config} Config
 */

/**
 * Pushes by an event stream, commands by POST. The stream is read with `fetch` rather than
 * `EventSource`, which sends no headers and exists in browsers only. A stream that breaks is
 * reopened from the last position.
 *
 * @implements {Link}
 */
export class EventStreamLink {
  /**
   * @param {ConstructorParameters<typeof Uplink>[0] & {config: Pick<Config, 'firstByteMs' | 'heartbeatMs'>}}
   *   setup
   * @param {LinkEvents} events
   */
  constructor(setup, events) {
    this.transport = 'sse';
    this.traits = { codec: codecOf(setup.encoding), duplex: false };
    this.setup = setup;
    this.events = events;
    this.uplink = new Uplink(setup, { message: events.message, lost: (cause) => this.lost(cause) });
    this.tries = new Tries();
    /** @type {string | undefined} */
    this.position = undefined;
    this.retryMs = 1000;
    /** A stream that is silent for this long, heartbeats included, is reopened. */
    this.silenceMs = silenceOf(setup.config.heartbeatMs);
    /** Whether the server has announced its heartbeat interval. */
    this.isInformed = false;
    /** Whether something has arrived on the current stream. */
    this.isFlowing = false;
    /** @type {AbortController | undefined} The current stream. */
    this.stream = undefined;
    this.timer = undefined;
    this.isDone = false;
  }

  open() {
    // Nothing is opened before the greeting. Callers do not expect a synchronous callback.
    queueMicrotask(() => this.isDone || this.events.open());
  }

  /** @param {import('./link.js').Message} message @param {boolean} [idempotent] */
  send(message, idempotent) {
    this.uplink.send(message, idempotent);
  }

  /** @param {import('./link.js').Session} session */
  welcome(session) {
    this.uplink.session = session;
    this.read();
  }

  nudge() {
    this.again(0);
  }

  /** Reads one stream to its end. */
  async read() {
    if (this.isDone) return;
    this.setup.env.clearTimeout(this.timer);
    const stream = new AbortController();
    this.stream = stream;
    this.isFlowing = false;
    this.watch(this.setup.config.firstByteMs);
    const cause = await this.readUntilEnd(stream).catch((error) => ({ message: `the stream broke: ${wordsOf(error)}` }));
    if (this.isDone || this.stream !== stream) return;
    const pause = this.tries.next(cause);
    // A stream that carried something and ended is reopened after the server's `retry:`.
    if (pause !== undefined) this.again(this.tries.failed === 1 ? Math.min(this.retryMs, 10_000) : pause);
    else this.lost(finalCause(cause));
  }

  /**
   * @param {AbortController} stream
   * @returns {Promise<LinkCause>} why it ended
   */
  async readUntilEnd(stream) {
    /** @type {Record<string, string>} */
    const headers = { ...this.uplink.headers(), accept: 'text/event-stream' };
    if (this.position !== undefined) headers['last-event-id'] = this.position;
    /** @type {Response} */
    let response;
    try {
      response = await this.uplink.request('/sse', { headers, signal: stream.signal });
    } catch (error) {
      return failure('the request for a stream', error);
    }
    const isStream = response.headers.get('content-type')?.startsWith('text/event-stream');
    if (response.status !== 200 || !isStream || !response.body) return causeOf(response);
    const reader = response.body.getReader();
    const parser = new EventStreamParser({
      data: (data) => this.stream === stream && !this.isDone && this.events.message(data),
      id: (id) => void (this.position = id === '' ? undefined : id),
      retry: (ms) => void (this.retryMs = ms),
    });
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { message: 'the stream ended' };
      if (this.isDone || this.stream !== stream) return { message: 'left' };
      this.tries.worked();
      if (!this.isFlowing && !this.isInformed) void this.learn();
      this.isFlowing = true;
      this.watch(this.silenceMs);
      this.events.heard();
      this.events.steady();
      parser.push(value);
    }
  }

  /**
   * Requests the server's heartbeat interval. After a failure, the next stream requests it again.
   */
  async learn() {
    try {
      const { firstByteMs } = this.setup.config;
      const response = await this.uplink.request('', { headers: this.uplink.headers() }, firstByteMs);
      const offer = response.status === 200 ? await response.json() : undefined;
      if (this.isDone || !Number.isFinite(offer?.heartbeat_ms)) return;
      this.isInformed = true;
      this.silenceMs = silenceOf(offer.heartbeat_ms);
      if (this.isFlowing) this.watch(this.silenceMs);
    } catch {
      // The stream itself shows whether the server is alive.
    }
  }

  /**
   * Ends the stream after too long a silence. If nothing has ever arrived, a proxy buffers it.
   *
   * @param {number} ms
   */
  watch(ms) {
    const { env } = this.setup;
    env.clearTimeout(this.timer);
    this.timer = env.setTimeout(() => {
      const cause = { message: 'nothing arrives on the stream', unfit: true };
      const pause = this.tries.next(cause);
      if (pause !== undefined) this.again(pause);
      else this.lost(cause);
    }, ms);
  }

  /** @param {number} ms */
  again(ms) {
    if (this.isDone || !this.uplink.session) return;
    const { env } = this.setup;
    this.stream?.abort();
    // The rest of the aborted stream is ignored.
    this.stream = undefined;
    this.isFlowing = false;
    env.clearTimeout(this.timer);
    this.timer = env.setTimeout(() => this.read(), ms);
  }

  /** @param {LinkCause} cause */
  lost(cause) {
    if (this.isDone) return;
    this.close();
    this.events.lost(cause);
  }

  close() {
    this.isDone = true;
    this.setup.env.clearTimeout(this.timer);
    this.stream?.abort();
    this.uplink.close();
  }
}

/** @param {number} heartbeatMs */
function silenceOf(heartbeatMs) {
  return Math.min(Math.max(heartbeatMs * HEARTBEATS, LEAST_SILENCE_MS), LONGEST_SILENCE_MS);
}

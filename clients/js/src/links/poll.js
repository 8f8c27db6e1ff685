import { codecOf, decodeMessage } from '../wire/codec.js';
import { causeOf, finalCause } from './link.js';
import { failure, messageOf, Tries, Uplink } from './uplink.js';

/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('./link.js').LinkCause} LinkCause
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/** How much longer than its hold a poll may take, in milliseconds: wire/SPEC.md, "Time-outs". */
const GRACE_MS = 15_000;

/**
 * Pushes by polling, commands by POST. Pushes count as received only when the next poll names their
 * position, so a lost response is requested again.
 *
 * @implements {Link}
 */
export class PollLink {
  /**
   * @param {ConstructorParameters<typeof Uplink>[0] & {holdMs: number, pauseMs: number}} setup
   *   `holdMs`: how long the server may hold a poll, 0 for short polling; `pauseMs`: between two
   *   short polls that return nothing
   * @param {LinkEvents} events
   */
  constructor(setup, events) {
    this.transport = setup.holdMs === 0 ? 'short' : 'poll';
    this.traits = { codec: codecOf(setup.encoding), duplex: false };
    this.setup = setup;
    this.events = events;
    const message = (/** @type {import('./link.js').Message} */ reply) => {
      events.message(reply);
      // The commands may have produced pushes.
      this.soon();
    };
    this.uplink = new Uplink(setup, { message, lost: (cause) => this.lost(cause) });
    this.tries = new Tries();
    /** @type {string | undefined} */
    this.position = undefined;
    /** @type {AbortController | undefined} The poll in progress. */
    this.poll = undefined;
    this.askedAt = 0;
    /** Whether the next poll is due at once, whatever this one returns. */
    this.isDue = false;
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
    this.wait(0);
  }

  nudge() {
    if (this.isDone || !this.uplink.session) return;
    this.poll?.abort();
    this.poll = undefined;
    this.wait(0);
  }

  /** Skips the pause between two short polls. A poll in progress may have been answered before. */
  soon() {
    if (this.isDone || !this.uplink.session || this.setup.holdMs > 0) return;
    if (this.poll) this.isDue = true;
    else this.wait(0);
  }

  /** @param {number} ms */
  wait(ms) {
    const { env } = this.setup;
    env.clearTimeout(this.timer);
    this.timer = env.setTimeout(() => this.ask(), ms);
  }

  async ask() {
    if (this.isDone || this.poll) return;
    const poll = new AbortController();
    this.poll = poll;
    this.askedAt = this.setup.env.now();
    this.isDue = false;
    const answer = await this.answer(poll).catch((error) => ({ cause: failure('a poll', error) }));
    if (this.isDone || this.poll !== poll) return;
    this.poll = undefined;
    if ('cause' in answer) {
      const { cause } = answer;
      const pause = this.tries.next(cause);
      return pause === undefined ? this.lost(finalCause(cause)) : this.wait(pause);
    }
    this.tries.worked();
    this.events.heard();
    this.events.steady();
    this.take(answer.frames);
  }

  /** @param {Frame[]} frames with the position at their end; none if there is nothing new */
  take(frames) {
    const last = frames.at(-1);
    const pushes = last?.t === 'position' ? frames.slice(0, -1) : frames;
    if (pushes.length > 0) this.events.message(pushes);
    if (this.isDone) return;
    if (last?.t === 'position') this.position = String(last.at);
    // A server that does not hold polls must not be polled without a pause.
    const wasHeld = this.setup.holdMs > 0 && this.setup.env.now() - this.askedAt >= Math.min(1000, this.setup.holdMs);
    this.wait(pushes.length === 0 && !wasHeld && !this.isDue ? this.setup.pauseMs : 0);
  }

  /**
   * @param {AbortController} poll
   * @returns {Promise<{frames: Frame[]} | {cause: LinkCause}>}
   */
  async answer(poll) {
    const { holdMs, encoding } = this.setup;
    const query = new URLSearchParams({ hold: String(Math.floor(holdMs / 1000)) });
    /** @type {Record<string, string>} */
    const headers = { ...this.uplink.headers(), accept: `application/${encoding}` };
    if (this.position !== undefined) {
      query.set('at', this.position);
      headers['if-none-match'] = `"${this.position}"`;
    }
    const init = { headers, signal: poll.signal };
    const response = await this.uplink.request(`/poll?${query}`, init, holdMs + GRACE_MS);
    if (response.status === 304) return { frames: [] };
    if (response.status !== 200) return { cause: await causeOf(response) };
    return { frames: decodeMessage(await messageOf(response)) };
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
    this.poll?.abort();
    this.uplink.close();
  }
}

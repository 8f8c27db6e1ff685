/**
 * Credentials that expire: another token is fetched before they do, and when the server refuses them.
 *
 * The source of tokens is the application's: it may fail, answer late, or not at all. Each call has its time, and after a
 * failure another one follows after a pause, for as long as the client lives.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';
import { Backoff } from './backoff.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/** Fetching begins so long before the credentials expire, or half way if that is later, in milliseconds. */
const MARGIN_MS = 60_000;
/** The shortest time after which another token is fetched because one expires, in milliseconds. */
const SHORTEST_MS = 1000;

/** What is known of the next token. */
export class Credentials {
  /**
   * @param {import('../config.js').Config} config
   * @param {() => number} random from 0 to 1
   * @param {() => number} wallClock milliseconds since the Unix epoch
   */
  constructor(config, random, wallClock) {
    this.patienceMs = config.tokenTimeoutMs;
    this.wallClock = wallClock;
    /** The pauses between tries on a connection that stands. */
    this.backoff = new Backoff(config.reconnect, random);
    /** When to fetch the next token, on a connection that stands. */
    this.fetchAt = Infinity;
    /** Until when the token that was asked for is to be there; `Infinity` if none was asked for. */
    this.until = Infinity;
    /** Tokens that came since the last welcome. */
    this.renewals = 0;
  }

  get isFetching() {
    return this.until < Infinity;
  }

  /** When something is due, on a connection that stands. */
  get deadline() {
    return Math.min(this.fetchAt, this.until);
  }

  /**
   * The server has accepted credentials, and said when they expire.
   *
   * @param {number} now
   * @param {number | null | undefined} expires milliseconds since the Unix epoch
   */
  plan(now, expires) {
    this.backoff.reset();
    this.fetchAt = Infinity;
    if (typeof expires !== 'number') return;
    const left = expires - this.wallClock();
    // By a clock that is wrong they have expired already; then the server has to say so.
    if (left > 0) this.fetchAt = now + Math.max(SHORTEST_MS, left / 2, left - MARGIN_MS);
  }

  /**
   * It did not work out: the next try follows after a pause.
   *
   * @param {number} now
   * @param {number} [atLeast] milliseconds
   */
  postpone(now, atLeast) {
    this.fetchAt = now + (this.backoff.next(atLeast) ?? Infinity);
  }
}

/**
 * Asks the application for a token.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function fetchToken({ credentials, outputs }, now) {
  credentials.fetchAt = Infinity;
  credentials.until = now + credentials.patienceMs;
  outputs.push({ do: 'fetchToken' });
}

/**
 * The next connection needs another token.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function renew(machine, now) {
  machine.phase = 'renewing';
  machine.until = Infinity;
  fetchToken(machine, now);
}

/**
 * The token that was asked for, or null if there will be none. On a connection that stands it is shown at once.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string | null} token
 */
export function onToken(machine, now, token) {
  const { credentials, identity } = machine;
  if (!credentials.isFetching) return;
  credentials.until = Infinity;
  if (token !== null) identity.token = token;
  if (machine.phase === 'online' && token !== null) {
    machine.flight.push({ t: 'refresh', token }, 'refresh');
    return machine.flush(now);
  }
  if (machine.phase !== 'renewing') return;
  if (token === null) return machine.end({ code: Code.Unauthenticated, message: 'there is no token' });
  credentials.renewals += 1;
  // One that is refused at once is not to be fetched over and over.
  const pause = credentials.renewals === 1 ? 0 : machine.backoff.next();
  if (pause === undefined) return machine.end({ code: Code.BadCredentials, message: meaning(Code.BadCredentials) });
  machine.phase = 'waiting';
  machine.until = now + pause;
}

/**
 * The token could not be fetched this time.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string} why
 */
export function onNoToken(machine, now, why) {
  const { credentials } = machine;
  if (!credentials.isFetching) return;
  credentials.until = Infinity;
  if (machine.phase === 'online') return credentials.postpone(now);
  if (machine.phase !== 'renewing') return;
  const pause = machine.backoff.next();
  if (pause === undefined) return machine.end({ code: Code.Unauthenticated, message: `no token: ${why}` });
  machine.until = now + pause;
  machine.events.push({ type: 'disconnected', message: `no token: ${why}`, retryInMs: pause });
}

/**
 * What is due by now.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function onTime(machine, now) {
  const { credentials, config } = machine;
  if (now >= credentials.until) onNoToken(machine, now, `none came within ${config.tokenTimeoutMs} ms`);
  else if (machine.phase === 'renewing' && now >= machine.until) renew(machine, now);
  else if (machine.phase === 'online' && now >= credentials.fetchAt) fetchToken(machine, now);
}

/**
 * The answer to a `refresh`: the credentials that it showed expire later.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
export function onRefreshed(machine, now, { expires }) {
  if (machine.identity.renewable) machine.credentials.plan(now, expires);
  // Over HTTP another node may hold the downlink, which has not heard of them.
  if (!machine.traits?.duplex) machine.outputs.push({ do: 'nudge' });
}

/**
 * The server refused a `refresh` of the client's own. The old credentials hold until they expire.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
export function onRefreshRefused(machine, now, { code, retry_ms: retryMs }) {
  const given = advice(code);
  if (given !== 'fix' && given !== 'stop') machine.credentials.postpone(now, retryMs);
}

/**
 * Credentials that expire: a new token is fetched before that, and when the server refuses the
 * current one.
 *
 * The token source belongs to the application: it may fail, answer late, or not at all. Each call
 * has a time limit, and after a failure another one follows after a pause, as long as the client
 * exists.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';
import { Backoff } from './backoff.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * Fetching starts this long before the credentials expire, or half way if that is later, in
 * milliseconds.
 */
const MARGIN_MS = 60_000;
/** The shortest time between accepted credentials and the next fetch, in milliseconds. */
const SHORTEST_MS = 1000;

/** The state of the next token. */
export class Credentials {
  /**
   * @param {import('../config.js').Config} config
   * @param {() => number} random from 0 to 1
   * @param {() => number} wallClock milliseconds since the Unix epoch
   */
  constructor(config, random, wallClock) {
    this.patienceMs = config.tokenTimeoutMs;
    this.wallClock = wallClock;
    /** The pauses between tries while the connection is open. */
    this.backoff = new Backoff(config.reconnect, random);
    /** When to fetch the next token while the connection is open. */
    this.fetchAt = Infinity;
    /** Until when the requested token must arrive; `Infinity` if none was requested. */
    this.until = Infinity;
    /** Tokens that arrived since the last welcome. */
    this.renewals = 0;
  }

  get isFetching() {
    return this.until < Infinity;
  }

  /** When something is due while the connection is open. */
  get deadline() {
    return Math.min(this.fetchAt, this.until);
  }

  /**
   * Plans the next fetch: the server has accepted credentials, and announced when they expire.
   *
   * @param {number} now
   * @param {number | null | undefined} expires milliseconds since the Unix epoch
   */
  plan(now, expires) {
    this.backoff.reset();
    this.fetchAt = Infinity;
    if (typeof expires !== 'number') return;
    const left = expires - this.wallClock();
    // Credentials that have expired by this clock mean that the clock is wrong: then only the
    // server's refusal counts.
    if (left > 0) this.fetchAt = now + Math.max(SHORTEST_MS, left / 2, left - MARGIN_MS);
  }

  /**
   * Records a failure: the next try follows after a pause.
   *
   * @param {number} now
   * @param {number} [atLeast] milliseconds
   */
  postpone(now, atLeast) {
    this.fetchAt = now + (this.backoff.next(atLeast) ?? Infinity);
  }
}

/**
 * Requests a token from the application.
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
 * Records that the next connection needs another token.
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
 * Handles the requested token, or null if there will be none. On an open connection it is sent at
 * once.
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
  // A token that is refused at once must not be fetched in a loop.
  const pause = credentials.renewals === 1 ? 0 : machine.backoff.next();
  if (pause === undefined) return machine.end({ code: Code.BadCredentials, message: meaning(Code.BadCredentials) });
  machine.phase = 'waiting';
  machine.until = now + pause;
}

/**
 * Handles a failed fetch of a token.
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
 * Carries out what is due.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function onTime(machine, now) {
  const { credentials, config } = machine;
  if (now >= credentials.until) onNoToken(machine, now, `the token source took longer than ${config.tokenTimeoutMs} ms`);
  else if (machine.phase === 'renewing' && now >= machine.until) renew(machine, now);
  else if (machine.phase === 'online' && now >= credentials.fetchAt) fetchToken(machine, now);
}

/**
 * Handles the answer to a `refresh`: the credentials that it sent expire later.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
export function onRefreshed(machine, now, { expires }) {
  if (machine.identity.renewable) machine.credentials.plan(now, expires);
  // Over HTTP another node may hold the downlink, and does not know of the new credentials.
  if (!machine.traits?.duplex) machine.outputs.push({ do: 'nudge' });
}

/**
 * Handles a refused `refresh` of the client's own. The old credentials are valid until they expire.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
export function onRefreshRefused(machine, now, { code, retry_ms: retryMs }) {
  const given = advice(code);
  if (given !== 'fix' && given !== 'stop') machine.credentials.postpone(now, retryMs);
}

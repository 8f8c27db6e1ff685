/**
 * Addresses, and the link for each transport.
 *
 * @module
 */

import { ImError } from '../error.js';
import { PollLink } from './poll.js';
import { EventStreamLink } from './sse.js';
import { WebSocketLink } from './ws.js';

/**
 * @typedef {import('./link.js').Transport} Transport
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 */

/**
 * The addresses of a service. `http` is the prefix of the HTTP transports, without a slash at its
 * end.
 *
 * @typedef {{ws: string, http?: string}} Addresses
 */

/** @type {readonly Transport[]} The best first. */
const ALL = ['ws', 'sse', 'poll', 'short'];

/**
 * Returns the addresses of a service. An `http:` or `https:` address is the prefix of all
 * transports, with WebSocket at `ws` under it. A `ws:` or `wss:` address is of WebSocket alone; if
 * it ends in `/ws`, the others are beside it.
 *
 * @param {string} url in a browser also relative to the page
 * @returns {Addresses}
 * @throws {ImError} `invalid`
 */
export function addressesOf(url) {
  let parsed;
  try {
    parsed = new URL(url, globalThis.location?.href);
  } catch {
    throw new ImError('invalid', `${JSON.stringify(url)} is not an address; expected something like https://example.org/im`);
  }
  const path = parsed.pathname.replace(/\/+$/, '');
  const secure = parsed.protocol === 'https:' || parsed.protocol === 'wss:';
  const [http, ws] = [secure ? 'https:' : 'http:', secure ? 'wss:' : 'ws:'].map((scheme) => `${scheme}//${parsed.host}`);
  switch (parsed.protocol) {
    case 'http:':
    case 'https:':
      return { ws: `${ws}${path}/ws${parsed.search}`, http: http + path };
    case 'ws:':
    case 'wss:':
      return { ws: ws + parsed.pathname + parsed.search, http: /\/ws$/.test(path) ? http + path.slice(0, -3) : undefined };
    default:
      throw new ImError('invalid', `${parsed.protocol} is not a supported scheme; use http, https, ws or wss`);
  }
}

/**
 * Returns the transports to choose from.
 *
 * @param {Addresses} addresses
 * @param {Transport | 'auto' | Transport[]} wanted
 * @returns {Transport[]}
 * @throws {ImError} `invalid`
 */
export function transportsOf(addresses, wanted) {
  const order = wanted === 'auto' ? [...ALL] : [wanted].flat();
  const unknown = order.find((name) => !ALL.includes(name));
  if (unknown !== undefined) throw new ImError('invalid', `${unknown} is not a transport; use ${ALL.join(', ')}`);
  const possible = order.filter((name) => name === 'ws' || addresses.http !== undefined);
  if (possible.length > 0) return possible;
  throw new ImError('invalid', 'this address is of WebSocket only; use an http address for the other transports');
}

/**
 * @typedef {object} LinkSetup
 * @property {Addresses} addresses
 * @property {'json' | 'msgpack'} encoding
 * @property {RequestCredentials} credentials
 * @property {() => string | undefined} token
 * @property {import('./link.js').Env} env
 * @property {import('../config.js').Config} config
 */

/**
 * @param {string} transport
 * @param {LinkSetup} setup
 * @param {LinkEvents} events
 * @returns {Link}
 */
export function linkOf(transport, setup, events) {
  const { addresses, config } = setup;
  if (transport === 'ws') return new WebSocketLink({ ...setup, url: addresses.ws }, events);
  const http = { ...setup, url: addresses.http ?? '' };
  if (transport === 'sse') return new EventStreamLink(http, events);
  return new PollLink({ ...http, holdMs: transport === 'poll' ? config.holdMs : 0, pauseMs: config.pollMs }, events);
}

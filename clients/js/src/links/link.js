/**
 * What carries messages. A link is opened once, and when it is lost it is done with: nothing follows.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';

/**
 * @typedef {import('../core/types.js').Cause} Cause
 * @typedef {import('../core/types.js').Traits} Traits
 * @typedef {import('../core/types.js').Session} Session
 * @typedef {import('../wire/codec.js').Message} Message
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * Why a link is lost. `unfit`: this transport does not seem to work here. `isPassing`: what failed on the way may be gone the
 * next moment, a gateway's 502, say, and is no sign against the transport.
 *
 * @typedef {Cause & {unfit?: boolean, isPassing?: boolean}} LinkCause
 */

/** @typedef {'ws' | 'sse' | 'poll' | 'short'} Transport WebSocket, Server-Sent Events, long polling, short polling */

/**
 * What a link tells.
 *
 * @typedef {object} LinkEvents
 * @property {() => void} open it can carry the greeting
 * @property {(message: Message) => void} message
 * @property {() => void} heard something that is no message
 * @property {() => void} steady pushes have been seen to come through. Links that are duplex need not say it.
 * @property {(cause: LinkCause) => void} lost
 */

/**
 * @typedef {object} Link
 * @property {string} transport
 * @property {Traits} traits
 * @property {() => void} open
 * @property {(message: Message, idempotent?: boolean) => void} send what it sends arrives in order or not at all; with
 *   `idempotent` the link may send it again where it is not known whether it has arrived
 * @property {(session: Session) => void} welcome the greeting was answered: this is the session
 * @property {() => void} nudge finds out now whether it still works
 * @property {() => void} close without a word to the events
 */

/**
 * What the links need from their surroundings, so that tests can bring their own.
 *
 * @typedef {object} Env
 * @property {() => number} now milliseconds of a clock that never goes back and counts sleep
 * @property {() => number} wallClock milliseconds since the Unix epoch
 * @property {() => number} random from 0 to 1
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {typeof fetch} fetch
 * @property {() => Promise<any>} webSocket gives the constructor
 */

/**
 * Why a request was refused: the code in its body, or what its status says. 4xx and 5xx without a code come from
 * something in between.
 *
 * @param {Response} response
 * @returns {Promise<LinkCause>}
 */
export async function causeOf(response) {
  const seconds = Number(response.headers.get('retry-after') ?? NaN);
  const retryMs = Number.isFinite(seconds) ? seconds * 1000 : undefined;
  let body;
  try {
    body = JSON.parse((await response.text()).slice(0, 65_536));
  } catch {
    // A proxy's page, or none at all.
  }
  if (Number.isSafeInteger(body?.code)) {
    return { code: body.code, message: String(body.msg ?? meaning(body.code)), retryMs: body.retry_ms ?? retryMs };
  }
  const message = `HTTP ${response.status} without a code`;
  if (response.status === 429) return { code: Code.RateLimited, message, retryMs };
  if (response.status === 401) return { code: Code.Unauthenticated, message };
  const isPassing = PASSING.has(response.status) || response.status > 505;
  return { message, retryMs, isPassing, unfit: !isPassing };
}

/** What gateways answer when a server is away, or slow, for a moment. Above 505 each has some of its own. */
const PASSING = new Set([408, 500, 502, 503, 504]);

/**
 * What a link that gives up tells: something in between is at fault, unless the server refused, or it may pass.
 *
 * @param {LinkCause} cause
 * @returns {LinkCause}
 */
export function finalCause(cause) {
  return { ...cause, unfit: !isFromServer(cause) && !cause.isPassing };
}

/**
 * Whether a refusal says something about the transport: those with a code come from the server itself.
 *
 * @param {Cause} cause
 */
export function isFromServer({ code }) {
  return code !== undefined && code >= 4000 && code < 5000 && advice(code) !== undefined;
}

/** @param {unknown} error */
export function wordsOf(error) {
  return error instanceof Error ? error.message : String(error);
}

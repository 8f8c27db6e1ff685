/**
 * The interface of a transport. A link is opened once; after `lost` it does nothing more.
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
 * Why a link was lost. `unfit`: this transport does not seem to work here. `isPassing`: the failure
 * may pass in a moment (for example a gateway's 502), and does not count against the transport.
 *
 * @typedef {Cause & {unfit?: boolean, isPassing?: boolean}} LinkCause
 */

/**
 * @typedef {'ws' | 'sse' | 'poll' | 'short'} Transport WebSocket, Server-Sent Events, long polling,
 *   short polling
 */

/**
 * Events of a link.
 *
 * @typedef {object} LinkEvents
 * @property {() => void} open the link can send the greeting
 * @property {(message: Message) => void} message
 * @property {() => void} heard a sign of life that is no message
 * @property {() => void} steady pushes have arrived. Duplex links need not call it.
 * @property {(cause: LinkCause) => void} lost
 */

/**
 * @typedef {object} Link
 * @property {string} transport
 * @property {Traits} traits
 * @property {() => void} open
 * @property {(message: Message, idempotent?: boolean) => void} send messages arrive in order or not
 *   at all; with `idempotent` the link may send the message again if its arrival is not known
 * @property {(session: Session) => void} welcome the greeting was answered with this session
 * @property {() => void} nudge checks now whether the link still works
 * @property {() => void} close without any event
 */

/**
 * What links need from their environment, so that tests can replace it.
 *
 * @typedef {object} Env
 * @property {() => number} now milliseconds of a monotonic clock that counts sleep
 * @property {() => number} wallClock milliseconds since the Unix epoch
 * @property {() => number} random from 0 to 1
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {typeof fetch} fetch
 * @property {() => Promise<any>} webSocket returns the constructor
 */

/**
 * Returns why a request was refused: the code in its body, or the meaning of its status. 4xx and
 * 5xx without a code come from a proxy.
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
    // The body is a proxy's page, or empty.
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

/**
 * Statuses of gateways when a server is down or slow for a moment. Above 505 each gateway has some
 * of its own.
 */
const PASSING = new Set([408, 500, 502, 503, 504]);

/**
 * Returns the cause that a link reports when it is lost: unfit, unless the server refused, or the
 * failure may pass.
 *
 * @param {LinkCause} cause
 * @returns {LinkCause}
 */
export function finalCause(cause) {
  return { ...cause, unfit: !isFromServer(cause) && !cause.isPassing };
}

/**
 * Whether a refusal comes from the server itself, and so says nothing about the transport: it has a
 * code.
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

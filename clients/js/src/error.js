import { advice } from './codes.js';

/**
 * What sort of failure it is:
 *
 * - `refused`: the server refused, with the code. The connection lives on.
 * - `unknown`: the connection was cut before the answer came, and the command is none that could be repeated safely: it
 *   may or may not have been carried out.
 * - `offline`: there is no connection now, and the command makes no sense later: a signal.
 * - `closed`: the client has ended.
 * - `invalid`: the command breaks a rule or a limit; nothing was sent.
 * - `full`: too many commands wait already; nothing was sent.
 * - `protocol`: the server's answer makes no sense.
 *
 * @typedef {'refused' | 'unknown' | 'offline' | 'closed' | 'invalid' | 'full' | 'protocol'} ErrorKind
 */

/** Why a command failed. */
export class ImError extends Error {
  /**
   * @param {ErrorKind} kind
   * @param {string} message
   * @param {{code?: number, retryMs?: number, mid?: string}} [details]
   */
  constructor(kind, message, { code, retryMs, mid } = {}) {
    super(message);
    this.name = 'ImError';
    /** What sort of failure. */
    this.kind = kind;
    /** The code, where there is one. See {@link Code}. */
    this.code = code;
    /** How long to wait before trying again, in milliseconds, where the server said so. */
    this.retryMs = retryMs;
    /**
     * The id of the message that was not sent, or not surely. Another try under the same id is safe: if the first one
     * was kept after all, its ack comes back.
     */
    this.mid = mid;
  }

  /** What the code says to do, where there is one. */
  get advice() {
    return this.code === undefined ? undefined : advice(this.code);
  }
}

/**
 * Kinds of failures:
 *
 * - `refused`: the server refused the command, with the code. The connection stays open.
 * - `unknown`: the connection was cut before the answer, and the command is not idempotent: it may
 *   or may not have been carried out.
 * - `offline`: there is no connection, and the command is not queued for the next one: an ephemeral
 *   message.
 * - `closed`: the client has ended.
 * - `invalid`: the command breaks a rule or a limit; nothing was sent.
 * - `full`: too many commands wait already; nothing was sent.
 * - `protocol`: the server's answer is invalid.
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
    constructor(kind: ErrorKind, message: string, { code, retryMs, mid }?: {
        code?: number;
        retryMs?: number;
        mid?: string;
    });
    /** The kind of failure. */
    kind: ErrorKind;
    /** The code, if there is one. See {@link Code}. */
    code: number | undefined;
    /** How long to wait before a retry, in milliseconds, if the server said so. */
    retryMs: number | undefined;
    /**
     * The id of the message that was not sent, or not surely. A retry under the same id is safe: if
     * the first send was stored after all, its ack is returned.
     */
    mid: string | undefined;
    /** What the code advises to do, if there is a code. */
    get advice(): import("./codes.js").Advice | undefined;
}
/**
 * Kinds of failures:
 *
 * - `refused`: the server refused the command, with the code. The connection stays open.
 * - `unknown`: the connection was cut before the answer, and the command is not idempotent: it may
 *   or may not have been carried out.
 * - `offline`: there is no connection, and the command is not queued for the next one: an ephemeral
 *   message.
 * - `closed`: the client has ended.
 * - `invalid`: the command breaks a rule or a limit; nothing was sent.
 * - `full`: too many commands wait already; nothing was sent.
 * - `protocol`: the server's answer is invalid.
 */
export type ErrorKind = "refused" | "unknown" | "offline" | "closed" | "invalid" | "full" | "protocol";

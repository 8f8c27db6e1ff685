/**
 * Requests a token from the application.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function fetchToken({ credentials, outputs }: Machine, now: number): void;
/**
 * Records that the next connection needs another token.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function renew(machine: Machine, now: number): void;
/**
 * Handles the requested token, or null if there will be none. On an open connection it is sent at
 * once.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string | null} token
 */
export function onToken(machine: Machine, now: number, token: string | null): void;
/**
 * Handles a failed fetch of a token.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string} why
 */
export function onNoToken(machine: Machine, now: number, why: string): void;
/**
 * Carries out what is due.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function onTime(machine: Machine, now: number): void;
/**
 * Handles the answer to a `refresh`: the credentials that it sent expire later.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
export function onRefreshed(machine: Machine, now: number, { expires }: Frame): void;
/**
 * Handles a refused `refresh` of the client's own. The old credentials are valid until they expire.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
export function onRefreshRefused(machine: Machine, now: number, { code, retry_ms: retryMs }: Frame): void;
/** The state of the next token. */
export class Credentials {
    /**
     * @param {import('../config.js').Config} config
     * @param {() => number} random from 0 to 1
     * @param {() => number} wallClock milliseconds since the Unix epoch
     */
    constructor(config: import("../config.js").Config, random: () => number, wallClock: () => number);
    patienceMs: number;
    wallClock: () => number;
    /** The pauses between tries while the connection is open. */
    backoff: Backoff;
    /** When to fetch the next token while the connection is open. */
    fetchAt: number;
    /** Until when the requested token must arrive; `Infinity` if none was requested. */
    until: number;
    /** Tokens that arrived since the last welcome. */
    renewals: number;
    get isFetching(): boolean;
    /** When something is due while the connection is open. */
    get deadline(): number;
    /**
     * Plans the next fetch: the server has accepted credentials, and announced when they expire.
     *
     * @param {number} now
     * @param {number | null | undefined} expires milliseconds since the Unix epoch
     */
    plan(now: number, expires: number | null | undefined): void;
    /**
     * Records a failure: the next try follows after a pause.
     *
     * @param {number} now
     * @param {number} [atLeast] milliseconds
     */
    postpone(now: number, atLeast?: number): void;
}
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;
import { Backoff } from './backoff.js';

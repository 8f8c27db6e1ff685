/**
 * Asks the application for a token.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function fetchToken({ credentials, outputs }: Machine, now: number): void;
/**
 * The next connection needs another token.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function renew(machine: Machine, now: number): void;
/**
 * The token that was asked for, or null if there will be none. On a connection that stands it is shown at once.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string | null} token
 */
export function onToken(machine: Machine, now: number, token: string | null): void;
/**
 * The token could not be fetched this time.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {string} why
 */
export function onNoToken(machine: Machine, now: number, why: string): void;
/**
 * What is due by now.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function onTime(machine: Machine, now: number): void;
/**
 * The answer to a `refresh`: the credentials that it showed expire later.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
export function onRefreshed(machine: Machine, now: number, { expires }: Frame): void;
/**
 * The server refused a `refresh` of the client's own. The old credentials hold until they expire.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
export function onRefreshRefused(machine: Machine, now: number, { code, retry_ms: retryMs }: Frame): void;
/** What is known of the next token. */
export class Credentials {
    /**
     * @param {import('../config.js').Config} config
     * @param {() => number} random from 0 to 1
     * @param {() => number} wallClock milliseconds since the Unix epoch
     */
    constructor(config: import("../config.js").Config, random: () => number, wallClock: () => number);
    patienceMs: number;
    wallClock: () => number;
    /** The pauses between tries on a connection that stands. */
    backoff: Backoff;
    /** When to fetch the next token, on a connection that stands. */
    fetchAt: number;
    /** Until when the token that was asked for is to be there; `Infinity` if none was asked for. */
    until: number;
    /** Tokens that came since the last welcome. */
    renewals: number;
    get isFetching(): boolean;
    /** When something is due, on a connection that stands. */
    get deadline(): number;
    /**
     * The server has accepted credentials, and said when they expire.
     *
     * @param {number} now
     * @param {number | null | undefined} expires milliseconds since the Unix epoch
     */
    plan(now: number, expires: number | null | undefined): void;
    /**
     * It did not work out: the next try follows after a pause.
     *
     * @param {number} now
     * @param {number} [atLeast] milliseconds
     */
    postpone(now: number, atLeast?: number): void;
}
export type Machine = import("./machine.js").Machine;
export type Frame = import("../wire/value.js").Frame;
import { Backoff } from './backoff.js';

/**
 * Fetches credentials. `signal` aborts when the client waits for them no longer.
 *
 * @typedef {(options: {signal: AbortSignal}) => string | null | Promise<string | null>} TokenSource
 */
/**
 * @typedef {object} Options
 * @property {string} url The service's address: `https://example.org/im` for all transports (in a
 *   page `/im` will do), or the address of its WebSocket, `wss://example.org/im/ws`.
 * @property {string | TokenSource} [token] A token, or a function that fetches a valid one. The
 *   function is called again before its token expires, and when the token was refused. If it
 *   throws, or takes longer than `config.tokenTimeoutMs`, it is called again after a pause; `null`
 *   means that there will be no token, and ends the client. Not needed if a cookie authenticates
 *   the user.
 * @property {string} [user] The user id, for servers that allow anonymous users.
 * @property {string} [device] The device id; should be stable. From the storage if there is one,
 *   otherwise random.
 * @property {import('./links/link.js').Transport | 'auto' | import('./links/link.js').Transport[]} [transport]
 *   `ws`, `sse`, `poll` (long polling), `short` (short polling), or a list of these, the best
 *   first. `auto`, the default, is all four: the best that works is used, and a better one is tried
 *   again after a while.
 * @property {'json' | 'msgpack'} [encoding] `json` by default.
 * @property {import('./storage.js').StorageLike} [storage] Where the session, the device and
 *   messages without an ack are stored, so that they survive a reload: for example `localStorage`,
 *   if no other user of this browser can read the page's storage.
 * @property {boolean} [tabs] Whether all tabs of the page share one connection; not by default.
 *   Where a browser lacks Web Locks or BroadcastChannel, each tab has its own. Tabs of different
 *   users must have different names.
 * @property {string} [name] Separates several clients of one page, in the storage and between tabs.
 *   The address and the user by default.
 * @property {RequestCredentials} [credentials] Whether HTTP requests carry cookies: `same-origin`
 *   by default; `include` for services of another origin.
 * @property {import('./config.js').ConfigOptions} [config]
 * @property {import('./tabs/channel.js').TabsEnv} [tabsEnv] Locks and channels, for tests.
 * @property {Partial<import('./links/link.js').Env>} [env] Clocks, `fetch` and the like, for tests.
 */
/**
 * Creates a client of the service at `options.url`, which connects at once.
 *
 * @param {Options} options
 * @returns {Client}
 * @throws {import('./error.js').ImError} `invalid` for invalid options
 */
export function connect(options: Options): Client;
/** @typedef {import('./core/types.js').ClientEvent} ClientEvent */
/** Name and version, for the server's logs. */
export const CLIENT: "im-js 0.1";
/**
 * Fetches credentials. `signal` aborts when the client waits for them no longer.
 */
export type TokenSource = (options: {
    signal: AbortSignal;
}) => string | null | Promise<string | null>;
export type Options = {
    /**
     * The service's address: `https://example.org/im` for all transports (in a
     * page `/im` will do), or the address of its WebSocket, `wss://example.org/im/ws`.
     */
    url: string;
    /**
     * A token, or a function that fetches a valid one. The
     * function is called again before its token expires, and when the token was refused. If it
     * throws, or takes longer than `config.tokenTimeoutMs`, it is called again after a pause; `null`
     * means that there will be no token, and ends the client. Not needed if a cookie authenticates
     * the user.
     */
    token?: string | TokenSource | undefined;
    /**
     * The user id, for servers that allow anonymous users.
     */
    user?: string | undefined;
    /**
     * The device id; should be stable. From the storage if there is one,
     * otherwise random.
     */
    device?: string | undefined;
    /**
     * `ws`, `sse`, `poll` (long polling), `short` (short polling), or a list of these, the best
     * first. `auto`, the default, is all four: the best that works is used, and a better one is tried
     * again after a while.
     */
    transport?: "auto" | import("./links/link.js").Transport | import("./links/link.js").Transport[] | undefined;
    /**
     * `json` by default.
     */
    encoding?: "json" | "msgpack" | undefined;
    /**
     * Where the session, the device and
     * messages without an ack are stored, so that they survive a reload: for example `localStorage`,
     * if no other user of this browser can read the page's storage.
     */
    storage?: import("./storage.js").StorageLike | undefined;
    /**
     * Whether all tabs of the page share one connection; not by default.
     * Where a browser lacks Web Locks or BroadcastChannel, each tab has its own. Tabs of different
     * users must have different names.
     */
    tabs?: boolean | undefined;
    /**
     * Separates several clients of one page, in the storage and between tabs.
     * The address and the user by default.
     */
    name?: string | undefined;
    /**
     * Whether HTTP requests carry cookies: `same-origin`
     * by default; `include` for services of another origin.
     */
    credentials?: RequestCredentials | undefined;
    config?: import("./config.js").ConfigOptions | undefined;
    /**
     * Locks and channels, for tests.
     */
    tabsEnv?: import("./tabs/channel.js").TabsEnv | undefined;
    /**
     * Clocks, `fetch` and the like, for tests.
     */
    env?: Partial<import("./links/link.js").Env> | undefined;
};
export type ClientEvent = import("./core/types.js").ClientEvent;
import { Client } from './client.js';

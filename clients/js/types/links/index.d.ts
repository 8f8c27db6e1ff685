/**
 * Returns the addresses of a service. An `http:` or `https:` address is the prefix of all
 * transports, with WebSocket at `ws` under it. A `ws:` or `wss:` address is of WebSocket alone; if
 * it ends in `/ws`, the others are beside it.
 *
 * @param {string} url in a browser also relative to the page
 * @returns {Addresses}
 * @throws {ImError} `invalid`
 */
export function addressesOf(url: string): Addresses;
/**
 * Returns the transports to choose from.
 *
 * @param {Addresses} addresses
 * @param {Transport | 'auto' | Transport[]} wanted
 * @returns {Transport[]}
 * @throws {ImError} `invalid`
 */
export function transportsOf(addresses: Addresses, wanted: Transport | "auto" | Transport[]): Transport[];
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
export function linkOf(transport: string, setup: LinkSetup, events: LinkEvents): Link;
export type LinkSetup = {
    addresses: Addresses;
    encoding: "json" | "msgpack";
    credentials: RequestCredentials;
    token: () => string | undefined;
    env: import("./link.js").Env;
    config: import("../config.js").Config;
};
export type Transport = import("./link.js").Transport;
export type Link = import("./link.js").Link;
export type LinkEvents = import("./link.js").LinkEvents;
/**
 * The addresses of a service. `http` is the prefix of the HTTP transports, without a slash at its
 * end.
 */
export type Addresses = {
    ws: string;
    http?: string;
};

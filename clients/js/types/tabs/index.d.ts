/**
 * @typedef {import('../core/types.js').ClientEvent} ClientEvent
 * @typedef {import('../shell.js').Shell} Shell
 */
/**
 * Joins the other tabs.
 *
 * @param {object} setup
 * @param {string} setup.name tabs that use the same name share a connection
 * @param {import('./channel.js').TabsEnv} setup.tabs
 * @param {import('../links/link.js').Env} setup.env
 * @param {(onEvent: (event: ClientEvent) => void) => Shell} setup.connect opens the connection to
 *   the server, if this tab leads
 */
export function join({ name, tabs, env, connect }: {
    name: string;
    tabs: import("./channel.js").TabsEnv;
    env: import("../links/link.js").Env;
    connect: (onEvent: (event: ClientEvent) => void) => Shell;
}): {
    /** @param {import('../links/link.js').LinkEvents} events */
    link: (events: import("../links/link.js").LinkEvents) => TabLink;
    leave: () => void;
    /** Whether this tab holds the connection. */
    isLeader: () => boolean;
};
export type ClientEvent = import("../core/types.js").ClientEvent;
export type Shell = import("../shell.js").Shell;
import { TabLink } from './link.js';

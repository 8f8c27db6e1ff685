/**
 * One connection for all tabs of a page. See `channel.js` for how it works.
 *
 * @module
 */

import { randomId } from '../ids.js';
import { Election } from './election.js';
import { Hub } from './hub.js';
import { TabLink } from './link.js';

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
export function join({ name, tabs, env, connect }) {
  const tab = randomId();
  const election = new Election({
    name,
    tab,
    locks: tabs.locks,
    lead: () => {
      const hub = new Hub({ name, tabs, connect });
      return () => hub.close();
    },
  });
  const usurp = () => election.usurp();
  return {
    /** @param {import('../links/link.js').LinkEvents} events */
    link: (events) => new TabLink({ name, tab, tabs, env, usurp, alive: election.alive }, events),
    leave: () => election.leave(),
    /** Whether this tab holds the connection. */
    isLeader: () => election.isLeader,
  };
}

/**
 * Communication between the tabs of a page. One of them, the leader, runs a hub that holds the
 * connection; every tab, the leader's own included, speaks the im protocol with it over
 * BroadcastChannels. So cursors, idempotency keys and latest-wins work between tab and hub as
 * between client and server, and a change of leaders is like any cut connection.
 *
 * | channel | received by | message |
 * |---|---|---|
 * | `im/<name>/hub` | the hub | `FromTab` |
 * | `im/<name>/tab/<tab>` | that tab | `FromHub` |
 * | `im/<name>/news` | all tabs | `{hub}`: another hub has started |
 *
 * Locks (Web Locks): the holder of `im/<name>` leads; each tab holds `im/<name>/tab/<tab>`, so that
 * the hub notices its end.
 *
 * @module
 */
/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/types.js').Cause} Cause
 */
/**
 * `conn` distinguishes the connections of one tab. `ack`: so many messages have arrived.
 *
 * @typedef {{tab: string, conn: number, open?: true, close?: true, frames?: Frame[], ack?: number}}
 *   FromTab
 * @typedef {{conn: number, open?: true, frames?: Frame[], lost?: Cause}} FromHub
 */
/**
 * What tabs need from the browser.
 *
 * @typedef {object} TabsEnv
 * @property {LockManager} locks
 * @property {new (name: string) => BroadcastChannel} BroadcastChannel
 */
/**
 * Returns these parts of the browser; undefined if one that is needed to share a connection is
 * missing.
 *
 * @returns {TabsEnv | undefined}
 */
export function tabsEnvironment(): TabsEnv | undefined;
/** A tab acknowledges after so many messages. */
export const ACK_EVERY: 32;
/** Most messages in flight to a tab; a tab that is slower catches up from history. */
export const WINDOW: 256;
export type Frame = import("../wire/value.js").Frame;
export type Cause = import("../core/types.js").Cause;
/**
 * `conn` distinguishes the connections of one tab. `ack`: so many messages have arrived.
 */
export type FromTab = {
    tab: string;
    conn: number;
    open?: true;
    close?: true;
    frames?: Frame[];
    ack?: number;
};
/**
 * `conn` distinguishes the connections of one tab. `ack`: so many messages have arrived.
 */
export type FromHub = {
    conn: number;
    open?: true;
    frames?: Frame[];
    lost?: Cause;
};
/**
 * What tabs need from the browser.
 */
export type TabsEnv = {
    locks: LockManager;
    BroadcastChannel: new (name: string) => BroadcastChannel;
};

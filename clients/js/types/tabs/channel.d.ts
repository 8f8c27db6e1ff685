/**
 * How the tabs of a page reach each other: one of them, the leader, runs a hub that holds the connection; every tab, the
 * leader's own included, speaks the im protocol with it over BroadcastChannels. So cursors, message ids and latest-wins do
 * between tab and hub what they do between client and server, and a change of leaders is a cut connection like any other.
 *
 * | channel | who listens | what |
 * |---|---|---|
 * | `im/<name>/hub` | the hub | `FromTab` |
 * | `im/<name>/tab/<tab>` | that tab | `FromHub` |
 * | `im/<name>/news` | all tabs | `{hub}`: another hub has begun |
 *
 * Locks (Web Locks): who holds `im/<name>` leads; each tab holds `im/<name>/tab/<tab>`, so that the hub notices its end.
 *
 * @module
 */
/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/types.js').Cause} Cause
 */
/**
 * `conn` tells the connections of one tab apart. `ack`: so many messages have arrived.
 *
 * @typedef {{tab: string, conn: number, open?: true, close?: true, frames?: Frame[], ack?: number}} FromTab
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
 * What this browser has of it; undefined if that is not enough to share a connection.
 *
 * @returns {TabsEnv | undefined}
 */
export function tabsEnvironment(): TabsEnv | undefined;
/** A tab says what has arrived after so many messages. */
export const ACK_EVERY: 32;
/** So many messages may be on their way to a tab; one that takes no more is fed from history when it does again. */
export const WINDOW: 256;
export type Frame = import("../wire/value.js").Frame;
export type Cause = import("../core/types.js").Cause;
/**
 * `conn` tells the connections of one tab apart. `ack`: so many messages have arrived.
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
 * `conn` tells the connections of one tab apart. `ack`: so many messages have arrived.
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

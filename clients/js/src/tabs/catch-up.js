/**
 * Catching a tab up to the hub from any cursor, and keeping it in sync.
 *
 * @module
 */

import { Code } from '../codes.js';
import { ImError } from '../error.js';

/**
 * @typedef {import('./hub.js').Hub} Hub
 * @typedef {import('./peer.js').Peer} Peer
 * @typedef {import('../core/rooms.js').Cursor} Cursor
 * @typedef {import('../core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/** Events of one page of history. */
const PAGE = 100;

/**
 * Subscribes a tab to a room, from a cursor or from its head.
 *
 * @param {Hub} hub
 * @param {Peer} peer
 * @param {number} id of the command; nothing is sent to the tab before its answer
 * @param {string} room
 * @param {string | undefined} epoch
 * @param {number | undefined} since
 * @returns {Promise<Frame>} the status
 * @throws {ImError}
 */
export async function subscribe(hub, peer, id, room, epoch, since) {
  /** @type {import('./peer.js').TabSubscription} */
  const subscription = { asked: id, isBusy: false, needsState: true };
  // Registered now, so that the hub does not unsubscribe from the room meanwhile.
  peer.rooms.set(room, subscription);
  try {
    const wanted = epoch === undefined || since === undefined ? undefined : { epoch, seq: since };
    // Concurrent requests of two tabs must not move the hub's cursor: one subscribes, the others
    // join.
    while (hub.subscribing.has(room)) await hub.subscribing.get(room)?.catch(() => {});
    const status = hub.shell.machine.rooms.cursor(room) ? await join(hub, room, wanted) : await begin(hub, room, wanted);
    // The tab may have unsubscribed or closed meanwhile, with no other subscribed to the room.
    if (peer.isGone || peer.rooms.get(room) !== subscription) hub.release(room);
    if (status.status === 'denied') peer.rooms.delete(room);
    else subscription.sent = { epoch: status.epoch, seq: status.cursor };
    return status;
  } catch (error) {
    if (peer.rooms.get(room) === subscription) peer.rooms.delete(room);
    throw error;
  }
}

/**
 * Subscribes the hub, which is not subscribed to the room yet.
 *
 * @param {Hub} hub
 * @param {string} room
 * @param {Cursor | undefined} wanted
 */
async function begin(hub, room, wanted) {
  const from = wanted ? { epoch: wanted.epoch, since: wanted.seq } : {};
  const answer = hub.shell.command({ t: 'subscribe', room, ...from });
  hub.subscribing.set(room, answer);
  try {
    const { rooms } = await answer;
    return rooms.find((/** @type {Frame} */ status) => status.room === room);
  } finally {
    hub.subscribing.delete(room);
  }
}

/**
 * Joins a tab to a subscription of the hub.
 *
 * @param {Hub} hub
 * @param {string} room
 * @param {Cursor | undefined} wanted
 */
async function join(hub, room, wanted) {
  const now = () => /** @type {Cursor} */ (hub.shell.machine.rooms.cursor(room) ?? { epoch: '', seq: 0 });
  let word = 'ok';
  if (wanted && wanted.epoch === now().epoch && wanted.seq > now().seq) {
    // The tab is ahead of the hub; it may be ahead of the log as well.
    word = await hub.shell.command({ t: 'history', room, epoch: wanted.epoch, after: wanted.seq, limit: 1 }).then(
      () => 'ok',
      (error) => (isElsewhere(error) ? 'reset' : 'ok'),
    );
  }
  if (wanted && wanted.epoch !== now().epoch) word = 'reset';
  const cursor = wanted && word === 'ok' ? wanted : now();
  return { room, status: word, epoch: cursor.epoch, cursor: cursor.seq, head: Math.max(cursor.seq, now().seq) };
}

/** Whether the log lacks the requested position. @param {unknown} error */
function isElsewhere(error) {
  return error instanceof ImError && (error.code === Code.WrongEpoch || error.code === Code.AheadOfHead);
}

/**
 * Returns all of a room's state.
 *
 * @param {Hub} hub
 * @param {string} room
 * @returns {Frame}
 */
export function stateOf(hub, room) {
  const { rooms, generation } = hub.shell.machine;
  const state = rooms.map.get(room)?.state;
  const entries = [...(state?.map.held.values() ?? [])];
  return { t: 'snapshot', room, gen: state?.generation ?? generation, entries, more: false };
}

/**
 * Sends a tab what it lacks of a room: the event, if it is the next one, otherwise pages of
 * history.
 *
 * @param {Hub} hub
 * @param {Peer} peer
 * @param {string} room
 * @param {RoomEvent} [event] that has just arrived
 */
export function forward(hub, peer, room, event) {
  const subscription = peer.rooms.get(room);
  if (!subscription?.sent || subscription.asked !== undefined || subscription.isBusy || !peer.hasRoom) return;
  const { sent } = subscription;
  if (subscription.needsState) {
    subscription.needsState = false;
    peer.send([stateOf(hub, room)]);
  }
  if (event && event.epoch === sent.epoch && event.seq === sent.seq + 1) {
    subscription.sent = { epoch: event.epoch, seq: event.seq };
    return peer.send([{ t: 'event', ...event }]);
  }
  const now = hub.shell.machine.rooms.cursor(room);
  if (!now || (now.epoch === sent.epoch && now.seq <= sent.seq)) return;
  subscription.isBusy = true;
  catchUp(hub, peer, room, subscription).catch((error) => {
    // The tab reconnects with its cursors.
    const message = error instanceof Error ? error.message : String(error);
    if (!peer.isGone) hub.remove(peer, { message });
  });
}

/**
 * @param {Hub} hub
 * @param {Peer} peer
 * @param {string} room
 * @param {import('./peer.js').TabSubscription} subscription
 */
async function catchUp(hub, peer, room, subscription) {
  const isCurrent = () => !peer.isGone && peer.rooms.get(room) === subscription;
  for (;;) {
    await peer.room();
    const sent = /** @type {Cursor} */ (subscription.sent);
    const now = hub.shell.machine.rooms.cursor(room);
    if (!isCurrent() || !now || (now.epoch === sent.epoch && now.seq <= sent.seq)) break;
    const page = await history(hub, room, sent);
    // Meanwhile the room's epoch may have changed.
    if (!isCurrent() || subscription.sent !== sent) continue;
    if (!page) {
      const begin = hub.shell.machine.rooms.cursor(room) ?? now;
      subscription.sent = begin;
      peer.send([{ t: 'room', room, status: 'reset', epoch: begin.epoch, cursor: begin.seq, head: begin.seq }]);
      continue;
    }
    send(peer, room, subscription, sent, page);
  }
  subscription.isBusy = false;
}

/**
 * @param {Hub} hub
 * @param {string} room
 * @param {Cursor} after
 * @returns {Promise<RoomEvent[] | undefined>} undefined if the log does not have that position any
 *   more
 */
async function history(hub, room, after) {
  try {
    return (await hub.shell.command({ t: 'history', room, epoch: after.epoch, after: after.seq, limit: PAGE })).events;
  } catch (error) {
    if (isElsewhere(error)) return undefined;
    throw error;
  }
}

/**
 * @param {Peer} peer
 * @param {string} room
 * @param {import('./peer.js').TabSubscription} subscription
 * @param {Cursor} sent
 * @param {RoomEvent[]} events
 */
function send(peer, room, subscription, sent, events) {
  const [first, last] = [events.at(0), events.at(-1)];
  if (!first || !last) throw new ImError('protocol', 'the history page is empty though events are missing');
  /** @type {Frame[]} */
  const frames = events.map((event) => ({ t: 'event', ...event }));
  if (first.seq > sent.seq + 1) {
    frames.unshift({ t: 'room', room, status: 'gap', epoch: sent.epoch, cursor: first.seq - 1, head: last.seq });
  }
  subscription.sent = { epoch: sent.epoch, seq: last.seq };
  peer.send(frames);
}

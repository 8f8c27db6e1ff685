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
export function subscribe(hub: Hub, peer: Peer, id: number, room: string, epoch: string | undefined, since: number | undefined): Promise<Frame>;
/**
 * Returns all of a room's state.
 *
 * @param {Hub} hub
 * @param {string} room
 * @returns {Frame}
 */
export function stateOf(hub: Hub, room: string): Frame;
/**
 * Sends a tab what it lacks of a room: the event, if it is the next one, otherwise pages of
 * history.
 *
 * @param {Hub} hub
 * @param {Peer} peer
 * @param {string} room
 * @param {RoomEvent} [event] that has just arrived
 */
export function forward(hub: Hub, peer: Peer, room: string, event?: RoomEvent): void;
export type Hub = import("./hub.js").Hub;
export type Peer = import("./peer.js").Peer;
export type Cursor = import("../core/rooms.js").Cursor;
export type RoomEvent = import("../core/rooms.js").RoomEvent;
export type Frame = import("../wire/value.js").Frame;

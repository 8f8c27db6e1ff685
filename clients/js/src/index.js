/**
 * A client of the im protocol for browsers and Node: connects, reconnects, resumes, resends, and
 * delivers each room's events once, in order. See the README.
 *
 * | module | what it holds |
 * |---|---|
 * | `connect`, `config` | assembling a client |
 * | `client`, `room`, `handles`, `event-iterator` | the application's interface |
 * | `core/` | the client without any I/O: a state machine |
 * | `shell`, `env` | what drives it |
 * | `links/` | transports: WebSocket, event streams, polling, another tab |
 * | `wire/` | JSON and MessagePack |
 * | `tabs/` | one connection for all tabs of a page |
 * | `storage` | what survives a reload |
 *
 * @module
 */

export { connect } from './connect.js';
export { Client } from './client.js';
export { Room } from './room.js';
export { ImError } from './error.js';
export { Code, advice, meaning } from './codes.js';
export { directRoom, messageId, randomId } from './ids.js';

/**
 * @typedef {import('./connect.js').Options} Options
 * @typedef {import('./config.js').Config} Config
 * @typedef {import('./client.js').StatusChange} StatusChange
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').RoomStatus} RoomStatus
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 * @typedef {import('./core/types.js').AppendAck} AppendAck
 * @typedef {import('./wire/value.js').Value} Value
 */

/**
 * What goes into the machine and comes out of it.
 *
 * @module
 */

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../wire/codec.js').Codec} Codec
 * @typedef {import('../wire/codec.js').Message} Message
 * @typedef {import('./rooms.js').RoomStatus} RoomStatus
 * @typedef {import('./rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./latest.js').StateUpdate} StateUpdate
 */

/**
 * Who the client says it is. `renewable`: whether the shell can fetch another token when this one is refused.
 *
 * @typedef {{token?: string, renewable: boolean, user?: string, device?: string, client: string}} Identity
 */

/**
 * A session to go on with, as a reply to `hello` gave it. The secret is as secret as a password.
 *
 * @typedef {{session: string, secret: string}} Session
 */

/**
 * How a connection carries frames. `duplex`: commands and pushes travel in one stream, so that statuses in replies stand
 * in their place among the pushes. Without it pushes come by a way of their own, and those of a room that is being asked for
 * wait for the answer.
 *
 * @typedef {{codec: Codec, duplex: boolean}} Traits
 */

/**
 * Why a connection ended.
 *
 * @typedef {{code?: number, message: string, retryMs?: number}} Cause
 */

/** @typedef {{room: string, epoch: string, seq: number, at: number, duplicate: boolean}} AppendAck */

/**
 * Something for the shell to do. `idempotent`: whether the whole message may be carried out twice without harm. `nudge`: the link
 * is to find out whether it still works, and to show new credentials.
 *
 * @typedef {{do: 'connect'} | {do: 'transmit', message: Message, idempotent: boolean} | {do: 'disconnect', cause?: Cause} |
 *   {do: 'fetchToken'} | {do: 'nudge'} | {do: 'welcome', welcome: Frame} |
 *   {do: 'reply', id: number, reply?: Frame, error?: import('../error.js').ImError}} Output
 */

/**
 * Something that the application should know, in the order in which it happened.
 *
 * @typedef {{type: 'event', event: RoomEvent} | {type: 'signal', signal: Frame} | {type: 'state', update: StateUpdate} |
 *   {type: 'stale', update: StateUpdate} |
 *   {type: 'snapshot', room: string, entries: StateUpdate[]} | {type: 'room', status: RoomStatus} |
 *   {type: 'connected', welcome: Frame} | ({type: 'disconnected', retryInMs?: number} & Cause) |
 *   ({type: 'closed'} & Cause)} ClientEvent
 */

/**
 * `idle`: nobody has asked for a connection. `connecting`: one is being opened. `greeting`: the hello is written, the
 * welcome awaited. `online`. `waiting`: the next try comes at `until`. `renewing`: the next try needs another token.
 * `ended`: over.
 *
 * @typedef {'idle' | 'connecting' | 'greeting' | 'online' | 'waiting' | 'renewing' | 'ended'} Phase
 */

/**
 * What is known of a connection that stands: since when, how often the server wants to hear something, when something was
 * last heard and written, and until when a heartbeat is to be answered.
 *
 * @typedef {{since: number, idleMs: number, heard: number, written: number, pingUntil: number}} Online
 */

export {};

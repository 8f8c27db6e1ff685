/**
 * Input and output of the machine.
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
 * The client's identity. `renewable`: whether the shell can fetch another token when this one is
 * refused.
 *
 * @typedef {{token?: string, renewable: boolean, user?: string, device?: string, client: string}}
 *   Identity
 */

/**
 * A session to resume, as a reply to `hello` returned it. The secret is as sensitive as a password.
 *
 * @typedef {{session: string, secret: string}} Session
 */

/**
 * How a connection carries frames. `duplex`: commands and pushes share one stream, so that statuses
 * in replies are in order with the pushes. Without it pushes are separate, and those of a room that
 * is being requested wait for the answer.
 *
 * @typedef {{codec: Codec, duplex: boolean}} Traits
 */

/**
 * Why a connection ended.
 *
 * @typedef {{code?: number, message: string, retryMs?: number}} Cause
 */

/**
 * @typedef {{room: string, epoch: string, seq: number, at: number, duplicate: boolean}} AppendAck
 */

/**
 * An action for the shell. `idempotent`: whether the whole message can be carried out twice without
 * harm. `nudge`: the link is to check whether it still works, and to send new credentials.
 *
 * @typedef {{do: 'connect'} | {do: 'transmit', message: Message, idempotent: boolean} | {do:
 *   'disconnect', cause?: Cause} | {do: 'fetchToken'} | {do: 'nudge'} | {do: 'welcome', welcome:
 *   Frame} | {do: 'reply', id: number, reply?: Frame, error?: import('../error.js').ImError}}
 *   Output
 */

/**
 * An event for the application. Events come in the order in which they happened.
 *
 * @typedef {{type: 'event', event: RoomEvent} | {type: 'signal', signal: Frame} | {type: 'state',
 *   update: StateUpdate} | {type: 'stale', update: StateUpdate} | {type: 'snapshot', room: string,
 *   entries: StateUpdate[]} | {type: 'room', status: RoomStatus} | {type: 'connected', welcome:
 *   Frame} | ({type: 'disconnected', retryInMs?: number} & Cause) | ({type: 'closed'} & Cause)}
 *   ClientEvent
 */

/**
 * `idle`: not started. `connecting`: a connection is being opened. `greeting`: the hello was
 * written, the welcome is awaited. `online`. `waiting`: the next try is due at `until`. `renewing`:
 * the next try needs another token. `ended`.
 *
 * @typedef {'idle' | 'connecting' | 'greeting' | 'online' | 'waiting' | 'renewing' | 'ended'} Phase
 */

/**
 * The state of an open connection: since when, how often the server expects a frame, when something
 * was last received and written, and until when a heartbeat must be answered.
 *
 * @typedef {{since: number, idleMs: number, heard: number, written: number, pingUntil: number}}
 *   Online
 */

export {};

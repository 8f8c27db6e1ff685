export type Frame = import("../wire/value.js").Frame;
export type Codec = import("../wire/codec.js").Codec;
export type Message = import("../wire/codec.js").Message;
export type RoomStatus = import("./rooms.js").RoomStatus;
export type RoomEvent = import("./rooms.js").RoomEvent;
export type StateUpdate = import("./latest.js").StateUpdate;
/**
 * The client's identity. `renewable`: whether the shell can fetch another token when this one is
 * refused.
 */
export type Identity = {
    token?: string;
    renewable: boolean;
    user?: string;
    device?: string;
    client: string;
};
/**
 * A session to resume, as a reply to `hello` returned it. The secret is as sensitive as a password.
 */
export type Session = {
    session: string;
    secret: string;
};
/**
 * How a connection carries frames. `duplex`: commands and pushes share one stream, so that statuses
 * in replies are in order with the pushes. Without it pushes are separate, and those of a room that
 * is being requested wait for the answer.
 */
export type Traits = {
    codec: Codec;
    duplex: boolean;
};
/**
 * Why a connection ended.
 */
export type Cause = {
    code?: number;
    message: string;
    retryMs?: number;
};
export type AppendAck = {
    room: string;
    epoch: string;
    seq: number;
    at: number;
    duplicate: boolean;
};
/**
 * An action for the shell. `idempotent`: whether the whole message can be carried out twice without
 * harm. `nudge`: the link is to check whether it still works, and to send new credentials.
 */
export type Output = {
    do: "connect";
} | {
    do: "transmit";
    message: Message;
    idempotent: boolean;
} | {
    do: "disconnect";
    cause?: Cause;
} | {
    do: "fetchToken";
} | {
    do: "nudge";
} | {
    do: "welcome";
    welcome: Frame;
} | {
    do: "reply";
    id: number;
    reply?: Frame;
    error?: import("../error.js").ImError;
};
/**
 * An event for the application. Events come in the order in which they happened.
 */
export type ClientEvent = {
    type: "event";
    event: RoomEvent;
} | {
    type: "signal";
    signal: Frame;
} | {
    type: "state";
    update: StateUpdate;
} | {
    type: "stale";
    update: StateUpdate;
} | {
    type: "snapshot";
    room: string;
    entries: StateUpdate[];
} | {
    type: "room";
    status: RoomStatus;
} | {
    type: "connected";
    welcome: Frame;
} | ({
    type: "disconnected";
    retryInMs?: number;
} & Cause) | ({
    type: "closed";
} & Cause);
/**
 * `idle`: not started. `connecting`: a connection is being opened. `greeting`: the hello was
 * written, the welcome is awaited. `online`. `waiting`: the next try is due at `until`. `renewing`:
 * the next try needs another token. `ended`.
 */
export type Phase = "idle" | "connecting" | "greeting" | "online" | "waiting" | "renewing" | "ended";
/**
 * The state of an open connection: since when, how often the server expects a frame, when something
 * was last received and written, and until when a heartbeat must be answered.
 */
export type Online = {
    since: number;
    idleMs: number;
    heard: number;
    written: number;
    pingUntil: number;
};

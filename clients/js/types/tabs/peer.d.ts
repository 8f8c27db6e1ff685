/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/rooms.js').Cursor} Cursor
 */
/**
 * A tab's subscription to a room: the last event that was sent to it (undefined until known), the
 * command that asked for it until answered, whether it is catching up from history, and whether it
 * needs all of the state again.
 *
 * @typedef {{sent?: Cursor, asked?: number, isBusy: boolean, needsState: boolean}} TabSubscription
 */
/** A tab, seen by the hub. */
export class Peer {
    /**
     * @param {string} tab
     * @param {number} conn
     * @param {BroadcastChannel} channel
     */
    constructor(tab: string, conn: number, channel: BroadcastChannel);
    tab: string;
    conn: number;
    channel: BroadcastChannel;
    /** @type {Map<string, TabSubscription>} */
    rooms: Map<string, TabSubscription>;
    sent: number;
    acked: number;
    isGone: boolean;
    /** @type {Frame | undefined} A greeting that waits until the connection is open. */
    hello: Frame | undefined;
    /** @type {(() => void)[]} */
    waiting: (() => void)[];
    /**
     * Whether more pushes may be sent. Replies are bounded by the tab's requests, and are always
     * sent.
     */
    get hasRoom(): boolean;
    /** @param {Frame[]} frames */
    send(frames: Frame[]): void;
    /** @param {number} n messages that have arrived */
    ack(n: number): void;
    /** Waits until more may be sent, or the tab is gone. */
    room(): Promise<void>;
    open(): void;
    /** @param {import('../core/types.js').Cause} [cause] to be sent to the tab, if given */
    end(cause?: import("../core/types.js").Cause): void;
}
export type Frame = import("../wire/value.js").Frame;
export type Cursor = import("../core/rooms.js").Cursor;
/**
 * A tab's subscription to a room: the last event that was sent to it (undefined until known), the
 * command that asked for it until answered, whether it is catching up from history, and whether it
 * needs all of the state again.
 */
export type TabSubscription = {
    sent?: Cursor;
    asked?: number;
    isBusy: boolean;
    needsState: boolean;
};

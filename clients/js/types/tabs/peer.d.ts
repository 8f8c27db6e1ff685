/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../core/rooms.js').Cursor} Cursor
 */
/**
 * A room that a tab follows: the last event that was sent there (undefined until that is known), the command that asked for
 * it until that is answered, whether it is being fed from history, and whether it is to get all of the state anew.
 *
 * @typedef {{sent?: Cursor, asked?: number, isBusy: boolean, needsState: boolean}} TabSubscription
 */
/** A tab, as the hub sees it. */
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
    /** @type {Frame | undefined} A greeting that waits until the connection stands. */
    hello: Frame | undefined;
    /** @type {(() => void)[]} */
    waiting: (() => void)[];
    /** Whether it takes more pushes. Replies are bounded by what it asks, and always go. */
    get hasRoom(): boolean;
    /** @param {Frame[]} frames */
    send(frames: Frame[]): void;
    /** @param {number} n messages that have arrived */
    ack(n: number): void;
    /** Waits until it takes more, or is gone. */
    room(): Promise<void>;
    open(): void;
    /** @param {import('../core/types.js').Cause} [cause] for the tab, if it is to be told */
    end(cause?: import("../core/types.js").Cause): void;
}
export type Frame = import("../wire/value.js").Frame;
export type Cursor = import("../core/rooms.js").Cursor;
/**
 * A room that a tab follows: the last event that was sent there (undefined until that is known), the command that asked for
 * it until that is answered, whether it is being fed from history, and whether it is to get all of the state anew.
 */
export type TabSubscription = {
    sent?: Cursor;
    asked?: number;
    isBusy: boolean;
    needsState: boolean;
};

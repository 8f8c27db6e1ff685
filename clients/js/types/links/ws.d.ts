/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('../wire/codec.js').Message} Message
 */
/**
 * WebSocket.
 *
 * @implements {Link}
 */
export class WebSocketLink implements Link {
    /**
     * @param {object} setup
     * @param {string} setup.url `ws:` or `wss:`
     * @param {'json' | 'msgpack'} setup.encoding
     * @param {import('./link.js').Env} setup.env
     * @param {LinkEvents} events
     */
    constructor({ url, encoding, env }: {
        url: string;
        encoding: "json" | "msgpack";
        env: import("./link.js").Env;
    }, events: LinkEvents);
    transport: string;
    traits: {
        codec: import("../wire/codec.js").Codec;
        duplex: boolean;
    };
    url: string;
    env: import("./link.js").Env;
    events: import("./link.js").LinkEvents;
    /** @type {any} */
    socket: any;
    isDone: boolean;
    open(): void;
    /** @param {any} WebSocket */
    begin(WebSocket: any): void;
    /** @param {import('./link.js').LinkCause} cause */
    lost(cause: import("./link.js").LinkCause): void;
    /** @param {Message} message */
    send(message: Message): void;
    welcome(): void;
    nudge(): void;
    close(): void;
}
export type Link = import("./link.js").Link;
export type LinkEvents = import("./link.js").LinkEvents;
export type Message = import("../wire/codec.js").Message;

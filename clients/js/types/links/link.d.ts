/**
 * @typedef {import('../core/types.js').Cause} Cause
 * @typedef {import('../core/types.js').Traits} Traits
 * @typedef {import('../core/types.js').Session} Session
 * @typedef {import('../wire/codec.js').Message} Message
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Why a link was lost. `unfit`: this transport does not seem to work here. `isPassing`: the failure
 * may pass in a moment (for example a gateway's 502), and does not count against the transport.
 *
 * @typedef {Cause & {unfit?: boolean, isPassing?: boolean}} LinkCause
 */
/**
 * @typedef {'ws' | 'sse' | 'poll' | 'short'} Transport WebSocket, Server-Sent Events, long polling,
 *   short polling
 */
/**
 * Events of a link.
 *
 * @typedef {object} LinkEvents
 * @property {() => void} open the link can send the greeting
 * @property {(message: Message) => void} message
 * @property {() => void} heard a sign of life that is no message
 * @property {() => void} steady pushes have arrived. Duplex links need not call it.
 * @property {(cause: LinkCause) => void} lost
 */
/**
 * @typedef {object} Link
 * @property {string} transport
 * @property {Traits} traits
 * @property {() => void} open
 * @property {(message: Message, idempotent?: boolean) => void} send messages arrive in order or not
 *   at all; with `idempotent` the link may send the message again if its arrival is not known
 * @property {(session: Session) => void} welcome the greeting was answered with this session
 * @property {() => void} nudge checks now whether the link still works
 * @property {() => void} close without any event
 */
/**
 * What links need from their environment, so that tests can replace it.
 *
 * @typedef {object} Env
 * @property {() => number} now milliseconds of a monotonic clock that counts sleep
 * @property {() => number} wallClock milliseconds since the Unix epoch
 * @property {() => number} random from 0 to 1
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {typeof fetch} fetch
 * @property {() => Promise<any>} webSocket returns the constructor
 */
/**
 * Returns why a request was refused: the code in its body, or the meaning of its status. 4xx and
 * 5xx without a code come from a proxy.
 *
 * @param {Response} response
 * @returns {Promise<LinkCause>}
 */
export function causeOf(response: Response): Promise<LinkCause>;
/**
 * Returns the cause that a link reports when it is lost: unfit, unless the server refused, or the
 * failure may pass.
 *
 * @param {LinkCause} cause
 * @returns {LinkCause}
 */
export function finalCause(cause: LinkCause): LinkCause;
/**
 * Whether a refusal comes from the server itself, and so says nothing about the transport: it has a
 * code.
 *
 * @param {Cause} cause
 */
export function isFromServer({ code }: Cause): boolean;
/** @param {unknown} error */
export function wordsOf(error: unknown): string;
export type Cause = import("../core/types.js").Cause;
export type Traits = import("../core/types.js").Traits;
export type Session = import("../core/types.js").Session;
export type Message = import("../wire/codec.js").Message;
export type Frame = import("../wire/value.js").Frame;
/**
 * Why a link was lost. `unfit`: this transport does not seem to work here. `isPassing`: the failure
 * may pass in a moment (for example a gateway's 502), and does not count against the transport.
 */
export type LinkCause = Cause & {
    unfit?: boolean;
    isPassing?: boolean;
};
/**
 * WebSocket, Server-Sent Events, long polling,
 *   short polling
 */
export type Transport = "ws" | "sse" | "poll" | "short";
/**
 * Events of a link.
 */
export type LinkEvents = {
    /**
     * the link can send the greeting
     */
    open: () => void;
    message: (message: Message) => void;
    /**
     * a sign of life that is no message
     */
    heard: () => void;
    /**
     * pushes have arrived. Duplex links need not call it.
     */
    steady: () => void;
    lost: (cause: LinkCause) => void;
};
export type Link = {
    transport: string;
    traits: Traits;
    open: () => void;
    /**
     * messages arrive in order or not
     * at all; with `idempotent` the link may send the message again if its arrival is not known
     */
    send: (message: Message, idempotent?: boolean) => void;
    /**
     * the greeting was answered with this session
     */
    welcome: (session: Session) => void;
    /**
     * checks now whether the link still works
     */
    nudge: () => void;
    /**
     * without any event
     */
    close: () => void;
};
/**
 * What links need from their environment, so that tests can replace it.
 */
export type Env = {
    /**
     * milliseconds of a monotonic clock that counts sleep
     */
    now: () => number;
    /**
     * milliseconds since the Unix epoch
     */
    wallClock: () => number;
    /**
     * from 0 to 1
     */
    random: () => number;
    setTimeout: (callback: () => void, ms: number) => any;
    clearTimeout: (timer: any) => void;
    fetch: typeof fetch;
    /**
     * returns the constructor
     */
    webSocket: () => Promise<any>;
};

/**
 * @typedef {import('../core/types.js').Cause} Cause
 * @typedef {import('../core/types.js').Traits} Traits
 * @typedef {import('../core/types.js').Session} Session
 * @typedef {import('../wire/codec.js').Message} Message
 * @typedef {import('../wire/value.js').Frame} Frame
 */
/**
 * Why a link is lost. `unfit`: this transport does not seem to work here. `isPassing`: what failed on the way may be gone the
 * next moment, a gateway's 502, say, and is no sign against the transport.
 *
 * @typedef {Cause & {unfit?: boolean, isPassing?: boolean}} LinkCause
 */
/** @typedef {'ws' | 'sse' | 'poll' | 'short'} Transport WebSocket, Server-Sent Events, long polling, short polling */
/**
 * What a link tells.
 *
 * @typedef {object} LinkEvents
 * @property {() => void} open it can carry the greeting
 * @property {(message: Message) => void} message
 * @property {() => void} heard something that is no message
 * @property {() => void} steady pushes have been seen to come through. Links that are duplex need not say it.
 * @property {(cause: LinkCause) => void} lost
 */
/**
 * @typedef {object} Link
 * @property {string} transport
 * @property {Traits} traits
 * @property {() => void} open
 * @property {(message: Message, idempotent?: boolean) => void} send what it sends arrives in order or not at all; with
 *   `idempotent` the link may send it again where it is not known whether it has arrived
 * @property {(session: Session) => void} welcome the greeting was answered: this is the session
 * @property {() => void} nudge finds out now whether it still works
 * @property {() => void} close without a word to the events
 */
/**
 * What the links need from their surroundings, so that tests can bring their own.
 *
 * @typedef {object} Env
 * @property {() => number} now milliseconds of a clock that never goes back and counts sleep
 * @property {() => number} wallClock milliseconds since the Unix epoch
 * @property {() => number} random from 0 to 1
 * @property {(callback: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {typeof fetch} fetch
 * @property {() => Promise<any>} webSocket gives the constructor
 */
/**
 * Why a request was refused: the code in its body, or what its status says. 4xx and 5xx without a code come from
 * something in between.
 *
 * @param {Response} response
 * @returns {Promise<LinkCause>}
 */
export function causeOf(response: Response): Promise<LinkCause>;
/**
 * What a link that gives up tells: something in between is at fault, unless the server refused, or it may pass.
 *
 * @param {LinkCause} cause
 * @returns {LinkCause}
 */
export function finalCause(cause: LinkCause): LinkCause;
/**
 * Whether a refusal says something about the transport: those with a code come from the server itself.
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
 * Why a link is lost. `unfit`: this transport does not seem to work here. `isPassing`: what failed on the way may be gone the
 * next moment, a gateway's 502, say, and is no sign against the transport.
 */
export type LinkCause = Cause & {
    unfit?: boolean;
    isPassing?: boolean;
};
/**
 * WebSocket, Server-Sent Events, long polling, short polling
 */
export type Transport = "ws" | "sse" | "poll" | "short";
/**
 * What a link tells.
 */
export type LinkEvents = {
    /**
     * it can carry the greeting
     */
    open: () => void;
    message: (message: Message) => void;
    /**
     * something that is no message
     */
    heard: () => void;
    /**
     * pushes have been seen to come through. Links that are duplex need not say it.
     */
    steady: () => void;
    lost: (cause: LinkCause) => void;
};
export type Link = {
    transport: string;
    traits: Traits;
    open: () => void;
    /**
     * what it sends arrives in order or not at all; with
     * `idempotent` the link may send it again where it is not known whether it has arrived
     */
    send: (message: Message, idempotent?: boolean) => void;
    /**
     * the greeting was answered: this is the session
     */
    welcome: (session: Session) => void;
    /**
     * finds out now whether it still works
     */
    nudge: () => void;
    /**
     * without a word to the events
     */
    close: () => void;
};
/**
 * What the links need from their surroundings, so that tests can bring their own.
 */
export type Env = {
    /**
     * milliseconds of a clock that never goes back and counts sleep
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
     * gives the constructor
     */
    webSocket: () => Promise<any>;
};

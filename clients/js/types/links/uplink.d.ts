/**
 * The cause of a request that failed without a response.
 *
 * @param {string} what
 * @param {unknown} error
 * @returns {LinkCause}
 */
export function failure(what: string, error: unknown): LinkCause;
/**
 * The body of a response as a message: bytes if it is MessagePack.
 *
 * @param {Response} response
 * @returns {Promise<Message>}
 */
export function messageOf(response: Response): Promise<Message>;
/**
 * Commands by POST, one request at a time so that they arrive in order; the response has the
 * replies. At most as many messages wait as the server allows commands in flight.
 *
 * A request that fails on its way (a gateway's 502, a broken connection) is retried after a short
 * pause, if all of it can be carried out twice. Only when retries fail as well is the link lost.
 */
export class Uplink {
    /**
     * @param {object} setup
     * @param {string} setup.url the prefix, without a slash at its end
     * @param {() => string | undefined} setup.token
     * @param {RequestCredentials} setup.credentials
     * @param {'json' | 'msgpack'} setup.encoding
     * @param {import('./link.js').Env} setup.env
     * @param {Pick<import('../config.js').Config, 'slowestUplink'>} setup.config
     * @param {{message: (message: Message) => void, lost: (cause: LinkCause) => void}} events
     */
    constructor(setup: {
        url: string;
        token: () => string | undefined;
        credentials: RequestCredentials;
        encoding: "json" | "msgpack";
        env: import("./link.js").Env;
        config: Pick<import("../config.js").Config, "slowestUplink">;
    }, events: {
        message: (message: Message) => void;
        lost: (cause: LinkCause) => void;
    });
    setup: {
        url: string;
        token: () => string | undefined;
        credentials: RequestCredentials;
        encoding: "json" | "msgpack";
        env: import("./link.js").Env;
        config: Pick<import("../config.js").Config, "slowestUplink">;
    };
    events: {
        message: (message: Message) => void;
        lost: (cause: LinkCause) => void;
    };
    /** @type {Session | undefined} */
    session: Session | undefined;
    /** @type {{message: Message, idempotent: boolean}[]} */
    queue: {
        message: Message;
        idempotent: boolean;
    }[];
    isBusy: boolean;
    tries: Tries;
    aborter: AbortController;
    /**
     * @param {Message} message
     * @param {boolean} [idempotent] whether all of it can be carried out twice
     */
    send(message: Message, idempotent?: boolean): void;
    next(): Promise<void>;
    /**
     * @param {Message} message
     * @param {boolean} idempotent
     */
    deliver(message: Message, idempotent: boolean): Promise<{
        message: Message;
    } | {
        cause: LinkCause;
    }>;
    /** A pause that ends with the link. @param {number} ms */
    rest(ms: number): Promise<any>;
    /**
     * @param {Message} message
     * @returns {Promise<{message: Message} | {cause: LinkCause}>}
     */
    post(message: Message): Promise<{
        message: Message;
    } | {
        cause: LinkCause;
    }>;
    /** Returns the headers of every request. */
    headers(): Record<string, string>;
    /**
     * A request that is aborted by its signal. With `patienceMs` it is also aborted with the link, or
     * after so long without a piece of the response. Without it the response is a stream, which its
     * reader ends.
     *
     * @param {string} path under the prefix
     * @param {RequestInit} init
     * @param {number} [patienceMs]
     */
    request(path: string, init: RequestInit, patienceMs?: number): Promise<Response>;
    close(): void;
}
/** Counts failures in a row, without a success in between. */
export class Tries {
    failed: number;
    hasWorked: boolean;
    worked(): void;
    /**
     * Returns the pause before the next try in milliseconds; undefined after the last one.
     *
     * @param {LinkCause} cause
     */
    next(cause: LinkCause): number | undefined;
}
export type LinkCause = import("./link.js").LinkCause;
export type Session = import("./link.js").Session;
export type Message = import("../wire/codec.js").Message;

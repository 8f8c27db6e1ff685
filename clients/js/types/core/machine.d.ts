export class Machine {
    /**
     * @param {object} setup
     * @param {import('../config.js').Config} setup.config
     * @param {Identity} setup.identity
     * @param {Session} [setup.session]
     * @param {() => number} setup.random from 0 to 1; draws the pauses between tries
     * @param {() => number} setup.wallClock milliseconds since the Unix epoch, for the expiry of
     *   credentials only
     */
    constructor({ config, identity, session, random, wallClock }: {
        config: import("../config.js").Config;
        identity: Identity;
        session?: import("./types.js").Session | undefined;
        random: () => number;
        wallClock: () => number;
    });
    config: import("../config.js").Config;
    identity: import("./types.js").Identity;
    session: import("./types.js").Session | undefined;
    /** @type {import('./flight.js').ServerLimits} */
    limits: import("./flight.js").ServerLimits;
    /** @type {Phase} */
    phase: Phase;
    until: number;
    /** @type {Online | undefined} */
    online: Online | undefined;
    /** @type {Traits | undefined} */
    traits: Traits | undefined;
    /** @type {Cause} */
    cause: Cause;
    /** The generation of the server's state, if known. */
    generation: string;
    flight: Flight;
    rooms: Rooms;
    decisions: Decisions;
    early: EarlyPushes;
    credentials: credentials.Credentials;
    backoff: Backoff;
    /** @type {Output[]} */
    outputs: Output[];
    /** @type {ClientEvent[]} */
    events: ClientEvent[];
    get isEnded(): boolean;
    /** Whether there is a connection, or one is being opened. */
    get hasConnection(): boolean;
    /**
     * Starts, or tries again.
     *
     * @param {number} now
     */
    start(now: number): void;
    /**
     * The connection is open: sends the greeting, and the resume of all rooms in the same message.
     *
     * @param {number} now
     * @param {Traits} traits
     */
    onConnected(now: number, traits: Traits): void;
    /**
     * The connection ended, or could not be opened.
     *
     * @param {number} now
     * @param {Cause} cause
     */
    onLost(now: number, cause: Cause): void;
    /**
     * Drops the connection's state: no more answers come.
     *
     * @param {boolean} all
     * @param {Cause} cause
     */
    cut(all: boolean, cause: Cause): void;
    /**
     * @param {[number, import('./flight.js').Pending][]} commands whose outcome is unknown
     * @param {Cause} cause
     */
    failUnknown(commands: [number, import("./flight.js").Pending][], { code, message }: Cause): void;
    /**
     * Decides whether and when to reconnect.
     *
     * @param {number} now
     * @param {Cause} cause
     * @param {boolean} wasOnline
     */
    decide(now: number, cause: Cause, wasOnline: boolean): void;
    /**
     * Handles the requested token, or null if there will be none. On an open connection it is sent at
     * once.
     *
     * @param {number} now
     * @param {string | null} token
     */
    onToken(now: number, token: string | null): void;
    /**
     * Handles a failed fetch of a token.
     *
     * @param {number} now
     * @param {string} why
     */
    onNoToken(now: number, why: string): void;
    /**
     * Queues a call of the application. The answer comes as an output under the returned number.
     *
     * @param {Frame} body a command without its number
     * @throws {ImError} if it is refused before it is sent
     */
    onCommand(body: Frame): number;
    /** @param {Frame} body */
    check(body: Frame): void;
    /**
     * Refuses a value that no server accepts: on the wire it would cost the connection.
     *
     * @param {import('../wire/value.js').Value} value
     * @param {string} [mid]
     */
    checkValue(value: import("../wire/value.js").Value, mid?: string): void;
    /**
     * Ends the client. Commands that have no answer fail.
     *
     * @param {Cause} [cause]
     */
    end(cause?: Cause): void;
    /** When `onTime` is due, if nothing else happens before; `Infinity` if never. */
    get deadline(): number;
    /** @param {number} now */
    onTime(now: number): void;
    /**
     * The machine woke up, the page is shown again, or the network changed: checks the connection at
     * once.
     *
     * @param {number} now
     */
    onWake(now: number): void;
    /**
     * Moves to another open link: unanswered commands are sent again there, and rooms continue from
     * their cursors.
     *
     * @param {number} now
     * @returns {boolean} false, without effect, while a non-idempotent command is in flight
     */
    onMove(now: number): boolean;
    /**
     * Handles a message.
     *
     * @param {number} now
     * @param {Message} message
     */
    onMessage(now: number, message: Message): void;
    /**
     * Records a sign of life of the server that is no message.
     *
     * @param {number} now
     */
    onHeard(now: number): void;
    /**
     * Writes what is ready.
     *
     * @param {number} now
     */
    flush(now: number): void;
    /**
     * Ends the connection, for a reason of the client's own.
     *
     * @param {number} now
     * @param {Cause} cause
     */
    drop(now: number, cause: Cause): void;
}
export type Frame = import("../wire/value.js").Frame;
export type Message = import("../wire/codec.js").Message;
export type Identity = import("./types.js").Identity;
export type Session = import("./types.js").Session;
export type Traits = import("./types.js").Traits;
export type Cause = import("./types.js").Cause;
export type Output = import("./types.js").Output;
export type ClientEvent = import("./types.js").ClientEvent;
export type Phase = import("./types.js").Phase;
export type Online = import("./types.js").Online;
import { Flight } from './flight.js';
import { Rooms } from './rooms.js';
import { Decisions } from './decisions.js';
import { EarlyPushes } from './pushes.js';
import * as credentials from './credentials.js';
import { Backoff } from './backoff.js';

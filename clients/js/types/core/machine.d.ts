export class Machine {
    /**
     * @param {object} setup
     * @param {import('../config.js').Config} setup.config
     * @param {Identity} setup.identity
     * @param {Session} [setup.session]
     * @param {() => number} setup.random from 0 to 1; draws the pauses between tries
     * @param {() => number} setup.wallClock milliseconds since the Unix epoch, for the expiry of credentials only
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
    /** Of the server's state, as far as is known. */
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
     * Begins, or tries again.
     *
     * @param {number} now
     */
    start(now: number): void;
    /**
     * A connection stands: greets, and asks for the rooms in the same flight.
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
     * No answer comes on this connection any more.
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
     * Whether and when to come back.
     *
     * @param {number} now
     * @param {Cause} cause
     * @param {boolean} wasOnline
     */
    decide(now: number, cause: Cause, wasOnline: boolean): void;
    /**
     * The token that was asked for, or null if there will be none. On a connection that stands it is shown at once.
     *
     * @param {number} now
     * @param {string | null} token
     */
    onToken(now: number, token: string | null): void;
    /**
     * The token could not be fetched this time.
     *
     * @param {number} now
     * @param {string} why
     */
    onNoToken(now: number, why: string): void;
    /**
     * The application asks for this. The answer comes as an output under the number returned.
     *
     * @param {Frame} body a command without its number
     * @throws {ImError} if it is refused before it is sent
     */
    onCommand(body: Frame): number;
    /** @param {Frame} body */
    check(body: Frame): void;
    /**
     * A value that no server takes is refused here: on the wire it would cost the connection.
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
    /** When `onTime` is to be called, if nothing else happens before; `Infinity` if never. */
    get deadline(): number;
    /** @param {number} now */
    onTime(now: number): void;
    /**
     * The machine woke up, the page is shown again, or the network changed: finds out at once how things stand.
     *
     * @param {number} now
     */
    onWake(now: number): void;
    /**
     * Moves to another link that stands ready, in mid-stream: what has no answer is sent again there, and rooms go on from
     * their cursors.
     *
     * @param {number} now
     * @returns {boolean} false if it must not be now: something is under way that could not be repeated
     */
    onMove(now: number): boolean;
    /**
     * A message arrived.
     *
     * @param {number} now
     * @param {Message} message
     */
    onMessage(now: number, message: Message): void;
    /**
     * Something was heard from the server that is no message.
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
     * Leaves the connection, for a reason of the client's own.
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

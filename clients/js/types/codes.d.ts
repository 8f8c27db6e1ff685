/**
 * What a code says to do, also for codes that this version does not know. Codes outside of 4000 to
 * 4999 are those of WebSocket and mean `retry`.
 *
 * @param {number} code
 * @returns {Advice}
 */
export function advice(code: number): Advice;
/**
 * A code in words for a person.
 *
 * @param {number} code
 */
export function meaning(code: number): string;
/**
 * The codes of `err` and `disconnect` frames, and what their hundreds say to do. See wire/SPEC.md,
 * "Codes".
 *
 * @module
 */
/** @typedef {'done' | 'retry' | 'back off' | 'refresh' | 'resync' | 'fix' | 'stop'} Advice */
/** The codes that this version knows, by name. Others may come; their advice still holds. */
export const Code: Readonly<{
    Closed: 4000;
    Draining: 4001;
    Unknown: 4100;
    Superseded: 4101;
    RateLimited: 4200;
    Overloaded: 4201;
    StoreUnavailable: 4202;
    SlowSubscriber: 4203;
    TooManyConnections: 4204;
    IdleTimeout: 4205;
    SenderOrder: 4206;
    Unauthenticated: 4300;
    BadCredentials: 4301;
    Expired: 4302;
    UnknownSession: 4400;
    StaleCheckpoint: 4401;
    WrongEpoch: 4402;
    AheadOfHead: 4403;
    Trimmed: 4404;
    Malformed: 4500;
    WrongEncoding: 4501;
    UnknownKind: 4502;
    MissingField: 4503;
    BadField: 4504;
    WrongVersion: 4505;
    TooLarge: 4506;
    TooDeep: 4507;
    TooMany: 4508;
    OutOfOrder: 4509;
    HandshakeTimeout: 4510;
    BadOrigin: 4511;
    NotFound: 4520;
    Forbidden: 4521;
    Banned: 4522;
    Exists: 4523;
    Conflict: 4524;
    TooOld: 4525;
    StampAhead: 4526;
    Stale: 4527;
    Refused: 4528;
    Kicked: 4600;
    LoggedOut: 4601;
    Removed: 4602;
}>;
export type Advice = "done" | "retry" | "back off" | "refresh" | "resync" | "fix" | "stop";

/**
 * The codes of `err` and `disconnect` frames, and what their hundreds say to do. See wire/SPEC.md,
 * "Codes".
 *
 * @module
 */

/** @typedef {'done' | 'retry' | 'back off' | 'refresh' | 'resync' | 'fix' | 'stop'} Advice */

/** The codes that this version knows, by name. Others may come; their advice still holds. */
export const Code = Object.freeze({
  Closed: 4000,
  Draining: 4001,
  Unknown: 4100,
  Superseded: 4101,
  RateLimited: 4200,
  Overloaded: 4201,
  StoreUnavailable: 4202,
  SlowSubscriber: 4203,
  TooManyConnections: 4204,
  IdleTimeout: 4205,
  SenderOrder: 4206,
  Unauthenticated: 4300,
  BadCredentials: 4301,
  Expired: 4302,
  UnknownSession: 4400,
  StaleCheckpoint: 4401,
  WrongEpoch: 4402,
  AheadOfHead: 4403,
  Trimmed: 4404,
  Malformed: 4500,
  WrongEncoding: 4501,
  UnknownKind: 4502,
  MissingField: 4503,
  BadField: 4504,
  WrongVersion: 4505,
  TooLarge: 4506,
  TooDeep: 4507,
  TooMany: 4508,
  OutOfOrder: 4509,
  HandshakeTimeout: 4510,
  BadOrigin: 4511,
  NotFound: 4520,
  Forbidden: 4521,
  Banned: 4522,
  Exists: 4523,
  Conflict: 4524,
  TooOld: 4525,
  StampAhead: 4526,
  Stale: 4527,
  Refused: 4528,
  Kicked: 4600,
  LoggedOut: 4601,
  Removed: 4602,
});

/** @type {Readonly<Record<number, Advice>>} */
const ADVICE = { 40: 'done', 41: 'retry', 42: 'back off', 43: 'refresh', 44: 'resync', 45: 'fix', 46: 'stop' };

/**
 * What a code says to do, also for codes that this version does not know. Codes outside of 4000 to
 * 4999 are those of WebSocket and mean `retry`.
 *
 * @param {number} code
 * @returns {Advice}
 */
export function advice(code) {
  return ADVICE[Math.floor(code / 100)] ?? 'retry';
}

/** @type {ReadonlyMap<number, string>} */
const MEANINGS = new Map([
  [4000, "closed as wished"],
  [4001, "the server is going away; come back after the stated delay"],
  [4100, "the outcome is unknown; retry under the same message id"],
  [4101, "replaced by a newer connection or request of the same session"],
  [4200, "too many commands; slow down"],
  [4201, "the server is busy; try again later"],
  [4202, "the store is unavailable; nothing was stored"],
  [4203, "you read too slowly; resume from your cursors"],
  [4204, "too many connections"],
  [4205, "no traffic from you for too long"],
  [4206, "an earlier send to this room has to be retried first; resend in order"],
  [4300, "credentials are needed"],
  [4301, "the credentials were refused"],
  [4302, "the credentials have expired; refresh them"],
  [4400, "the session is not known; open a new one"],
  [4401, "the checkpoint has another revision; send all cursors"],
  [4402, "the room has another epoch; start again from its head"],
  [4403, "the position lies beyond the room's last event"],
  [4404, "that part of the history was trimmed"],
  [4500, "the frame cannot be parsed"],
  [4501, "this is not the encoding agreed on"],
  [4502, "unknown kind of frame"],
  [4503, "a field is missing"],
  [4504, "a field has a value that it must not have"],
  [4505, "this protocol version is not supported"],
  [4506, "too large"],
  [4507, "nested too deeply"],
  [4508, "too many"],
  [4509, "out of order: hello must be the first command, once"],
  [4510, "no hello within the time allowed"],
  [4511, "this origin is not allowed"],
  [4520, "not found"],
  [4521, "not allowed"],
  [4522, "you are banned from this room"],
  [4523, "it exists already"],
  [4524, "this message id was used for other content"],
  [4525, "this message id is too old"],
  [4526, "the stamp lies too far in the future"],
  [4527, "the state held is newer"],
  [4528, "refused"],
  [4600, "the session was ended"],
  [4601, "logged out"],
  [4602, "you are not in this room any more"],
]);

/**
 * A code in words for a person.
 *
 * @param {number} code
 */
export function meaning(code) {
  return MEANINGS.get(code) ?? `code ${code}`;
}

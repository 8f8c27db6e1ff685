/**
 * The client without any I/O: what arrives goes in, what is to be done comes out.
 *
 * A shell calls the `on…` methods with what happened and the time at which it did, in milliseconds of a clock that never
 * goes back, then takes `outputs` and `events` until there are none, and calls `onTime` at `deadline`. Nothing here waits
 * or reads a clock, so that tests need no network.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';
import { ImError } from '../error.js';
import { measure } from '../wire/value.js';
import { Backoff } from './backoff.js';
import * as credentials from './credentials.js';
import { Decisions } from './decisions.js';
import { Flight } from './flight.js';
import { greet } from './greeting.js';
import * as online from './online.js';
import { EarlyPushes } from './pushes.js';
import { Rooms } from './rooms.js';

/**
 * @typedef {import('../wire/value.js').Frame} Frame
 * @typedef {import('../wire/codec.js').Message} Message
 * @typedef {import('./types.js').Identity} Identity
 * @typedef {import('./types.js').Session} Session
 * @typedef {import('./types.js').Traits} Traits
 * @typedef {import('./types.js').Cause} Cause
 * @typedef {import('./types.js').Output} Output
 * @typedef {import('./types.js').ClientEvent} ClientEvent
 * @typedef {import('./types.js').Phase} Phase
 * @typedef {import('./types.js').Online} Online
 */

/** What holds until the server has named its own limits: what servers allow by default. */
const ASSUMED_LIMITS = {
  message_bytes: 65_536,
  content_bytes: 32_768,
  batch: 64,
  in_flight: 64,
  page: 100,
  rooms: 1000,
  depth: 16,
  values: 8192,
};

export class Machine {
  /**
   * @param {object} setup
   * @param {import('../config.js').Config} setup.config
   * @param {Identity} setup.identity
   * @param {Session} [setup.session]
   * @param {() => number} setup.random from 0 to 1; draws the pauses between tries
   * @param {() => number} setup.wallClock milliseconds since the Unix epoch, for the expiry of credentials only
   */
  constructor({ config, identity, session, random, wallClock }) {
    this.config = config;
    this.identity = identity;
    this.session = session;
    /** @type {import('./flight.js').ServerLimits} */
    this.limits = ASSUMED_LIMITS;
    /** @type {Phase} */
    this.phase = 'idle';
    this.until = Infinity;
    /** @type {Online | undefined} */
    this.online = undefined;
    /** @type {Traits | undefined} */
    this.traits = undefined;
    /** @type {Cause} */
    this.cause = { message: '' };
    /** Of the server's state, as far as is known. */
    this.generation = '';
    this.flight = new Flight(config.slowestUplink);
    this.rooms = new Rooms();
    this.rooms.mayHold = session !== undefined;
    this.decisions = new Decisions();
    this.early = new EarlyPushes(config.maxEarly);
    this.credentials = new credentials.Credentials(config, random, wallClock);
    this.backoff = new Backoff(config.reconnect, random);
    /** @type {Output[]} */
    this.outputs = [];
    /** @type {ClientEvent[]} */
    this.events = [];
  }

  get isEnded() {
    return this.phase === 'ended';
  }

  /** Whether there is a connection, or one is being opened. */
  get hasConnection() {
    return this.phase === 'connecting' || this.phase === 'greeting' || this.phase === 'online';
  }

  /**
   * Begins, or tries again.
   *
   * @param {number} now
   */
  start(now) {
    if (this.identity.renewable && this.identity.token === undefined) return credentials.renew(this, now);
    this.phase = 'connecting';
    this.until = now + this.config.connectTimeoutMs;
    this.outputs.push({ do: 'connect' });
  }

  /**
   * A connection stands: greets, and asks for the rooms in the same flight.
   *
   * @param {number} now
   * @param {Traits} traits
   */
  onConnected(now, traits) {
    if (this.phase !== 'connecting') return;
    this.phase = 'greeting';
    this.traits = traits;
    if (!this.session) {
      this.rooms.dropCheckpoint();
      this.rooms.mayHold = false;
    }
    greet(this, now);
  }

  /**
   * The connection ended, or could not be opened.
   *
   * @param {number} now
   * @param {Cause} cause
   */
  onLost(now, cause) {
    if (!this.hasConnection) return;
    const since = this.online?.since;
    const given = advice(cause.code ?? 0);
    // A slow greeting was no fault of what was written.
    const ours = given === 'fix' && cause.code !== Code.HandshakeTimeout;
    this.cut(ours && since !== undefined, cause);
    this.online = undefined;
    this.traits = undefined;
    this.phase = 'idle';
    if (since !== undefined && (now - since >= this.config.reconnect.stableMs || given === 'done')) this.backoff.reset();
    this.decide(now, cause, since !== undefined);
  }

  /**
   * No answer comes on this connection any more.
   *
   * @param {boolean} all
   * @param {Cause} cause
   */
  cut(all, cause) {
    if (this.flight.mayHaveMovedCheckpoint()) this.rooms.dropCheckpoint();
    this.failUnknown(this.flight.cut(all, (body, id) => this.decisions.undoes(body, id)), cause);
    this.rooms.cut();
    this.decisions.forget(this.flight.oldestSubscribing());
    this.early.clear();
  }

  /**
   * @param {[number, import('./flight.js').Pending][]} commands whose outcome is unknown
   * @param {Cause} cause
   */
  failUnknown(commands, { code, message }) {
    for (const [id, { body }] of commands) {
      const error = new ImError('unknown', `the outcome is unknown: ${message}`, { code, mid: body.mid });
      this.outputs.push({ do: 'reply', id, error });
    }
  }

  /**
   * Whether and when to come back.
   *
   * @param {number} now
   * @param {Cause} cause
   * @param {boolean} wasOnline
   */
  decide(now, cause, wasOnline) {
    switch (advice(cause.code ?? 0)) {
      case 'stop':
        return this.end(cause);
      case 'fix':
        // A greeting that was refused for what it is will be refused again; a slow one may be quicker.
        if (!wasOnline && cause.code !== Code.HandshakeTimeout) return this.end(cause);
        break;
      case 'refresh':
        if (!this.identity.renewable) return this.end(cause);
        this.events.push({ type: 'disconnected', ...cause });
        return credentials.renew(this, now);
      case 'resync':
        if (cause.code === Code.UnknownSession) this.session = undefined;
        break;
      case 'retry':
        // Somebody else goes on with this session, a page that was duplicated, say. To take it back would only begin a
        // quarrel. Rooms and unanswered sends do not hang on the session.
        if (cause.code === Code.Superseded) this.session = undefined;
        break;
    }
    const pause = this.backoff.next(cause.retryMs);
    if (pause === undefined) return this.end(cause);
    this.phase = 'waiting';
    this.until = now + pause;
    this.events.push({ type: 'disconnected', ...cause, retryInMs: pause });
  }

  /**
   * The token that was asked for, or null if there will be none. On a connection that stands it is shown at once.
   *
   * @param {number} now
   * @param {string | null} token
   */
  onToken(now, token) {
    credentials.onToken(this, now, token);
  }

  /**
   * The token could not be fetched this time.
   *
   * @param {number} now
   * @param {string} why
   */
  onNoToken(now, why) {
    credentials.onNoToken(this, now, why);
  }

  /**
   * The application asks for this. The answer comes as an output under the number returned.
   *
   * @param {Frame} body a command without its number
   * @throws {ImError} if it is refused before it is sent
   */
  onCommand(body) {
    this.check(body);
    if (body.t === 'unsubscribe') this.rooms.remove(body.room);
    if (body.t === 'refresh') this.identity.token = body.token;
    const id = this.flight.push(body, 'user');
    if (body.t === 'subscribe' || body.t === 'unsubscribe') {
      this.rooms.mayHold ||= body.t === 'subscribe';
      this.decisions.add(body.room, id);
      // They belong to what was asked before, which goes on only if it was answered and this is refused.
      if (!this.rooms.map.has(body.room)) this.early.take(body.room);
    }
    return id;
  }

  /** @param {Frame} body */
  check(body) {
    const { mid } = body;
    if (this.isEnded) {
      throw new ImError('closed', `the client has ended: ${this.cause.message}`, { code: this.cause.code, mid });
    }
    const isSend = body.t === 'send';
    const waiting = this.flight.count((other) => (other.t === 'send') === isSend);
    if (waiting >= (isSend ? this.config.maxUnsent : this.config.maxCommands)) {
      throw new ImError('full', `${waiting} commands wait for their answer already`, { mid });
    }
    if (body.t === 'signal' && this.phase !== 'online') {
      throw new ImError('offline', 'there is no connection now; a signal makes no sense later');
    }
    if ('content' in body) this.checkValue(body.content, mid);
    if (body.t === 'put_state') this.checkValue(body.value);
  }

  /**
   * A value that no server takes is refused here: on the wire it would cost the connection.
   *
   * @param {import('../wire/value.js').Value} value
   * @param {string} [mid]
   */
  checkValue(value, mid) {
    const { bytes, depth, values } = measure(value);
    const { content_bytes: mostBytes, depth: mostDepth, values: mostValues } = this.limits;
    /** @type {(code: number, message: string) => ImError} */
    const refusal = (code, message) => new ImError('invalid', message, { code, mid });
    if (bytes > mostBytes) throw refusal(Code.TooLarge, `the content has ${bytes} bytes; the server takes ${mostBytes}`);
    if (depth > mostDepth) throw refusal(Code.TooDeep, `the content nests ${depth} deep; the server takes ${mostDepth}`);
    // Half of what a message may have, so that what stands around the content finds room.
    const most = mostValues / 2;
    if (values > most) throw refusal(Code.TooMany, `the content has ${values} values; the server takes ${most}`);
  }

  /**
   * Ends the client. Commands that have no answer fail.
   *
   * @param {Cause} [cause]
   */
  end(cause = { code: Code.Closed, message: meaning(Code.Closed) }) {
    if (this.isEnded) return;
    if (this.hasConnection) this.outputs.push({ do: 'disconnect' });
    this.phase = 'ended';
    this.until = Infinity;
    this.online = undefined;
    this.cause = cause;
    for (const [id, { body }] of this.flight.end()) {
      const message = `the client has ended: ${cause.message}`;
      this.outputs.push({ do: 'reply', id, error: new ImError('closed', message, { code: cause.code, mid: body.mid }) });
    }
    this.events.push({ type: 'closed', ...cause });
  }

  /** When `onTime` is to be called, if nothing else happens before; `Infinity` if never. */
  get deadline() {
    if (this.online) return online.deadline(this, this.online);
    if (this.phase === 'renewing') return Math.min(this.until, this.credentials.until);
    return ['connecting', 'greeting', 'waiting'].includes(this.phase) ? this.until : Infinity;
  }

  /** @param {number} now */
  onTime(now) {
    if (this.online) return online.onTime(this, now, this.online);
    if (this.phase === 'renewing') return credentials.onTime(this, now);
    if (now < this.until) return;
    if (this.phase === 'waiting') this.start(now);
    else if (this.phase === 'connecting' || this.phase === 'greeting') {
      this.drop(now, { message: 'the server did not answer in time' });
    }
  }

  /**
   * The machine woke up, the page is shown again, or the network changed: finds out at once how things stand.
   *
   * @param {number} now
   */
  onWake(now) {
    if (this.phase === 'waiting') return this.start(now);
    if (this.phase === 'renewing' && !this.credentials.isFetching) return credentials.renew(this, now);
    if (!this.online) return;
    if (this.traits?.duplex) online.ping(this, now, this.online, this.config.wakeTimeoutMs);
    else this.outputs.push({ do: 'nudge' });
  }

  /**
   * Moves to another link that stands ready, in mid-stream: what has no answer is sent again there, and rooms go on from
   * their cursors.
   *
   * @param {number} now
   * @returns {boolean} false if it must not be now: something is under way that could not be repeated
   */
  onMove(now) {
    if (this.phase !== 'online' || !this.flight.isSafeToMove()) return false;
    this.cut(false, { message: 'moved to another connection' });
    this.online = undefined;
    this.traits = undefined;
    this.phase = 'connecting';
    this.until = now + this.config.connectTimeoutMs;
    return true;
  }

  /**
   * A message arrived.
   *
   * @param {number} now
   * @param {Message} message
   */
  onMessage(now, message) {
    online.onMessage(this, now, message);
  }

  /**
   * Something was heard from the server that is no message.
   *
   * @param {number} now
   */
  onHeard(now) {
    if (!this.online) return;
    this.online.heard = now;
    this.online.pingUntil = Infinity;
  }

  /**
   * Writes what is ready.
   *
   * @param {number} now
   */
  flush(now) {
    online.flush(this, now);
  }

  /**
   * Leaves the connection, for a reason of the client's own.
   *
   * @param {number} now
   * @param {Cause} cause
   */
  drop(now, cause) {
    this.outputs.push({ do: 'disconnect', cause });
    this.onLost(now, cause);
  }
}

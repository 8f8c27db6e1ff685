/**
 * The client without any I/O: input events in, actions out.
 *
 * A shell calls the `on…` methods with what happened and when, in milliseconds of a monotonic
 * clock, then reads `outputs` and `events` until there are none, and calls `onTime` at `deadline`.
 * Nothing here waits or reads a clock, so that tests need no network.
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

/** Limits until the server has announced its own: the servers' defaults. */
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
   * @param {() => number} setup.wallClock milliseconds since the Unix epoch, for the expiry of
   *   credentials only
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
    /** The generation of the server's state, if known. */
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
   * Starts, or tries again.
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
   * The connection is open: sends the greeting, and the resume of all rooms in the same message.
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
    // A slow greeting is not the fault of its content.
    const ours = given === 'fix' && cause.code !== Code.HandshakeTimeout;
    this.cut(ours && since !== undefined, cause);
    this.online = undefined;
    this.traits = undefined;
    this.phase = 'idle';
    if (since !== undefined && (now - since >= this.config.reconnect.stableMs || given === 'done')) this.backoff.reset();
    this.decide(now, cause, since !== undefined);
  }

  /**
   * Drops the connection's state: no more answers come.
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
   * Decides whether and when to reconnect.
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
        // A greeting that is invalid will be refused again; a slow one may be faster.
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
        // Another client uses this session, for example a page that was duplicated. Taking it back
        // would make both take turns forever. Subscriptions and unanswered sends do not depend on
        // the session.
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
   * Handles the requested token, or null if there will be none. On an open connection it is sent at
   * once.
   *
   * @param {number} now
   * @param {string | null} token
   */
  onToken(now, token) {
    credentials.onToken(this, now, token);
  }

  /**
   * Handles a failed fetch of a token.
   *
   * @param {number} now
   * @param {string} why
   */
  onNoToken(now, why) {
    credentials.onNoToken(this, now, why);
  }

  /**
   * Queues a call of the application. The answer comes as an output under the returned number.
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
      // These pushes belong to the earlier request, which counts only if it was answered and this
      // call is refused.
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
      throw new ImError('full', `${waiting} commands wait for their answers already`, { mid });
    }
    if (body.t === 'signal' && this.phase !== 'online') {
      throw new ImError('offline', 'there is no connection; an ephemeral message is not queued');
    }
    if ('content' in body) this.checkValue(body.content, mid);
    if (body.t === 'put_state') this.checkValue(body.value);
  }

  /**
   * Refuses a value that no server accepts: on the wire it would cost the connection.
   *
   * @param {import('../wire/value.js').Value} value
   * @param {string} [mid]
   */
  checkValue(value, mid) {
    const { bytes, depth, values } = measure(value);
    const { content_bytes: mostBytes, depth: mostDepth, values: mostValues } = this.limits;
    /** @type {(code: number, message: string) => ImError} */
    const refusal = (code, message) => new ImError('invalid', message, { code, mid });
    if (bytes > mostBytes) throw refusal(Code.TooLarge, `the content has ${bytes} bytes; the server's limit is ${mostBytes}`);
    if (depth > mostDepth) throw refusal(Code.TooDeep, `the content nests ${depth} deep; the server's limit is ${mostDepth}`);
    // Half of a message's limit, which leaves room for the frame around the content.
    const most = mostValues / 2;
    if (values > most) throw refusal(Code.TooMany, `the content has ${values} values; the limit is ${most}`);
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

  /** When `onTime` is due, if nothing else happens before; `Infinity` if never. */
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
   * The machine woke up, the page is shown again, or the network changed: checks the connection at
   * once.
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
   * Moves to another open link: unanswered commands are sent again there, and rooms continue from
   * their cursors.
   *
   * @param {number} now
   * @returns {boolean} false, without effect, while a non-idempotent command is in flight
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
   * Handles a message.
   *
   * @param {number} now
   * @param {Message} message
   */
  onMessage(now, message) {
    online.onMessage(this, now, message);
  }

  /**
   * Records a sign of life of the server that is no message.
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
   * Ends the connection, for a reason of the client's own.
   *
   * @param {number} now
   * @param {Cause} cause
   */
  drop(now, cause) {
    this.outputs.push({ do: 'disconnect', cause });
    this.onLost(now, cause);
  }
}

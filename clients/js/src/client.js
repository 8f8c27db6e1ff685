import { configOf } from './config.js';
import { Emitter } from './emitter.js';
import { ImError } from './error.js';
import { Handles } from './handles.js';
import { checkId, messageId } from './ids.js';
import { Room } from './room.js';
import { WireError, toValue } from './wire/value.js';

/**
 * @typedef {import('./core/types.js').ClientEvent} ClientEvent
 * @typedef {import('./core/types.js').AppendAck} AppendAck
 * @typedef {import('./core/types.js').Cause} Cause
 * @typedef {import('./links/link.js').Transport} Transport
 * @typedef {import('./wire/value.js').Frame} Frame
 */

/**
 * - `connecting`: for the first time
 * - `online`
 * - `waiting`: the connection was lost; the client reconnects by itself
 * - `closed`: ended
 *
 * @typedef {'connecting' | 'online' | 'waiting' | 'closed'} Status
 */

/**
 * The state of the connection: its transport while online, otherwise why it ended and the
 * milliseconds until the next try.
 *
 * @typedef {{status: Status, transport?: string, code?: number, message?: string, retryInMs?: number}}
 *   StatusChange
 */

/**
 * `kind`: 1 to 32 characters, `message` by default. `mid`: the application's own idempotency key,
 * so that a retry after a restart of the application is recognised as a duplicate; it needs at
 * least 96 random bits.
 *
 * @typedef {{kind?: string, mid?: string}} SendOptions
 */

/**
 * A room, the direct room with a user, or a user's own room.
 *
 * @typedef {{room: string} | {peer: string} | {to: string}} Target
 */

/**
 * Events of a client:
 *
 * - `status`
 * - `event`, `signal`: of any room
 * - `ack`: a message of an earlier load of the page (see `storage`) was stored by the server
 * - `error`: such a message was refused for good, or a value could not be written to the storage
 *
 * @typedef {{status: StatusChange, event: import('./core/rooms.js').RoomEvent, signal: Frame,
 *   ack: AppendAck & {mid: string}, error: unknown}} ClientEvents
 */

/**
 * One user on one device, across connections. Commands wait while there is no connection, and are
 * carried out on the next one.
 *
 * @extends {Emitter<ClientEvents>}
 */
export class Client extends Emitter {
  /**
   * @param {object} setup from `connect`
   * @param {import('./config.js').ConfigOptions} [setup.config]
   * @param {import('./storage.js').PersistentStore} [setup.store]
   */
  constructor({ config, store }) {
    super();
    this.config = configOf(config);
    this.store = store;
    /** @type {Status} */
    this.status = 'connecting';
    /** The user id, once the server has confirmed it. @type {string | undefined} */
    this.user = undefined;
    this.handles = new Handles();
    /** @type {import('./shell.js').Shell | undefined} */
    this.shell = undefined;
    /** @type {(() => void)[]} */
    this.atClose = [];
    /** Whether this tab holds the connection. */
    this.isLeader = () => true;
  }

  /**
   * Starts to run on this shell.
   *
   * @param {import('./shell.js').Shell} shell
   */
  begin(shell) {
    this.shell = shell;
    for (const send of this.store?.sends() ?? []) this.sendAgain(send);
    shell.start();
  }

  /**
   * The transport in use: `ws`, `sse`, `poll`, `short`, or `tab` where another tab holds the
   * connection.
   */
  get transport() {
    return this.status === 'online' ? this.shell?.transport : undefined;
  }

  /**
   * Returns the handle to a room. It is the same one for the same id as long as the room is
   * subscribed, or the application holds the handle or listens to it.
   *
   * @param {string} id
   * @throws {ImError} `invalid`
   */
  room(id) {
    const known = this.handles.get(id);
    if (known) return known;
    const room = new Room(this, id);
    this.handles.add(room);
    return room;
  }

  /**
   * Waits until the client is online.
   *
   * @throws {ImError} `closed`
   */
  async online() {
    while (this.status !== 'online') {
      if (this.status === 'closed') throw this.closedError();
      await this.once('status');
    }
  }

  /**
   * Sends a message, and waits for its ack. The message is stored once, also if the connection
   * breaks meanwhile.
   *
   * @param {Target} target
   * @param {unknown} content any value
   * @param {SendOptions} [options]
   * @returns {Promise<AppendAck>}
   * @throws {ImError} its `mid` is the id under which to retry
   */
  async send(target, content, { kind = 'message', mid = messageId() } = {}) {
    checkTarget(target);
    checkId('message', mid);
    checkId('event kind', kind);
    const body = { t: 'send', ...target, mid, kind, content: this.value(content) };
    return /** @type {any} */ (await this.persistedSend(body, true));
  }

  /**
   * @param {Frame} body
   * @param {boolean} isNew
   */
  async persistedSend(body, isNew) {
    const answer = this.command(body);
    if (isNew) this.store?.storeSend(body);
    try {
      const ack = await answer;
      this.store?.dropSend(body.mid);
      return ack;
    } catch (error) {
      // After a close, the next client sends it.
      if (error instanceof ImError && error.kind !== 'closed') this.store?.dropSend(body.mid);
      throw error;
    }
  }

  /** @param {Frame} send */
  async sendAgain(send) {
    try {
      const ack = await this.persistedSend(send, false);
      this.emit('ack', /** @type {any} */ ({ ...ack, mid: send.mid }));
    } catch (error) {
      if (error instanceof ImError && error.kind === 'closed') return;
      this.emit('error', error);
    }
  }

  /**
   * Sends an ephemeral message to the recipients that are connected now, at most once.
   *
   * @param {Target} target
   * @param {string} kind
   * @param {unknown} [content]
   * @throws {ImError} `offline` without a connection
   */
  async signal(target, kind, content = null) {
    checkTarget(target);
    await this.command({ t: 'signal', ...target, kind: checkId('event kind', kind), content: this.value(content) });
  }

  /**
   * Returns a page of the user's rooms, in the order of their ids.
   *
   * @param {{after?: string, limit?: number}} [page]
   * @returns {Promise<{list: {room: string, kind: string, role: import('./room.js').Role}[], more:
   *   boolean}>}
   */
  async rooms({ after, limit } = {}) {
    return /** @type {any} */ (await this.command({ t: 'rooms', after, limit }));
  }

  /**
   * @returns {Promise<{session: string, device: string, since: number, connected: boolean}[]>} the
   *   user's sessions
   */
  async sessions() {
    return (await this.command({ t: 'sessions' })).sessions;
  }

  /**
   * Ends another of the user's sessions for good.
   *
   * @param {string} session
   */
  async kick(session) {
    await this.command({ t: 'kick', session: checkId('session', session) });
  }

  /**
   * Sends new credentials before the old ones expire. Not needed with a function as `token`: the
   * client then does it.
   *
   * @param {string} token
   */
  async refresh(token) {
    await this.command({ t: 'refresh', token });
  }

  /** @returns {Promise<number>} the server's time, in milliseconds since the Unix epoch */
  async ping() {
    return (await this.command({ t: 'ping' })).now;
  }

  /** Ends the session for good, and the client with it. */
  async logout() {
    await this.command({ t: 'logout' });
    this.store?.keepSession(undefined);
  }

  /** Ends the client; the session can be resumed. Commands without an answer fail as `closed`. */
  close() {
    this.shell?.close();
  }

  /**
   * Carries out a command of wire/SPEC.md.
   *
   * @param {Frame} body without its number
   * @returns {Promise<Frame>} the fields of the answer
   * @throws {ImError}
   */
  async command(body) {
    if (!this.shell) throw new ImError('closed', 'the client has not started');
    const present = Object.fromEntries(Object.entries(body).filter(([, value]) => value !== undefined));
    const { t: _, id: __, ...fields } = await this.shell.command(/** @type {Frame} */ (present));
    return fields;
  }

  /**
   * @param {unknown} content
   * @throws {ImError} `invalid`
   */
  value(content) {
    try {
      return toValue(content);
    } catch (error) {
      if (error instanceof WireError) throw new ImError('invalid', error.message, { code: error.code });
      throw error;
    }
  }

  /** @param {string} room */
  cursor(room) {
    return this.shell?.machine.rooms.cursor(room);
  }

  closedError() {
    const { code, message } = this.shell?.machine.cause ?? { message: '' };
    return new ImError('closed', `the client has ended: ${message}`, { code });
  }

  /** @param {ClientEvent} event */
  onEvent(event) {
    switch (event.type) {
      case 'event':
        this.handles.get(event.event.room)?.onEvent(event.event);
        return this.emit('event', event.event);
      case 'signal':
        this.handles.get(event.signal.room)?.emit('signal', /** @type {any} */ (event.signal));
        return this.emit('signal', event.signal);
      case 'state':
        return this.handles.get(event.update.room)?.onState(event.update);
      case 'stale':
        return this.handles.get(event.update.room)?.emit('stale', event.update);
      case 'snapshot':
        return this.handles.get(event.room)?.onSnapshot(event.entries);
      case 'room':
        return this.handles.get(event.status.room)?.onStatus(event.status);
      case 'connected': {
        const { session, secret, user } = event.welcome;
        this.user = user;
        this.store?.keepSession({ session, secret });
        return this.change({ status: 'online', transport: this.shell?.transport });
      }
      case 'disconnected':
        return this.change({ status: 'waiting', code: event.code, message: event.message, retryInMs: event.retryInMs });
      case 'closed': {
        this.change({ status: 'closed', code: event.code, message: event.message });
        const byItself = event.code !== 4000;
        for (const room of [...this.handles.held.values()]) room.end(byItself ? this.closedError() : undefined);
        for (const act of this.atClose.splice(0)) act();
      }
    }
  }

  /** @param {StatusChange} change */
  change(change) {
    this.status = change.status;
    this.emit('status', change);
  }
}

/** @param {Target} target */
function checkTarget(target) {
  if ('room' in target) checkId('room', target.room);
  else if ('peer' in target) checkId('user', target.peer);
  else checkId('user', target.to);
}

import { Emitter } from './emitter.js';
import { checkId } from './ids.js';
import { EventIterator } from './event-iterator.js';

/**
 * @typedef {import('./client.js').Client} Client
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').RoomStatus} RoomStatus
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 * @typedef {import('./core/types.js').AppendAck} AppendAck
 * @typedef {import('./wire/value.js').Value} Value
 */

/** @typedef {'reader' | 'member' | 'moderator' | 'owner'} Role */

/**
 * A change of a state key; `value` is absent if the key was removed.
 *
 * @typedef {{key: string, value?: Value, from?: string, stamp?: string}} StateChange
 */

/** @typedef {{room: string, from: string, at: number, kind: string, content: Value}} Signal */

/**
 * A page of a room's log. `head` is the last event of the log, `first` the first retained, `more`
 * says whether the log continues in that direction.
 *
 * @typedef {{epoch: string, head: number, first?: number, events: RoomEvent[], more: boolean}}
 *   HistoryPage
 */

/**
 * Events of a room:
 *
 * - `event`: a durable event, each once and in order, including changes of members (kind
 *   `im.members`)
 * - `message`: the same for events of the kind `message` alone
 * - `signal`: an ephemeral message
 * - `state`: a key of the room's state has changed
 * - `stale`: an update that is not newer than the held value was dropped; for counting, not for
 *   display
 * - `status`: `gap` (history was trimmed), `reset` (the epoch changed or the tail was lost: drop
 *   what you have of the room) or `denied` (access was lost, and the subscription has ended)
 *
 * @typedef {{event: RoomEvent, message: RoomEvent, signal: Signal, state: StateChange, stale:
 *   StateChange, status: RoomStatus}} RoomEvents
 */

/**
 * A handle to a room. Handles are cheap. The client holds one as long as the room is subscribed, or
 * the handle has listeners or iterators; any other one is released when the application drops it.
 *
 * @extends {Emitter<RoomEvents>}
 */
export class Room extends Emitter {
  /**
   * @param {Client} client
   * @param {string} id
   */
  constructor(client, id) {
    super();
    this.client = client;
    this.id = checkId('room', id);
    /**
     * The newest value of each state key, while the room is subscribed. Read-only.
     *
     * @type {Map<string, Value>}
     */
    this.state = new Map();
    /** @type {Promise<RoomStatus> | undefined} */
    this.subscribing = undefined;
    /** @type {Set<EventIterator>} */
    this.iterators = new Set();
  }

  /** Whether the client must keep this handle for the application. */
  get isInUse() {
    return this.cursor !== undefined || this.subscribing !== undefined || this.iterators.size > 0 || this.listeners.size > 0;
  }

  /**
   * Calls `listener` from now on.
   *
   * @template {keyof RoomEvents} Name
   * @param {Name} name
   * @param {(event: RoomEvents[Name]) => void} listener
   * @returns {() => void} stops it
   * @override
   */
  on(name, listener) {
    const stop = super.on(name, listener);
    this.client.handles.settle(this);
    return () => {
      stop();
      this.client.handles.settle(this);
    };
  }

  /** The cursor: the last event that was delivered; undefined if the room is not subscribed. */
  get cursor() {
    return this.client.cursor(this.id);
  }

  /**
   * Subscribes to the room, from a cursor or from its head. The subscription lasts across
   * connections. A room that is subscribed already, or about to be, stays as it is. Of several
   * calls of `subscribe` and `unsubscribe` the last one wins, in whatever order answers come.
   *
   * @param {{since?: Cursor}} [from] an earlier `room.cursor`
   * @returns {Promise<RoomStatus>} its `cursor` is the starting position: the first event is the
   *   next one after it
   * @throws {import('./error.js').ImError} `refused`, for a room that does not exist or without
   *   access to it
   */
  subscribe({ since } = {}) {
    const cursor = this.cursor;
    if (cursor) return Promise.resolve({ room: this.id, status: 'ok', epoch: cursor.epoch, cursor: cursor.seq });
    return this.subscribing ?? this.requestSubscription(since);
  }

  /** @param {Cursor | undefined} since */
  requestSubscription(since) {
    const body = { t: 'subscribe', room: this.id, epoch: since?.epoch, since: since?.seq };
    /** @type {Promise<RoomStatus>} */
    const subscribing = this.client
      .command(body)
      .then((reply) => reply.rooms.find((/** @type {RoomStatus} */ status) => status.room === this.id))
      .finally(() => {
        // `unsubscribe` and another `subscribe` may have been called in between.
        if (this.subscribing === subscribing) this.subscribing = undefined;
        this.client.handles.settle(this);
      });
    this.subscribing = subscribing;
    this.client.handles.settle(this);
    return subscribing;
  }

  /** Unsubscribes from the room. Its iterators end. */
  async unsubscribe() {
    this.subscribing = undefined;
    this.end();
    const answer = this.client.command({ t: 'unsubscribe', room: this.id });
    this.client.handles.settle(this);
    await answer;
  }

  /**
   * Sends a message, and waits for its ack. The message is stored once, also if the connection
   * breaks meanwhile. Messages sent one after the other are stored in that order, also if the
   * server refuses some of them retryably: later ones to the same room wait for the retry.
   *
   * @param {unknown} content any value, for example `{text: 'hello'}`
   * @param {import('./client.js').SendOptions} [options]
   * @returns {Promise<AppendAck>}
   * @throws {import('./error.js').ImError}
   */
  send(content, options) {
    return this.client.send({ room: this.id }, content, options);
  }

  /**
   * Sends an ephemeral message to the current subscribers, at most once.
   *
   * @param {string} kind for example `typing`
   * @param {unknown} [content]
   * @throws {import('./error.js').ImError} `offline` without a connection
   */
  signal(kind, content = null) {
    return this.client.signal({ room: this.id }, kind, content);
  }

  /**
   * Returns a page of the room's log: after a seq, oldest first, or before one, newest first.
   * Without either, the newest.
   *
   * @param {{after?: number, before?: number, limit?: number, epoch?: string}} [page] with `epoch`,
   *   the page is returned only if that is still the room's epoch
   * @returns {Promise<HistoryPage>}
   * @throws {import('./error.js').ImError}
   */
  async history({ after, before, limit, epoch } = {}) {
    return /** @type {any} */ (await this.client.command({ t: 'history', room: this.id, epoch, after, before, limit }));
  }

  /**
   * Iterates over the room's events from now on, or from an earlier cursor. Subscribes to the room.
   * Each event comes once and in order; a slow loop catches up from history.
   *
   * @param {{since?: Cursor}} [from]
   * @returns {AsyncIterableIterator<RoomEvent>}
   */
  events({ since } = {}) {
    /** @type {EventIterator} */
    const iterator = new EventIterator(
      {
        begin: async () => {
          const { epoch, cursor } = await this.subscribe({ since });
          const begins = epoch === undefined || cursor === undefined ? undefined : { epoch, seq: cursor };
          return since && since.epoch === epoch ? since : begins;
        },
        cursor: () => this.cursor,
        after: (cursor) => this.history({ after: cursor.seq, epoch: cursor.epoch, limit: 200 }),
        end: () => {
          this.iterators.delete(iterator);
          this.client.handles.settle(this);
        },
      },
      this.client.config.maxQueued,
    );
    this.iterators.add(iterator);
    this.client.handles.settle(this);
    return iterator;
  }

  [Symbol.asyncIterator]() {
    return this.events();
  }

  /**
   * Creates the room; the caller becomes its owner. After `unknown` (the connection was cut before
   * the answer) call again: the ack says `duplicate` if the caller has already created the same
   * room.
   *
   * @param {{kind?: 'group' | 'channel', open?: boolean, members?: string[]}} [options]
   * @returns {Promise<AppendAck>}
   * @throws {import('./error.js').ImError} `unknown`; `refused` with 4523 if the room has another
   *   owner or other properties, 4521 if the id is taken
   */
  create({ kind, open, members } = {}) {
    return this.ack({ t: 'create', room: this.id, kind, open, members });
  }

  /** Joins the room. */
  join() {
    return this.ack({ t: 'join', room: this.id });
  }

  /** Leaves the room. */
  leave() {
    return this.ack({ t: 'leave', room: this.id });
  }

  /**
   * Changes another user's membership.
   *
   * @param {string} user
   * @param {'add' | 'remove' | 'ban' | 'unban'} act
   * @param {{role?: Role}} [options] for `add`
   */
  member(user, act, { role } = {}) {
    return this.ack({ t: 'member', room: this.id, user: checkId('user', user), act, role });
  }

  /**
   * Returns a page of the room's members, in the order of their ids.
   *
   * @param {{after?: string, limit?: number}} [page]
   * @returns {Promise<{members: {user: string, role: Role}[], more: boolean}>}
   */
  async members({ after, limit } = {}) {
    return /** @type {any} */ (await this.client.command({ t: 'members', room: this.id, after, limit }));
  }

  /**
   * Puts a value under a state key.
   *
   * @param {string} key
   * @param {unknown} value
   * @param {{stamp?: string}} [options]
   * @returns {Promise<string>} its stamp
   */
  async putState(key, value, { stamp } = {}) {
    const body = { t: 'put_state', room: this.id, key: checkId('state key', key), value: this.client.value(value), stamp };
    return (await this.client.command(body)).stamp;
  }

  /**
   * Removes the value of a state key.
   *
   * @param {string} key
   * @param {{stamp?: string}} [options]
   * @returns {Promise<string>} its stamp
   */
  async removeState(key, { stamp } = {}) {
    return (await this.client.command({ t: 'remove_state', room: this.id, key: checkId('state key', key), stamp })).stamp;
  }

  /** @param {import('./wire/value.js').Frame} body */
  async ack(body) {
    return /** @type {AppendAck} */ (await this.client.command(body));
  }

  /** @param {RoomEvent} event */
  onEvent(event) {
    for (const iterator of this.iterators) iterator.push(event);
    this.emit('event', event);
    if (event.kind === 'message') this.emit('message', event);
  }

  /** @param {import('./core/latest.js').StateUpdate} update */
  onState({ key, value, from, stamp }) {
    if (value === undefined) this.state.delete(key);
    else this.state.set(key, value);
    this.emit('state', value === undefined ? { key, from, stamp } : { key, value, from, stamp });
  }

  /** @param {import('./core/latest.js').StateUpdate[]} entries all of the room's state */
  onSnapshot(entries) {
    const keys = new Set(entries.map(({ key }) => key));
    for (const key of [...this.state.keys()]) {
      if (keys.has(key)) continue;
      this.state.delete(key);
      this.emit('state', { key });
    }
    for (const entry of entries) this.onState(entry);
  }

  /** @param {RoomStatus} status */
  onStatus(status) {
    const { epoch, cursor } = status;
    if (status.status === 'denied' || epoch === undefined || cursor === undefined) this.end();
    else for (const iterator of this.iterators) iterator.jump({ epoch, seq: cursor });
    this.emit('status', status);
    this.client.handles.settle(this);
  }

  /** @param {Error} [error] */
  end(error) {
    for (const iterator of [...this.iterators]) iterator.finish(error);
    this.state.clear();
  }
}

/**
 * A bounded queue of a room's events, for `for await`.
 *
 * @typedef {import('./core/rooms.js').RoomEvent} RoomEvent
 * @typedef {import('./core/rooms.js').Cursor} Cursor
 */

/**
 * Delivers each event once, in order. If the application falls behind by more than the queue holds,
 * the queue is dropped and the missing events are read from the room's history: nothing is lost,
 * and memory is bounded.
 *
 * @implements {AsyncIterableIterator<RoomEvent>}
 */
export class EventIterator {
  /**
   * @param {object} room
   * @param {() => Promise<Cursor | undefined>} room.begin subscribes to the room; returns the
   *   starting cursor
   * @param {() => Cursor | undefined} room.cursor the client's cursor
   * @param {(cursor: Cursor) => Promise<{events: RoomEvent[], more: boolean}>} room.after a page of
   *   history
   * @param {() => void} room.end
   * @param {number} max events in the queue
   */
  constructor(room, max) {
    this.room = room;
    this.max = max;
    /** @type {RoomEvent[]} */
    this.queue = [];
    /**
     * @type {Cursor | undefined} The last event that was taken from the queue, or the starting
     *   cursor.
     */
    this.taken = undefined;
    /**
     * @type {Cursor | undefined} The last event that was added to the queue, or the starting
     *   cursor.
     */
    this.last = undefined;
    this.isCatchingUp = false;
    this.isDone = false;
    /** @type {Error | undefined} */
    this.error = undefined;
    /** @type {(() => void) | undefined} */
    this.wake = undefined;
    // At once, not with the first `next`: events in between belong to the iterator already.
    this.begun = this.begin();
    /**
     * @type {Promise<unknown>} Settles when the previous `next` is done; failures are reported by
     *   `take`.
     */
    this.turn = this.begun.catch(() => {});
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** @param {RoomEvent} event the next one of the room */
  push(event) {
    if (this.isDone || this.isCatchingUp) return;
    if (this.last && event.epoch === this.last.epoch && event.seq <= this.last.seq) return;
    if (this.queue.length >= this.max) {
      this.queue = [];
      this.last = this.taken;
      this.isCatchingUp = true;
    } else {
      this.add(event);
    }
    this.wake?.();
  }

  /** @param {RoomEvent} event */
  add(event) {
    // The starting cursor is the event before the first one.
    this.taken ??= { epoch: event.epoch, seq: event.seq - 1 };
    this.last = { epoch: event.epoch, seq: event.seq };
    this.queue.push(event);
  }

  /**
   * Continues at another cursor of the room.
   *
   * @param {Cursor} cursor
   */
  jump(cursor) {
    if (this.taken?.epoch !== cursor.epoch) {
      this.queue = [];
      this.taken = cursor;
      this.isCatchingUp = false;
    }
    this.last = cursor;
    this.wake?.();
  }

  /** @param {Error} [error] */
  finish(error) {
    if (this.isDone) return;
    this.isDone = true;
    this.error = error;
    this.room.end();
    this.wake?.();
  }

  /** @returns {Promise<IteratorResult<RoomEvent>>} */
  next() {
    // Concurrent calls get one event each, in order.
    const next = this.turn.then(() => this.take());
    this.turn = next.catch(() => {});
    return next;
  }

  /** @returns {Promise<IteratorResult<RoomEvent>>} */
  async take() {
    await this.begun;
    for (;;) {
      const event = this.queue.shift();
      if (event) {
        this.taken = { epoch: event.epoch, seq: event.seq };
        return { done: false, value: event };
      }
      if (this.error) throw this.error;
      if (this.isDone) return { done: true, value: undefined };
      if (this.isCatchingUp) await this.catchUp();
      else await new Promise((resolve) => (this.wake = () => resolve(undefined)));
    }
  }

  async begin() {
    const cursor = await this.room.begin();
    this.taken ??= cursor;
    this.last ??= cursor;
    const now = this.room.cursor();
    // The application asked for events before the client's cursor.
    if (cursor && now && this.queue.length === 0 && now.epoch === cursor.epoch && now.seq > cursor.seq) this.isCatchingUp = true;
  }

  /** Fetches the dropped events, until they meet the queue. */
  async catchUp() {
    const { taken } = this;
    if (!taken) return void (this.isCatchingUp = false);
    const { events } = await this.room.after(taken);
    // Meanwhile the room's epoch may have changed, or the subscription ended.
    if (!this.isCatchingUp || this.isDone) return;
    for (const event of events) {
      if (event.epoch === this.last?.epoch && event.seq > this.last.seq) this.add(event);
    }
    const now = this.room.cursor();
    const met = !now || now.epoch !== this.last?.epoch || this.last.seq >= now.seq;
    if (met || events.length === 0) this.isCatchingUp = false;
  }

  /** @returns {Promise<IteratorResult<RoomEvent>>} */
  async return() {
    this.finish();
    this.queue = [];
    return { done: true, value: undefined };
  }
}

// One room without gaps: spliced history and live events, and an outbox that loses nothing.

import { Lost, Refused, newId } from "./connection.js";
import { nameKey, readable, reportedName } from "./names.js";

const PAGE = 50;
const MOST_AHEAD = 500; // events kept while a gap before them is being repaired
const TYPING_MS = 2_500; // shortest time between two signals
const NOT_FOUND = 4520;
const FORBIDDEN = 4521;
const EXISTS = 4523;

/**
 * Subscribes to `name` over a connection (see `attach`). The callbacks are functions of `on`:
 * `clear()`; `events(list)` in order, to append; `older(list)` in order, to prepend;
 * `outbox(entries)`, the pending messages; `typing(user, name)`; `named(user, name)`;
 * `note(words)`; `denied(words)`.
 */
export class Room {
  #name; #on; #connection;
  #cursor = null; // the last event shown: {epoch, seq}
  #oldest = null; // the seq of the first event shown
  #ahead = new Map(); // events beyond a gap, by seq
  #repairing = false;
  #outbox = []; // messages without their event: {mid, text, name, at, acked?, failed?}
  #flushing = false;
  #inside = false;
  #typed = 0;

  /** Whether older events exist. */
  more = false;
  /** Our user; known after the first hello. */
  me = null;

  constructor(name, on) {
    this.#name = name;
    this.#on = on;
  }

  attach(connection) {
    this.#connection = connection;
  }

  /** After each hello: join, catch up, and send the outbox. */
  async enter(welcome) {
    if (this.me === null) {
      this.me = welcome.user;
      const left = JSON.parse(sessionStorage.getItem(this.#storageKey()) ?? "[]"); // by this tab, before a reload
      this.#outbox.unshift(...left);
      this.#outboxChanged();
    }
    this.#ahead.clear();
    if (this.#cursor && welcome.resumed) {
      const { epoch, seq } = this.#cursor;
      const reply = await this.#ask("resume", { cursors: [[this.#name, epoch, seq]] });
      await this.#status(reply.rooms[0]);
    } else {
      await this.#join();
      await (this.#cursor ? this.#subscribe() : this.#load());
    }
    this.#inside = true;
    this.#flush(); // not awaited: it may take long
  }

  /** The connection is lost; the next hello calls `enter` again. */
  pause() {
    this.#inside = false;
  }

  push(frame) {
    if (frame.room !== this.#name) return;
    if (frame.t === "event") this.#event(frame);
    else if (frame.t === "room") this.#later(this.#status(frame));
    else if (frame.t === "state") this.#named([frame]);
    else if (frame.t === "snapshot") this.#named(frame.entries);
    else if (frame.t === "signal" && frame.kind === "typing" && frame.from !== this.me) {
      this.#on.typing(frame.from, frame.content?.name);
    }
  }

  /** Sends a text. It stays in the outbox until its own event is delivered. */
  send(text, name) {
    this.#outbox.push({ mid: newId(), text, name, at: Date.now() });
    this.#typed = 0;
    this.#outboxChanged();
    this.#flush();
  }

  /** Retries a refused message under the same id. */
  retry(mid) {
    for (const entry of this.#outbox) if (entry.mid === mid) delete entry.failed;
    this.#outboxChanged();
    this.#flush();
  }

  discard(mid) {
    this.#outbox = this.#outbox.filter((entry) => entry.mid !== mid);
    this.#outboxChanged();
  }

  /** Sends the others an ephemeral message that we type. */
  typing(name) {
    if (!this.#inside || Date.now() - this.#typed < TYPING_MS) return;
    this.#typed = Date.now();
    const told = this.#ask("signal", { room: this.#name, kind: "typing", content: { name } });
    told.catch(() => {}); // a failure is ignored
  }

  /** Stores the name that was typed, if the id does not show it. */
  tellName(name) {
    if (name === readable(this.me)) return;
    const told = this.#ask("put_state", { room: this.#name, key: nameKey(this.me), value: name });
    told.catch(() => {}); // then others see the id, until a message contains the name
  }

  #named(entries) {
    for (const { user, name } of entries.map(reportedName).filter(Boolean)) this.#on.named(user, name);
  }

  /** Fetches the page before the oldest event shown. Returns whether there was one. */
  async older() {
    if (!this.#inside || !this.more || !this.#cursor) return false;
    const { epoch } = this.#cursor;
    const page = await this.#ask("history", { room: this.#name, epoch, before: this.#oldest, limit: PAGE });
    if (epoch !== this.#cursor?.epoch) return false;
    this.#oldest = page.events.at(-1)?.seq ?? this.#oldest;
    this.more = page.more;
    this.#on.older(page.events.reverse());
    return true;
  }

  /** The first events are no longer shown and can be fetched again. */
  hasGap(seq) {
    this.#oldest = seq;
    this.more = true;
  }

  /** Leaves. A sole owner makes another member an owner first: a room with members has an owner. */
  async leave() {
    const leave = () => this.#ask("leave", { room: this.#name });
    try {
      await leave();
    } catch (error) {
      if (error.code !== FORBIDDEN) throw error;
      const { members } = await this.#ask("members", { room: this.#name, limit: 2 });
      const other = members.find(({ user }) => user !== this.me);
      if (!other) throw error;
      await this.#ask("member", { room: this.#name, user: other.user, act: "add", role: "owner" });
      await leave();
    }
  }

  #ask(t, fields) {
    return this.#connection.request(t, fields);
  }

  /** Runs in the background: the next `enter` repairs a loss, a refusal is shown. */
  #later(promise) {
    promise.catch((error) => {
      if (error instanceof Refused) this.#on.note(error.message);
      else if (!(error instanceof Lost)) throw error;
    });
  }

  /** Joins; creates the room, open to all, if it does not exist. */
  async #join() {
    const join = () => this.#ask("join", { room: this.#name });
    try {
      await join();
    } catch (error) {
      if (error.code !== NOT_FOUND) throw error;
      try {
        await this.#ask("create", { room: this.#name, kind: "group", open: true });
      } catch (error) {
        if (error.code !== EXISTS) throw error; // another user created it first
        await join();
      }
    }
  }

  /** Shows the newest page and subscribes from its head: later events are pushed, so none is missed. */
  async #load() {
    const page = await this.#ask("history", { room: this.#name, limit: PAGE });
    const events = page.events.reverse();
    this.#cursor = { epoch: page.epoch, seq: events.at(-1)?.seq ?? page.head };
    this.#oldest = events[0]?.seq ?? page.head + 1;
    this.more = page.more;
    this.#on.clear();
    this.#show(events);
    await this.#subscribe();
  }

  async #subscribe() {
    const { epoch, seq } = this.#cursor;
    const reply = await this.#ask("subscribe", { room: this.#name, epoch, since: seq });
    await this.#status(reply.rooms[0]);
  }

  /** Handles the status of the subscription. */
  async #status({ status, epoch, cursor, code }) {
    if (status === "gap") {
      this.#cursor = { epoch, seq: cursor };
      this.#on.note("Some messages in between are no longer kept.");
    } else if (status === "reset") {
      this.#cursor = null; // another epoch: the events shown are not part of it
      await this.#ask("unsubscribe", { room: this.#name });
      await this.#load();
    } else if (status === "denied") {
      this.#inside = false;
      this.#on.denied(code === 4522 ? "You are banned from this room." : "You are no longer in this room.");
    }
  }

  /** Applies only the next event: drops redelivered ones, and repairs gaps from history. */
  #event(event) {
    if (event.epoch !== this.#cursor?.epoch || event.seq <= this.#cursor.seq) return;
    if (event.seq > this.#cursor.seq + 1) {
      if (this.#ahead.size < MOST_AHEAD) this.#ahead.set(event.seq, event);
      this.#later(this.#repairGap());
      return;
    }
    const list = [];
    for (let next = event; next; next = this.#ahead.get(this.#cursor.seq + 1)) {
      this.#ahead.delete(next.seq);
      this.#cursor.seq = next.seq;
      list.push(next);
    }
    this.#show(list);
  }

  async #repairGap() {
    if (this.#repairing) return;
    this.#repairing = true;
    try {
      for (let more = true; more || this.#ahead.size > 0; ) {
        const { epoch, seq } = this.#cursor;
        const page = await this.#ask("history", { room: this.#name, epoch, after: seq, limit: PAGE });
        // The store does not have the next one: show the newest page.
        if (page.events[0]?.seq !== seq + 1) return await this.#load();
        page.events.forEach((event) => this.#event(event));
        more = page.more;
      }
    } finally {
      this.#repairing = false;
      this.#ahead.clear();
    }
  }

  #show(events) {
    const mine = new Set(events.filter((event) => event.from === this.me).map((event) => event.mid));
    const left = this.#outbox.filter((entry) => !mine.has(entry.mid));
    this.#on.events(events);
    if (left.length < this.#outbox.length) {
      this.#outbox = left;
      this.#outboxChanged();
    }
  }

  #outboxChanged() {
    // Acknowledged messages are durable; only the rest has to survive a reload.
    const left = JSON.stringify(this.#outbox.filter((entry) => !entry.acked));
    if (this.me !== null) sessionStorage.setItem(this.#storageKey(), left);
    this.#on.outbox(this.#outbox);
  }

  #storageKey() {
    return `im.outbox.${this.me}.${this.#name}`;
  }

  /** Sends one after the other, so that they are stored in the order in which they were written. */
  async #flush() {
    if (this.#flushing) return;
    this.#flushing = true;
    try {
      for (let entry; this.#inside && (entry = this.#outbox.find((e) => !e.acked && !e.failed)); ) {
        await this.#deliver(entry);
      }
    } finally {
      this.#flushing = false;
    }
  }

  async #deliver(entry) {
    const { mid, text, name } = entry;
    try {
      const { epoch, seq } = await this.#ask("send", { room: this.#name, mid, content: { text, name } });
      entry.acked = true;
      // A duplicate of a message shown long ago: no event will follow.
      if (epoch === this.#cursor?.epoch && seq <= this.#cursor.seq) this.discard(mid);
    } catch (error) {
      if (error instanceof Lost) return this.pause(); // the message is sent again after the next hello
      if (!(error instanceof Refused)) throw error;
      if (error.passing) return wait((error.retryMs ?? 500) * (1 + Math.random() / 2));
      entry.failed = error.message;
    }
    this.#outboxChanged();
  }
}

function wait(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

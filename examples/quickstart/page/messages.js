// The list of messages on the page: rows, days, names, and the scroll position.

import { initial, readable } from "./names.js";

const TOGETHER_MS = 5 * 60_000; // messages of one user within this time share one name
const MOST_ROWS = 1_000; // older rows are dropped while the end is in view; they can be fetched again
const NEAR_END_PX = 80;
const NEAR_TOP_PX = 200;

/** Shows events in `list` and pending messages in `outbox`. `on.top()` is called when older rows are wanted. */
export class Messages {
  #ui; #on; #me = null;
  #rows = []; // {event, li} in the order of the log
  #names = new Map(); // user → the name that they sent last
  #atEnd = true;
  #unseen = 0;
  #loading = false;
  #more = false;
  #scrolled = () => this.#onScroll();
  #resized = new ResizeObserver(() => this.#atEnd && this.toEnd());

  constructor({ on, ...ui }) {
    this.#ui = ui;
    this.#on = on;
    ui.scroller.addEventListener("scroll", this.#scrolled, { passive: true });
    ui.latest.onclick = () => this.toEnd();
    this.#resized.observe(ui.scroller);
    this.clear();
    this.outbox([]);
  }

  /** Releases the lists for another room. */
  end() {
    this.#ui.scroller.removeEventListener("scroll", this.#scrolled);
    this.#resized.disconnect();
  }

  clear() {
    this.#rows = [];
    this.#ui.list.replaceChildren();
    this.#silently();
    this.#ui.beginning.hidden = true;
    this.toEnd();
  }

  append(events, me) {
    this.#me = me;
    const from = this.#rows.length;
    const rows = events.map((event) => this.#row(event));
    this.#rows.push(...rows);
    this.#ui.list.append(...rows.map(({ li }) => li));
    for (let at = from; at < this.#rows.length; at++) this.#decorate(at);
    if (this.#atEnd) {
      this.#dropOldest();
      this.toEnd();
    } else {
      this.#unseen += events.filter(({ kind, from }) => kind === "message" && from !== me).length;
      this.#showLatest();
    }
  }

  prepend(events, me) {
    this.#me = me;
    const { scroller, list } = this.#ui;
    const fromEnd = scroller.scrollHeight - scroller.scrollTop;
    const rows = events.map((event) => this.#row(event));
    this.#silently();
    list.prepend(...rows.map(({ li }) => li));
    this.#rows.unshift(...rows);
    for (let at = 0; at <= rows.length && at < this.#rows.length; at++) this.#decorate(at);
    scroller.scrollTop = scroller.scrollHeight - fromEnd; // what was in view stays in view
  }

  /** Records a user's name and updates the lines about them. */
  named(user, name) {
    if (this.#names.get(user) === name) return;
    this.#names.set(user, name);
    for (const { event, li } of this.#rows) {
      if (event.kind === "im.members") li.querySelector(".line").textContent = changes(event, this.#names);
    }
  }

  /** Shows sent messages whose events have not been delivered yet. */
  outbox(entries) {
    const held = new Map([...this.#ui.outbox.children].map((li) => [li.dataset.mid, li]));
    this.#ui.outbox.replaceChildren(...entries.map((entry) => this.#entry(entry, held.get(entry.mid))));
    if (this.#atEnd) this.toEnd();
  }

  /** Adds a line of the page itself. */
  note(words) {
    const li = document.createElement("li");
    li.className = "note";
    li.textContent = words;
    this.#ui.list.append(li);
    if (this.#atEnd) this.toEnd();
  }

  /** Records whether older messages can be fetched. */
  beginning(more) {
    this.#more = more;
    this.#loading = false;
    this.#ui.beginning.hidden = false;
    this.#ui.beginning.textContent = more ? "Older messages" : "This is where the room begins.";
  }

  /** Asks for older messages if the first row is in view. */
  wantOlder() {
    if (this.#ui.scroller.scrollTop >= NEAR_TOP_PX || !this.#more || this.#loading) return;
    this.#loading = true;
    this.#ui.beginning.textContent = "Fetching older messages…";
    this.#on.top();
  }

  toEnd() {
    this.#atEnd = true;
    this.#unseen = 0;
    this.#ui.scroller.scrollTop = this.#ui.scroller.scrollHeight;
    this.#showLatest();
  }

  #onScroll() {
    const { scrollTop, scrollHeight, clientHeight } = this.#ui.scroller;
    this.#atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    if (this.#atEnd) this.#unseen = 0;
    this.#showLatest();
    this.wantOlder();
  }

  #showLatest() {
    const { latest } = this.#ui;
    latest.hidden = this.#atEnd;
    latest.textContent = this.#unseen === 0 ? "To the end" : this.#unseen === 1 ? "1 new message" : `${this.#unseen} new messages`;
  }

  /** Suppresses announcements of screen readers for older messages. */
  #silently() {
    this.#ui.list.setAttribute("aria-live", "off");
    setTimeout(() => this.#ui.list.removeAttribute("aria-live"), 500);
  }

  #dropOldest() {
    const surplus = this.#rows.length - MOST_ROWS;
    if (surplus <= 0) return;
    this.#rows.splice(0, surplus).forEach(({ li }) => li.remove());
    this.#decorate(0);
    this.#on.hasGap(this.#rows[0].event.seq);
    this.#more = true;
    this.#ui.beginning.textContent = "Older messages";
  }

  #row(event) {
    if (event.kind === "im.members") return { event, li: this.#clone("note", changes(event, this.#names)) };
    const { text, name } = event.content ?? {};
    if (typeof name === "string" && name) this.#names.set(event.from, name.slice(0, 40));
    const own = event.from === this.#me;
    const li = this.#clone(own ? "own" : "other", typeof text === "string" ? text : JSON.stringify(event.content));
    const who = this.#names.get(event.from) ?? readable(event.from);
    li.querySelector(".who").textContent = own ? "You" : who;
    const avatar = li.querySelector(".avatar");
    avatar.textContent = initial(who);
    avatar.style.setProperty("--hue", hue(event.from));
    setTime(li, event.at);
    if (own) tick(li, "✓", "sent");
    return { event, li };
  }

  #entry(entry, li) {
    if (!li) {
      li = this.#clone("own", entry.text);
      li.dataset.mid = entry.mid;
      li.querySelector(".who").textContent = "You";
      li.querySelector(".again").onclick = () => this.#on.retry(entry.mid);
      li.querySelector(".discard").onclick = () => this.#on.discard(entry.mid);
      setTime(li, entry.at);
    }
    li.classList.toggle("pending", !entry.acked && !entry.failed);
    li.classList.toggle("failed", Boolean(entry.failed));
    tick(li, entry.acked ? "✓" : "", entry.acked ? "sent" : entry.failed ? "not sent" : "sending");
    const trouble = li.querySelector(".trouble");
    trouble.hidden = !entry.failed;
    trouble.firstElementChild.textContent = entry.failed ? `Not sent: ${entry.failed}.` : "";
    return li;
  }

  #clone(kind, text) {
    const li = this.#ui.template.content.firstElementChild.cloneNode(true);
    li.classList.add(kind);
    if (kind === "note") li.querySelector(".line").replaceChildren(text);
    else li.querySelector(".text").textContent = text;
    return li;
  }

  /** The day above the first row of a day; the name above the first of a person's messages in a row. */
  #decorate(at) {
    const { event, li } = this.#rows[at];
    const before = this.#rows[at - 1]?.event;
    const day = li.querySelector(".day");
    day.hidden = before !== undefined && sameDay(before.at, event.at);
    day.firstElementChild.textContent = day.hidden ? "" : dayName(event.at);
    const near = before && before.kind === event.kind && before.from === event.from && event.at - before.at < TOGETHER_MS;
    li.classList.toggle("more", Boolean(near && day.hidden));
  }
}

function tick(li, mark, words) {
  const span = li.querySelector(".tick");
  span.textContent = mark;
  span.setAttribute("role", "img");
  span.setAttribute("aria-label", words);
}

function setTime(li, at) {
  const time = li.querySelector("time");
  const date = new Date(at);
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  time.textContent = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

/** Describes an `im.members` event. */
function changes(event, names) {
  const words = { join: "joined", leave: "left", remove: "was removed", ban: "was banned", unban: "may come back" };
  const list = Array.isArray(event.content?.changes) ? event.content.changes : [];
  const word = ({ user, act, role }) =>
    act === "join" && role === "owner" && user !== event.from ? "is an owner now" : words[act] ?? "changed";
  return list.map((change) => `${names.get(change.user) ?? readable(change.user)} ${word(change)}`).join(", ");
}

/** Returns a user's colour, derived from the id alone. */
function hue(user) {
  let sum = 7;
  for (const char of user) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return sum;
}

function sameDay(a, b) {
  return new Date(a).toDateString() === new Date(b).toDateString();
}

function dayName(at) {
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  if (sameDay(at, Date.now())) return "Today";
  if (sameDay(at, yesterday)) return "Yesterday";
  return new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

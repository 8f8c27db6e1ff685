// Two users talk, lose their connections and reconnect, by wire/SPEC.md alone.
//
// usage: node chat.cjs URL        ends with 0 if everything was as the SPEC says
"use strict";

const { randomBytes } = require("node:crypto");
const { isDeepStrictEqual } = require("node:util");
const WebSocket = require("ws");

const PATIENCE_MS = 20_000; // time limit of each wait, so that a fault does not hang

class Refused extends Error {
  constructor(frame) {
    super(`${frame.code}: ${frame.msg}`);
    this.code = frame.code;
  }
}

function check(fact, words) {
  console.log((fact ? "  ok    " : "  WRONG ") + words);
  if (!fact) process.exit(1);
}

function soon(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`timed out after ${PATIENCE_MS} ms: ${what}`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** One user on one device. Keeps cursors by the one rule, and what it has read. */
class Client {
  constructor(url, user) {
    Object.assign(this, { url, user, session: null, gaps: 0, others: [], watchers: new Set() });
    this.cursors = new Map(); // room -> { epoch, seq }
    this.read = new Map(); // room -> events taken
  }

  // ---- the connection ----

  async connect() {
    const ws = new WebSocket(this.url, ["im.v1.json"], { maxPayload: 4 << 20 });
    Object.assign(this, { ws, waiting: new Map(), last: 0, disconnect: null });
    this.ended = new Promise((resolve) => ws.on("close", (code) => resolve(code)));
    this.ended.then(() => this.waiting.forEach(({ reject }) => reject(new Error("the connection ended"))));
    ws.on("message", (data, binary) => this.listen(data, binary));
    ws.on("error", () => {});
    await soon(new Promise((resolve) => ws.on("open", resolve)), "a connection");
    check(ws.protocol === "im.v1.json", `${this.user} agreed on im.v1.json`);
    const hello = { v: 1, user: this.user, device: "node", client: "chat.cjs", ...this.session };
    const welcome = await this.ask("hello", hello);
    this.session = { session: welcome.session, secret: welcome.secret };
    return welcome;
  }

  listen(data, binary) {
    if (binary) throw new Error("a binary message on a JSON connection");
    const frames = JSON.parse(data.toString("utf8"));
    for (const frame of Array.isArray(frames) ? frames : [frames]) this.take(frame);
    for (const watcher of this.watchers) watcher();
  }

  take(frame) {
    if (frame.t === "ok" || frame.t === "err") {
      for (const status of frame.t === "ok" ? (frame.rooms ?? []) : []) this.takeStatus(status);
      const waiting = this.waiting.get(frame.id);
      this.waiting.delete(frame.id);
      if (frame.t === "ok") waiting?.resolve(frame);
      else waiting?.reject(new Refused(frame));
    } else if (frame.t === "event") {
      this.takeEvent(frame);
    } else if (frame.t === "room") {
      this.takeStatus(frame);
    } else if (frame.t === "disconnect") {
      this.disconnect = frame;
    } else {
      this.others.push(frame);
    }
  }

  takeStatus({ room, status, epoch, cursor }) {
    if (status === "denied") this.cursors.delete(room);
    else this.cursors.set(room, { epoch, seq: cursor });
  }

  takeEvent({ t, ...event }) {
    const cursor = this.cursors.get(event.room);
    if (!cursor || event.epoch !== cursor.epoch || event.seq <= cursor.seq) return;
    if (event.seq > cursor.seq + 1) {
      this.gaps += 1;
      return;
    }
    cursor.seq = event.seq;
    this.read.set(event.room, [...(this.read.get(event.room) ?? []), event]);
  }

  // ---- commands ----

  begin(kind, fields = {}) {
    const id = ++this.last;
    const reply = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
    reply.catch(() => {}); // the caller that awaits it gets the error
    return { frame: { t: kind, id, ...fields }, reply };
  }

  post(frames) {
    this.ws.send(JSON.stringify(frames));
  }

  ask(kind, fields) {
    const { frame, reply } = this.begin(kind, fields);
    this.post(frame);
    return soon(reply, `the reply to ${kind}`);
  }

  async refused(kind, fields) {
    try {
      await this.ask(kind, fields);
    } catch (error) {
      if (error instanceof Refused) return error.code;
      throw error;
    }
    return 0;
  }

  async until(fact, what) {
    let watcher;
    const seen = new Promise((resolve) => {
      watcher = () => fact() && resolve();
      this.watchers.add(watcher);
      watcher();
    });
    await soon(seen, what).finally(() => this.watchers.delete(watcher));
  }

  events(room) {
    return this.read.get(room) ?? [];
  }

  texts(room) {
    return this.events(room)
      .filter((event) => event.kind === "message")
      .map((event) => event.content.text);
  }

  /** Cuts the network: no closing handshake. */
  async cut() {
    this.ws.terminate();
    await soon(this.ended, "the end of a cut connection");
  }
}

const message = (room, text) => ({ room, mid: randomBytes(16).toString("hex"), content: { text } });
const upTo = (first, last) => Array.from({ length: last - first + 1 }, (_, n) => first + n);
const same = isDeepStrictEqual;

async function talk(alice, bob, room) {
  console.log("# two users talk in a group");
  const welcome = await alice.connect();
  check(welcome.resumed === false && welcome.user === alice.user, "alice has a new session");
  await bob.connect();
  const made = await alice.ask("create", { room, kind: "group", members: [bob.user] });
  check(made.seq === 1 && !made.duplicate, "the room's first event contains its members");
  const told = () => bob.others.find((push) => push.t === "signal" && push.kind === "im.room");
  await bob.until(told, "word of the room");
  check(told().to === bob.user && same(told().content, { room }), "bob is notified of his membership");
  let [status] = (await alice.ask("subscribe", { room })).rooms;
  check(status.status === "ok" && status.cursor === 1, "alice subscribes from the head");
  [status] = (await bob.ask("subscribe", { room, epoch: made.epoch, since: 0 })).rooms;
  check(status.status === "ok" && status.cursor === 0 && status.head === 1, "bob subscribes from the start of the log");
  await bob.until(() => bob.events(room).length > 0, "the members event");
  check(bob.events(room)[0].kind === "im.members", "bob reads the members of the room");

  // Many in flight at once, several to a message.
  const replies = [];
  for (const turn of upTo(0, 4)) {
    for (const user of [alice, bob]) {
      const pair = [0, 1].map((n) => user.begin("send", message(room, `${user.user} ${turn}.${n}`)));
      user.post(pair.map(({ frame }) => frame));
      replies.push(...pair.map(({ reply }) => reply));
    }
  }
  const acks = await soon(Promise.all(replies), "20 acks");
  check(acks.length === 20, "20 sends in batches of two are acknowledged");
  const seqs = acks.map(({ seq }) => seq).sort((a, b) => a - b);
  check(same(seqs, upTo(2, 21)), "their seqs are 2 to 21, each once");
  for (const user of [alice, bob]) await user.until(() => user.texts(room).length === 20, "20 events");
  check(same(alice.texts(room), bob.texts(room)), "both read the same in the same order");
  const own = bob.texts(room).filter((text) => text.startsWith(alice.user));
  const sent = upTo(0, 4).flatMap((turn) => [0, 1].map((n) => `${alice.user} ${turn}.${n}`));
  check(same(own, sent), "each sender's order is kept");
}

async function once(alice, room) {
  console.log("# a retry is one event");
  const said = message(room, "only once");
  const first = await alice.ask("send", said);
  const again = await alice.ask("send", said);
  check(again.duplicate && !first.duplicate, "the second is a duplicate");
  check(again.seq === first.seq && again.at === first.at, "and has the first one's seq and time");
  const code = await alice.refused("send", { ...said, content: { text: "something else" } });
  check(code === 4524, "another content under the same id is a conflict");
}

async function live(alice, bob, room) {
  console.log("# signals and state");
  await alice.ask("signal", { room, kind: "typing", content: true });
  const typing = () => bob.others.find((push) => push.t === "signal" && push.kind === "typing");
  await bob.until(typing, "a signal");
  check(typing().room === room && typing().from === alice.user, "a signal contains its room and sender");
  check(typing().content === true, "bob sees that alice is typing");
  const stamps = [];
  for (const n of upTo(0, 2)) stamps.push((await alice.ask("put_state", { room, key: "kettle", value: { heat: n + 0.5 } })).stamp);
  const later = (a, b) => {
    const [left, right] = [a, b].map((stamp) => stamp.split("-").map(Number));
    const at = left.findIndex((part, place) => part !== right[place]);
    return at >= 0 && left[at] < right[at];
  };
  check(later(stamps[0], stamps[1]) && later(stamps[1], stamps[2]), "stamps of state grow");
  const newest = () => bob.others.find((push) => push.t === "state" && push.stamp === stamps[2]);
  await bob.until(newest, "the newest value");
  check(same(newest().value, { heat: 2.5 }), "bob has the newest value");
}

async function pages(alice, room) {
  console.log("# history");
  const head = alice.cursors.get(room).seq;
  const forwards = [];
  for (let page = { more: true }; page.more; ) {
    page = await alice.ask("history", { room, after: forwards.at(-1)?.seq ?? 0, limit: 7 });
    forwards.push(...page.events);
  }
  check(same(forwards.map(({ seq }) => seq), upTo(1, head)), `pages forwards hold 1 to ${head}`);
  const backwards = [];
  for (let page = { more: true }; page.more; ) {
    page = await alice.ask("history", { room, before: backwards.at(-1)?.seq ?? head + 1, limit: 6 });
    backwards.push(...page.events);
  }
  check(same([...backwards].reverse(), forwards), "pages backwards hold the same");
  check(same(forwards.slice(1), alice.events(room)), "and so did the pushes");
}

async function comeBack(alice, bob, room) {
  console.log("# a connection is cut, and nothing is lost or duplicated");
  const unanswered = message(room, "sent into the dark");
  bob.post(bob.begin("send", unanswered).frame);
  await bob.cut();
  for (const n of upTo(0, 2)) await alice.ask("send", message(room, `while bob is away ${n}`));
  const { epoch, seq } = bob.cursors.get(room);
  const welcome = await bob.connect();
  check(welcome.resumed, "bob's session is resumed");
  const [status] = (await bob.ask("resume", { cursors: [[room, epoch, seq]] })).rooms;
  check(status.status === "ok" && status.cursor === seq, "the room is resumed from bob's cursor");
  await bob.ask("send", unanswered);
  for (const user of [alice, bob]) {
    await user.until(() => user.texts(room).includes("sent into the dark"), "what was sent into the dark");
    const { head } = await user.ask("history", { room, limit: 1 });
    await user.until(() => user.cursors.get(room).seq >= head, "the last event");
  }
  const dark = bob.texts(room).filter((text) => text === "sent into the dark");
  check(dark.length === 1, "the retried message is stored once");
  check(same(alice.texts(room), bob.texts(room)), "both have read the same");
  const seqs = bob.events(room).map((event) => event.seq);
  check(same(seqs, upTo(1, seqs.length)), `bob has read 1 to ${seqs.length}, each once`);
}

async function fromCheckpoint(bob, room) {
  console.log("# resuming by a checkpoint");
  const { epoch, seq } = bob.cursors.get(room);
  const { rev } = await bob.ask("checkpoint", { cursors: [[room, epoch, seq]] });
  await bob.cut();
  const welcome = await bob.connect();
  check(welcome.rev === rev, "the server holds the checkpoint");
  let [status] = (await bob.ask("resume", { rev })).rooms;
  check(status.room === room && status.status === "ok" && status.cursor === seq, "it contains the room and the cursor");
  await bob.cut();
  await bob.connect();
  check((await bob.refused("resume", { rev })) === 4401, "an old revision is refused");
  [status] = (await bob.ask("resume", { cursors: [[room, epoch, seq]] })).rooms;
  check(status.status === "ok", "and all cursors work without it");
}

async function faults(alice, bob, room) {
  console.log("# invalid input is refused, or ends the connection");
  check((await alice.refused("dance")) === 4502, "an unknown command is refused");
  check((await alice.refused("history", { room, limit: 0 })) === 4504, "so is a bad field");
  check((await alice.refused("send", { room, content: 1 })) === 4503, "and a missing one");
  check((await alice.refused("subscribe", { room: "no-such-room" })) === 4520, "and a room that does not exist");
  check("now" in (await alice.ask("ping")), "and the connection stays open");
  alice.ws.send("{broken");
  const broken = await soon(alice.ended, "the end of the connection");
  check(alice.disconnect?.code === 4500, "an invalid frame is answered by disconnect 4500");
  check(broken === 4500, "and closes with 4500");
  await bob.ask("logout");
  check((await soon(bob.ended, "the end of the connection")) === 4601, "logout closes with 4601");
  const code = await bob.connect().then(
    () => 0,
    (error) => error.code,
  );
  check(code === 4400, "a logged out session is unknown");
}

async function main(url) {
  const tag = randomBytes(4).toString("hex");
  const [alice, bob] = ["alice", "bob"].map((name) => new Client(url, `${name}-${tag}`));
  const room = `tea-${tag}`;
  await talk(alice, bob, room);
  await once(alice, room);
  await live(alice, bob, room);
  await pages(alice, room);
  await comeBack(alice, bob, room);
  await fromCheckpoint(bob, room);
  await faults(alice, bob, room);
  check(alice.gaps + bob.gaps === 0, "no push left a gap");
  bob.ws.close();
}

const [url] = process.argv.slice(2);
if (!url) {
  console.error("usage: node chat.cjs URL");
  process.exit(2);
}
main(url).catch((error) => {
  console.log(`  WRONG ${error.stack}`);
  process.exit(1);
});

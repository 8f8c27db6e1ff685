// One connection to the server, kept alive. Uses the wire protocol (wire/SPEC.md) in JSON, by hand:
// hello, commands with their acks, pushes, pings, and reconnects after a loss.

const SUBPROTOCOL = "im.v1.json";
const OPEN_MS = 10_000; // to connect and receive the ack of hello
const PING_MS = 20_000; // a browser cannot send WebSocket pings, so we send the protocol's own
const PONG_MS = 10_000;
const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 15_000;
const STEADY_MS = 5_000; // after this time online the next wait is short again

const UNKNOWN_SESSION = 4400;
const SUPERSEDED = 4101;
const HANDSHAKE_TIMEOUT = 4510;

/** The server answered a command with an error. */
export class Refused extends Error {
  constructor({ code, msg, retry_ms }) {
    super(msg);
    this.code = code;
    this.retryMs = retry_ms;
  }

  /** Whether the same command may succeed later: codes 41xx and 42xx. */
  get passing() {
    return this.code >= 4100 && this.code < 4300;
  }
}

/** The connection was lost before the ack: the outcome is unknown. */
export class Lost extends Error {}

/** A UUIDv7 (RFC 9562): starts with the time, so that ids of one time are adjacent in the server's store. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const now = Date.now();
  new DataView(bytes.buffer).setUint16(0, Math.floor(now / 2 ** 32));
  new DataView(bytes.buffer).setUint32(2, now % 2 ** 32);
  bytes[6] = 0x70 | (bytes[6] & 0x0f);
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/**
 * Keeps one connection. `on.state({name, …})` receives its state: "connecting", "online", "waiting" (with `ms` and
 * `words`) or "stopped" (with `code` and `words`). `on.ready(welcome)` is awaited after each hello, before "online".
 * `on.push(frame)` receives pushes.
 */
export class Connection {
  #url; #user; #on;
  #socket = null;
  #lastId = 0;
  #replies = new Map();
  #disconnect = null;
  #failures = 0;
  #onlineSince = null;
  #waiting = false;
  #timers = { open: 0, ping: 0, pong: 0, wait: 0 };
  #wake = () => this.#comeBackNow();

  /** `user` is the claimed user, for servers that accept it; omit it where a cookie names the user. */
  constructor({ url, user, on }) {
    this.#url = url;
    this.#user = user;
    this.#on = on;
  }

  start() {
    addEventListener("online", this.#wake);
    addEventListener("focus", this.#wake);
    this.#open();
  }

  /** Ends the connection for good, without calling `on`. */
  stop() {
    removeEventListener("online", this.#wake);
    removeEventListener("focus", this.#wake);
    const socket = this.#socket;
    this.#waiting = false;
    this.#drop();
    socket?.close(1000);
  }

  /** Sends a command and waits for its ack. Throws `Refused` or `Lost`. */
  request(t, fields = {}) {
    const socket = this.#socket;
    if (socket?.readyState !== WebSocket.OPEN) return Promise.reject(new Lost("not connected"));
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#replies.set(id, { resolve, reject });
      socket.send(JSON.stringify({ t, id, ...fields }));
    });
  }

  #open() {
    clearTimeout(this.#timers.wait);
    this.#waiting = false;
    this.#disconnect = null;
    this.#on.state({ name: "connecting", again: this.#failures > 0 });
    const socket = new WebSocket(this.#url, [SUBPROTOCOL]);
    this.#socket = socket;
    this.#timers.open = setTimeout(() => this.#lose(socket), OPEN_MS);
    socket.onopen = () => this.#greet(socket);
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(data);
    socket.onclose = ({ code, reason }) => this.#lose(socket, { code, msg: reason });
  }

  async #greet(socket) {
    try {
      const welcome = await this.#hello();
      const { user, session, secret } = welcome;
      sessionStorage.setItem("im.session", JSON.stringify({ user, session, secret }));
      await this.#on.ready(welcome);
      if (socket !== this.#socket) return;
      clearTimeout(this.#timers.open);
      this.#onlineSince = performance.now();
      this.#timers.ping = setInterval(() => this.#ping(socket), Math.min(PING_MS, welcome.idle_ms / 3));
      this.#on.state({ name: "online" });
    } catch (error) {
      if (error instanceof Lost) return; // the close event that follows handles it
      if (error instanceof Refused) this.#lose(socket, { code: error.code, msg: error.message, retry_ms: error.retryMs });
      else throw error;
    }
  }

  async #hello() {
    const hello = { v: 1, user: this.#user, device: keep("im.device", newId), client: "im-page/1" };
    try {
      return await this.request("hello", { ...hello, ...this.#session() });
    } catch (error) {
      if (error.code !== UNKNOWN_SESSION) throw error;
      return this.request("hello", hello); // the session expired or was lost: start a new one
    }
  }

  /** Returns the session of this tab, which the tab resumes. */
  #session() {
    const { user, session, secret } = JSON.parse(sessionStorage.getItem("im.session") ?? "{}");
    return session && (this.#user === undefined || user === this.#user) ? { session, secret } : {};
  }

  #take(data) {
    const message = JSON.parse(data);
    for (const frame of Array.isArray(message) ? message : [message]) {
      if (frame.t === "ok" || (frame.t === "err" && frame.id !== undefined)) {
        const reply = this.#replies.get(frame.id);
        this.#replies.delete(frame.id);
        if (frame.t === "ok") reply?.resolve(frame);
        else reply?.reject(new Refused(frame));
      } else if (frame.t === "disconnect") {
        this.#disconnect = frame;
      } else {
        this.#on.push(frame);
      }
    }
  }

  /** Checks that the server is alive: only this detects a connection that is cut silently. */
  #ping(socket) {
    clearTimeout(this.#timers.pong);
    this.#timers.pong = setTimeout(() => this.#lose(socket), PONG_MS);
    this.request("ping").then(() => clearTimeout(this.#timers.pong), () => {});
  }

  /** Drops the socket and all requests that wait for it. */
  #drop() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    this.#socket = null;
    for (const { reject } of this.#replies.values()) reject(new Lost("the connection was lost"));
    this.#replies.clear();
  }

  /** Handles the end of the connection: reports it, and decides whether and when to reconnect. */
  #lose(socket, closed = {}) {
    if (socket !== this.#socket) return;
    const { code, msg, retry_ms: retryMs } = this.#disconnect ?? closed;
    this.#drop();
    socket.close();
    if (this.#onlineSince !== null && performance.now() - this.#onlineSince > STEADY_MS) this.#failures = 0;
    this.#onlineSince = null;

    // Another tab uses this session (a duplicated tab copies the storage): start a new one.
    if (code === SUPERSEDED) ["im.session", "im.device"].forEach((key) => sessionStorage.removeItem(key));
    // 43xx needs other credentials, 45xx would fail again, 46xx means "do not come back": the user
    // has to decide.
    const final = (code >= 4300 && code < 4400) || (code >= 4500 && code < 4700 && code !== HANDSHAKE_TIMEOUT);
    if (final) {
      this.#on.state({ name: "stopped", code, words: msg });
    } else {
      this.#waitFor(this.#pause(retryMs), code >= 4000 ? msg : undefined);
    }
  }

  /** Returns the wait: doubled each time, with jitter, so that clients do not all reconnect at once. */
  #pause(retryMs = 0) {
    const longest = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.#failures++);
    return retryMs + longest * (0.5 + Math.random() / 2);
  }

  #waitFor(ms, words) {
    this.#waiting = true;
    this.#on.state({ name: "waiting", ms, words });
    this.#timers.wait = setTimeout(() => this.#open(), ms);
  }

  /** Reconnects at once if the network is back or the page becomes visible. */
  #comeBackNow() {
    if (this.#waiting) this.#open();
  }
}

/** Returns the value stored in this tab under `key`, created on first use. */
function keep(key, make) {
  const held = sessionStorage.getItem(key) ?? make();
  sessionStorage.setItem(key, held);
  return held;
}

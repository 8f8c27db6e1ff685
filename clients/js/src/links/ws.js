import { codecOf } from '../wire/codec.js';
import { wordsOf } from './link.js';

/**
 * @typedef {import('./link.js').Link} Link
 * @typedef {import('./link.js').LinkEvents} LinkEvents
 * @typedef {import('../wire/codec.js').Message} Message
 */

/**
 * WebSocket.
 *
 * @implements {Link}
 */
export class WebSocketLink {
  /**
   * @param {object} setup
   * @param {string} setup.url `ws:` or `wss:`
   * @param {'json' | 'msgpack'} setup.encoding
   * @param {import('./link.js').Env} setup.env
   * @param {LinkEvents} events
   */
  constructor({ url, encoding, env }, events) {
    this.transport = 'ws';
    this.traits = { codec: codecOf(encoding), duplex: true };
    this.url = url;
    this.env = env;
    this.events = events;
    /** @type {any} */
    this.socket = undefined;
    this.isDone = false;
  }

  open() {
    this.env.webSocket().then((WebSocket) => this.isDone || this.begin(WebSocket)).catch((error) => {
      this.lost({ message: wordsOf(error), unfit: true });
    });
  }

  /** @param {any} WebSocket */
  begin(WebSocket) {
    const socket = new WebSocket(this.url, [`im.v1.${this.traits.codec.name}`]);
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.isDone || this.events.open();
    socket.onmessage = (/** @type {{data: string | ArrayBuffer}} */ { data }) => {
      if (!this.isDone) this.events.message(typeof data === 'string' ? data : new Uint8Array(data));
    };
    // A large message that arrives slowly: only the small WebSocket for Node reports it.
    socket.onprogress = () => this.isDone || this.events.heard();
    // A close with 1006 follows, but not in every version of Node.
    socket.onerror = () => this.lost({ message: 'the connection failed' });
    socket.onclose = (/** @type {{code: number, reason: string}} */ { code, reason }) => {
      this.lost({ code, message: reason || `the connection was closed (${code})` });
    };
  }

  /** @param {import('./link.js').LinkCause} cause */
  lost(cause) {
    if (this.isDone) return;
    this.close();
    this.events.lost(cause);
  }

  /** @param {Message} message */
  send(message) {
    // A message that cannot be written now is lost with the connection; the close event follows.
    if (this.socket?.readyState === 1) this.socket.send(message);
  }

  welcome() {}

  nudge() {}

  close() {
    this.isDone = true;
    this.socket?.close(1000);
  }
}

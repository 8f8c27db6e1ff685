// Counts the requests and bytes of one client, between it and the browser.

const encoder = new TextEncoder();

/** Returns the bytes of a text or a buffer. */
const bytesOf = (data) => (typeof data === "string" ? encoder.encode(data).length : (data?.byteLength ?? 0));

/** Bytes of a WebSocket frame header (RFC 6455 section 5.2); those of clients are masked. */
const frameHead = (bytes, masked) => (bytes < 126 ? 2 : bytes < 65536 ? 4 : 10) + (masked ? 4 : 0);

export class Meter {
  /**
   * @param {string} name added to each request's URL (`via`), to distinguish the panels in the developer tools
   * @param {import("./late-line.js").LateLine} line the link for all incoming data
   * @param {number} handshake bytes of the heads of a WebSocket's handshake, which no page can see
   */
  constructor(name, line, handshake) {
    Object.assign(this, { name, line, handshake, requests: 0, bytes: 0, open: 0 });
    this.ports = new Set();
    this.sockets = 0;
  }

  /** Returns the number of TCP connections used. */
  get connections() {
    return this.ports.size + this.sockets;
  }

  /** The environment for `connect`, instead of the browser's own. */
  get env() {
    return { fetch: (url, init) => this.fetch(url, init), webSocket: async () => this.socketClass() };
  }

  async fetch(url, init = {}) {
    const address = new URL(url, location.href);
    address.searchParams.set("via", this.name);
    this.requests += 1;
    this.bytes += bytesOf(init.body);
    const response = await fetch(address, init);
    const [heads, port] = (response.headers.get("x-wire") ?? "0 0").split(" ");
    this.bytes += Number(heads);
    this.ports.add(port);
    const { status, headers } = response;
    const body = response.body?.pipeThrough(this.counter());
    const counted = () => new Response(status === 304 ? null : body, { status, headers });
    if (address.pathname.endsWith("/sse") && body) return new Response(body.pipeThrough(this.line.stream()), { status, headers });
    if (address.pathname.endsWith("/poll")) return this.line.poll(counted());
    return counted();
  }

  counter() {
    return new TransformStream({
      transform: (chunk, controller) => {
        this.bytes += chunk.byteLength;
        controller.enqueue(chunk);
      },
    });
  }

  /** A WebSocket that counts. */
  socketClass() {
    const meter = this;
    return class extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols);
        meter.requests += 1;
        meter.sockets += 1;
        meter.bytes += meter.handshake;
      }

      send(data) {
        const bytes = bytesOf(data);
        meter.bytes += bytes + frameHead(bytes, true);
        super.send(data);
      }

      set onmessage(listener) {
        this.addEventListener("message", (event) => {
          const bytes = bytesOf(event.data);
          meter.bytes += bytes + frameHead(bytes, false);
          listener(event);
          meter.line.message(event.data, (data) => {
            const isOpen = this.readyState === WebSocket.OPEN;
            if (isOpen) listener({ data });
            return isOpen;
          });
        });
      }
    };
  }
}

// Subscribes to a room by an `EventSource`, the browser's own or another, by wire/SPEC.md alone.
// The stream is opened by a ticket, since an `EventSource` sends no headers, and reopened by the
// `EventSource` itself when it is cut.

/**
 * Reads until an event says that it is the last. Returns the accepted events, in order, and the
 * counts of the run.
 *
 * @param {typeof globalThis.EventSource} EventSource
 * @param {{base: string, token: string, room: string}} where
 */
export async function subscribe(EventSource, { base, token, room }) {
  let session; // as the header wants it
  const post = async (...commands) => {
    const headers = { "content-type": "application/json", authorization: `Bearer ${token}`, ...session };
    const frames = commands.map((command, id) => ({ id, ...command }));
    const response = await fetch(`${base}/im/send`, { method: "POST", headers, body: JSON.stringify(frames) });
    const replies = await response.json();
    if (response.status !== 200) throw new Error(`${response.status}: ${JSON.stringify(replies)}`);
    const refused = replies.find(({ t }) => t !== "ok");
    if (refused) throw new Error(JSON.stringify(refused));
    return commands.map((_, id) => replies.find((reply) => reply.id === id));
  };

  const [welcome, , subscribed] = await post({ t: "hello", v: 1 }, { t: "join", room }, { t: "subscribe", room });
  session = { "im-session": `${welcome.session} ${welcome.secret}` };
  const { epoch, cursor: start } = subscribed.rooms[0];
  const told = { start, taken: [], opened: 0, refused: 0, redelivered: 0 };
  let cursor = start;

  /** The one rule of reading. Returns whether more is to come. */
  const take = (frame) => {
    if (frame.t === "room" && (frame.status !== "ok" || frame.cursor > cursor)) throw new Error(JSON.stringify(frame));
    if (frame.t === "disconnect") throw new Error(JSON.stringify(frame));
    if (frame.t !== "event") return true;
    if (frame.epoch !== epoch || frame.seq > cursor + 1) throw new Error(`a gap after ${cursor}: ${frame.seq}`);
    if (frame.seq <= cursor) {
      told.redelivered += 1;
      return true;
    }
    cursor = frame.seq;
    told.taken.push([frame.seq, frame.content]);
    return frame.content?.last !== true;
  };

  /**
   * Reads one stream, which the `EventSource` reopens by itself. Resolves to whether it reached the
   * last event, or to false if the first request was refused.
   */
  const stream = (ticket) =>
    new Promise((resolve, reject) => {
      let heard = false;
      const source = new EventSource(`${base}/im/sse?ticket=${encodeURIComponent(ticket)}`);
      source.onopen = () => (told.opened += 1);
      source.onerror = () => {
        if (source.readyState !== 2) return;
        // An `EventSource` may drop what it had not read before the cut. Without a position a
        // ticket cannot be used again.
        if (heard) reject(new Error("the stream was refused"));
        told.refused += 1;
        resolve(false);
      };
      source.onmessage = ({ data }) => {
        heard = true;
        try {
          if ([JSON.parse(data)].flat().every(take)) return;
          resolve(true);
        } catch (error) {
          reject(error);
        }
        source.close();
      };
    });
  for (let whole = false; !whole; ) {
    const [{ ticket }] = await post({ t: "ticket" });
    whole = await stream(ticket);
  }
  return told;
}

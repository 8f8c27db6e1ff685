// A link with late updates: while it is on, each update of the battle's state is delivered again
// after a delay, behind newer ones and out of order, with its old stamp. The client has to drop all
// of them.

const [SOONEST_MS, LATEST_MS] = [200, 2500];

/** The state updates in a message: a frame or a list of frames. */
function updates(message) {
  return [message].flat().filter((frame) => frame.t === "state" && frame.key !== "late");
}

export class LateLine {
  constructor() {
    this.isOn = false;
    /** Late updates that were delivered. */
    this.sent = 0;
    this.encoder = new TextEncoder();
    /** Updates that wait for the next response to a poll. */
    this.waiting = [];
  }

  /** Calls `deliver` with each of these again, later. */
  later(frames, deliver) {
    if (!this.isOn) return;
    for (const frame of frames) {
      setTimeout(() => deliver(frame), SOONEST_MS + Math.random() * (LATEST_MS - SOONEST_MS));
    }
  }

  /** Handles a message of a WebSocket. `deliver` returns whether the socket still accepted it. */
  message(data, deliver) {
    if (typeof data !== "string" || !this.isOn) return;
    this.later(updates(JSON.parse(data)), (frame) => {
      if (deliver(JSON.stringify(frame))) this.sent += 1;
    });
  }

  /** Transforms an event stream: late updates are inserted between two blocks. */
  stream() {
    let text = "";
    const late = [];
    const decoder = new TextDecoder();
    return new TransformStream({
      transform: (chunk, controller) => {
        text += decoder.decode(chunk, { stream: true });
        controller.enqueue(chunk);
        const end = text.lastIndexOf("\n\n");
        if (end < 0) return;
        const data = text.slice(0, end).split("\n").filter((line) => line.startsWith("data:"));
        text = text.slice(end + 2);
        const put = (frame) => {
          controller.enqueue(this.encoder.encode(`data: ${JSON.stringify(frame)}\n\n`));
          this.sent += 1;
        };
        if (text === "") for (const frame of late.splice(0)) put(frame);
        this.later(data.flatMap((line) => updates(JSON.parse(line.slice(5)))), (frame) => {
          try {
            if (text === "") put(frame);
            else late.push(frame);
          } catch {
            // The stream has ended meanwhile.
          }
        });
      },
    });
  }

  /** Rewrites a response to a poll: late updates are inserted before the stream position at its end. */
  async poll(response) {
    const { status, headers } = response;
    if (status !== 200 && status !== 304) return response;
    const frames = status === 200 ? await response.json() : [];
    this.later(updates(frames), (frame) => this.waiting.push(frame));
    const late = this.waiting.splice(0);
    this.sent += late.length;
    if (status === 304 && late.length === 0) return response;
    const at = frames.at(-1)?.t === "position" ? frames.length - 1 : frames.length;
    frames.splice(at, 0, ...late);
    return new Response(JSON.stringify(frames), { status: 200, headers });
  }
}

/**
 * Parser of an event stream (HTML standard, section 9.2.6) in pieces: returns messages and ids in
 * order.
 */
export class EventStreamParser {
  /**
   * @param {object} events
   * @param {(data: string) => void} events.data one line of data
   * @param {(id: string) => void} events.id after the data of its block
   * @param {(ms: number) => void} events.retry
   * @param {number} [maxLength] of a line, in UTF-16 units: 16 Mi by default
   */
  constructor(events, maxLength = 16 << 20) {
    this.events = events;
    this.maxLength = maxLength;
    this.decoder = new TextDecoder('utf-8', { fatal: true });
    this.rest = '';
    /** @type {string[]} */
    this.lines = [];
    /** @type {string | undefined} */
    this.id = undefined;
  }

  /**
   * @param {Uint8Array} bytes
   * @throws {Error} if the stream is not UTF-8, or a line is too long
   */
  push(bytes) {
    let text = this.rest + this.decoder.decode(bytes, { stream: true });
    // A carriage return at the end may be the first half of a line break.
    const held = text.endsWith('\r') ? '\r' : '';
    text = text.slice(0, text.length - held.length);
    const lines = text.split(/\r\n|\n|\r/);
    this.rest = (lines.pop() ?? '') + held;
    if (this.rest.length > this.maxLength) throw new Error('a line of the stream is too long');
    for (const line of lines) this.line(line);
  }

  /** @param {string} line */
  line(line) {
    if (line === '') return this.dispatch();
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (field === 'data') this.lines.push(value);
    else if (field === 'id' && !value.includes('\0')) this.id = value;
    else if (field === 'retry' && /^\d{1,9}$/.test(value)) this.events.retry(Number(value));
  }

  dispatch() {
    const { lines, id } = this;
    this.lines = [];
    this.id = undefined;
    for (const line of lines) if (line !== '') this.events.data(line);
    if (id !== undefined) this.events.id(id);
  }
}

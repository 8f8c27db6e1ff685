/**
 * A WebSocket (RFC 6455) for Node before version 22, which has none: the part of the browsers'
 * interface that the client needs.
 *
 * @module
 */

import { createHash, randomBytes } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

const MAX_MESSAGE = 16 << 20;
/** RFC 6455, section 1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Time for the peer's part of a close, in milliseconds. */
const CLOSE_MS = 2000;

export class NodeWebSocket {
  /**
   * @param {string} url
   * @param {string[]} protocols
   */
  constructor(url, protocols) {
    this.readyState = 0;
    this.binaryType = 'arraybuffer';
    /** @type {(() => void) | null} */
    this.onopen = null;
    /** @type {((event: {data: string | ArrayBuffer}) => void) | null} */
    this.onmessage = null;
    /**
     * Called when bytes arrive, also parts of a message. Not in browsers.
     * @type {(() => void) | null}
     */
    this.onprogress = null;
    /** @type {((event: {message: string}) => void) | null} */
    this.onerror = null;
    /** @type {((event: {code: number, reason: string}) => void) | null} */
    this.onclose = null;
    /** @type {import('node:net').Socket | undefined} */
    this.socket = undefined;
    /** @type {NodeJS.Timeout | undefined} */
    this.timer = undefined;
    /** @type {Buffer} */
    this.buffer = Buffer.alloc(0);
    /** @type {{opcode: number, parts: Buffer[], length: number} | undefined} */
    this.message = undefined;
    this.closed = { code: 1006, reason: '' };
    this.handshake(url.replace(/^ws/, 'http'), protocols);
  }

  /**
   * @param {string} url
   * @param {string[]} protocols
   */
  handshake(url, protocols) {
    const key = randomBytes(16).toString('base64');
    const expected = createHash('sha1').update(key + GUID).digest('base64');
    const headers = {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': key,
      'sec-websocket-protocol': protocols.join(', '),
    };
    const request = (url.startsWith('https') ? httpsRequest : httpRequest)(url, { headers });
    this.request = request;
    request.on('upgrade', (response, socket, head) => {
      if (response.headers['sec-websocket-accept'] !== expected) return void socket.destroy(new Error('a bad handshake'));
      this.attach(/** @type {import('node:net').Socket} */ (socket), head);
    });
    request.on('response', (response) => {
      this.closed.reason = `the handshake was refused: HTTP ${response.statusCode}`;
      response.resume();
      request.destroy();
    });
    request.on('error', (error) => (this.closed.reason ||= error.message));
    request.on('close', () => this.socket || this.end());
    request.end();
  }

  /**
   * @param {import('node:net').Socket} socket
   * @param {Buffer} head
   */
  attach(socket, head) {
    this.socket = socket;
    socket.setNoDelay(true);
    socket.on('data', (data) => this.onData(data));
    socket.on('error', (error) => (this.closed.reason ||= error.message));
    socket.on('end', () => socket.end());
    socket.on('close', () => this.end());
    if (this.readyState !== 0) return void socket.destroy();
    this.readyState = 1;
    this.onopen?.();
    if (head.length > 0) this.onData(head);
  }

  end() {
    if (this.readyState === 3) return;
    this.readyState = 3;
    clearTimeout(this.timer);
    this.onclose?.(this.closed);
  }

  /** @param {Buffer} data */
  onData(data) {
    this.onprogress?.();
    this.buffer = this.buffer.length === 0 ? data : Buffer.concat([this.buffer, data]);
    for (;;) {
      const frame = this.readFrame();
      if (!frame || this.readyState === 3) return;
      this.onFrame(frame);
    }
  }

  readFrame() {
    const { buffer } = this;
    if (buffer.length < 2) return undefined;
    const short = buffer[1] & 0x7f;
    const start = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (buffer.length < start) return undefined;
    const length = short < 126 ? short : short === 126 ? buffer.readUInt16BE(2) : Number(buffer.readBigUInt64BE(2));
    // Servers do not mask, and no extension was negotiated.
    if (buffer[1] & 0x80 || buffer[0] & 0x70 || length > MAX_MESSAGE) return this.fail(1002, 'invalid frame');
    if (buffer.length < start + length) return undefined;
    const payload = buffer.subarray(start, start + length);
    this.buffer = buffer.subarray(start + length);
    return { final: (buffer[0] & 0x80) !== 0, opcode: buffer[0] & 0x0f, payload };
  }

  /** @param {{final: boolean, opcode: number, payload: Buffer}} frame */
  onFrame({ final, opcode, payload }) {
    if (opcode === 8) return this.onClose(payload);
    if (opcode === 9) return this.write(10, payload);
    if (opcode === 10) return;
    if (opcode !== 0) this.message = { opcode, parts: [], length: 0 };
    const { message } = this;
    if (!message || opcode > 2) return this.fail(1002, 'a bad frame');
    message.parts.push(payload);
    message.length += payload.length;
    if (message.length > MAX_MESSAGE) return this.fail(1009, 'the message is too large');
    if (!final) return;
    this.message = undefined;
    const whole = Buffer.concat(message.parts);
    if (message.opcode === 2) {
      const data = whole.buffer.slice(whole.byteOffset, whole.byteOffset + whole.length);
      return this.onmessage?.({ data: /** @type {ArrayBuffer} */ (data) });
    }
    try {
      this.onmessage?.({ data: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(whole) });
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.fail(1007, 'invalid UTF-8');
    }
  }

  /** @param {Buffer} payload */
  onClose(payload) {
    if (payload.length >= 2) this.closed = { code: payload.readUInt16BE(0), reason: payload.subarray(2).toString() };
    else this.closed = { code: 1005, reason: '' };
    if (this.readyState === 1) this.write(8, payload.subarray(0, 2));
    this.readyState = 2;
    this.socket?.end();
    this.bury();
  }

  /**
   * @param {number} code
   * @param {string} reason
   * @returns {undefined}
   */
  fail(code, reason) {
    this.closed = { code: 1006, reason };
    this.close(code);
    this.socket?.destroy();
    return undefined;
  }

  /** @param {string | Uint8Array} data */
  send(data) {
    if (this.readyState !== 1) return;
    this.write(typeof data === 'string' ? 1 : 2, Buffer.from(data));
  }

  /**
   * @param {number} opcode
   * @param {Buffer} payload
   */
  write(opcode, payload) {
    const { length } = payload;
    const width = length < 126 ? 0 : length < 65536 ? 2 : 8;
    const frame = Buffer.alloc(2 + width + 4 + length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (width === 0 ? length : width === 2 ? 126 : 127);
    if (width === 2) frame.writeUInt16BE(length, 2);
    if (width === 8) frame.writeBigUInt64BE(BigInt(length), 2);
    const mask = randomBytes(4);
    mask.copy(frame, 2 + width);
    for (let i = 0; i < length; i++) frame[6 + width + i] = payload[i] ^ mask[i & 3];
    this.socket?.write(frame);
  }

  /** @param {number} [code] */
  close(code = 1000) {
    if (this.readyState >= 2) return;
    const wasOpen = this.readyState === 1;
    this.readyState = 2;
    if (!wasOpen) return void this.request?.destroy();
    const payload = Buffer.alloc(2);
    payload.writeUInt16BE(code);
    this.write(8, payload);
    this.bury();
  }

  /** Waits a bounded time for the peer's close, then cuts the socket. */
  bury() {
    this.timer ??= setTimeout(() => this.socket?.destroy(), CLOSE_MS).unref();
  }
}

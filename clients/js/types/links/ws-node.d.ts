export class NodeWebSocket {
    /**
     * @param {string} url
     * @param {string[]} protocols
     */
    constructor(url: string, protocols: string[]);
    readyState: number;
    binaryType: string;
    /** @type {(() => void) | null} */
    onopen: (() => void) | null;
    /** @type {((event: {data: string | ArrayBuffer}) => void) | null} */
    onmessage: ((event: {
        data: string | ArrayBuffer;
    }) => void) | null;
    /**
     * Called when bytes arrive, also parts of a message. Not in browsers.
     * @type {(() => void) | null}
     */
    onprogress: (() => void) | null;
    /** @type {((event: {message: string}) => void) | null} */
    onerror: ((event: {
        message: string;
    }) => void) | null;
    /** @type {((event: {code: number, reason: string}) => void) | null} */
    onclose: ((event: {
        code: number;
        reason: string;
    }) => void) | null;
    /** @type {import('node:net').Socket | undefined} */
    socket: import("node:net").Socket | undefined;
    /** @type {NodeJS.Timeout | undefined} */
    timer: NodeJS.Timeout | undefined;
    /** @type {Buffer} */
    buffer: Buffer;
    /** @type {{opcode: number, parts: Buffer[], length: number} | undefined} */
    message: {
        opcode: number;
        parts: Buffer[];
        length: number;
    } | undefined;
    closed: {
        code: number;
        reason: string;
    };
    /**
     * @param {string} url
     * @param {string[]} protocols
     */
    handshake(url: string, protocols: string[]): void;
    request: import("http").ClientRequest | undefined;
    /**
     * @param {import('node:net').Socket} socket
     * @param {Buffer} head
     */
    attach(socket: import("node:net").Socket, head: Buffer): undefined;
    end(): void;
    /** @param {Buffer} data */
    onData(data: Buffer): void;
    readFrame(): {
        final: boolean;
        opcode: number;
        payload: Buffer<ArrayBufferLike>;
    } | undefined;
    /** @param {{final: boolean, opcode: number, payload: Buffer}} frame */
    onFrame({ final, opcode, payload }: {
        final: boolean;
        opcode: number;
        payload: Buffer;
    }): void;
    /** @param {Buffer} payload */
    onClose(payload: Buffer): void;
    /**
     * @param {number} code
     * @param {string} reason
     * @returns {undefined}
     */
    fail(code: number, reason: string): undefined;
    /** @param {string | Uint8Array} data */
    send(data: string | Uint8Array): void;
    /**
     * @param {number} opcode
     * @param {Buffer} payload
     */
    write(opcode: number, payload: Buffer): void;
    /** @param {number} [code] */
    close(code?: number): undefined;
    /** Waits a bounded time for the peer's close, then cuts the socket. */
    bury(): void;
}

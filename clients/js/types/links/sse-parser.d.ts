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
    constructor(events: {
        data: (data: string) => void;
        id: (id: string) => void;
        retry: (ms: number) => void;
    }, maxLength?: number);
    events: {
        data: (data: string) => void;
        id: (id: string) => void;
        retry: (ms: number) => void;
    };
    maxLength: number;
    decoder: TextDecoder;
    rest: string;
    /** @type {string[]} */
    lines: string[];
    /** @type {string | undefined} */
    id: string | undefined;
    /**
     * @param {Uint8Array} bytes
     * @throws {Error} if the stream is not UTF-8, or a line is too long
     */
    push(bytes: Uint8Array): void;
    /** @param {string} line */
    line(line: string): void;
    dispatch(): void;
}

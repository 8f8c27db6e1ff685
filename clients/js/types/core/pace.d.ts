/** The capacity of one connection's uplink. Sizes in bytes, as the codec counts them. */
export class Pace {
    /** @param {number} slowest bytes per second of the slowest uplink that does not count as dead */
    constructor(slowest: number);
    /** Bytes per millisecond, measured. */
    best: number;
    window: number;
    written: number;
    arrived: number;
    /** Since when the bytes in flight have had the uplink for themselves. */
    since: number;
    /** Bytes whose arrival is not confirmed. */
    get underWay(): number;
    /**
     * Whether so many more bytes may be written now. A message larger than the window is written
     * alone.
     *
     * @param {number} bytes
     */
    fits(bytes: number): boolean;
    /**
     * Records a written message.
     *
     * @param {number} now
     * @param {number} bytes
     * @returns {Flown} for `acked`, once a command in that message was answered
     */
    wrote(now: number, bytes: number): Flown;
    /**
     * Records an answer to a message: all of it has arrived, and all that was written before.
     *
     * @param {number} now
     * @param {Flown} flown
     */
    acked(now: number, { end, at, before, since }: Flown): void;
    /** How many milliseconds the bytes in flight may occupy the uplink, at the measured pace. */
    get graceMs(): number;
}
/**
 * A message in flight: its end in the sequence of all written bytes, when it was written, how many
 * bytes had arrived by then, and since when the rest had the uplink for itself.
 */
export type Flown = {
    end: number;
    at: number;
    before: number;
    since: number;
};

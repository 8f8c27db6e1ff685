/** What one connection carries up. Sizes in bytes, as the codec counts them. */
export class Pace {
    /** @param {number} slowest bytes per second of the slowest uplink that is not taken for a dead one */
    constructor(slowest: number);
    /** Bytes per millisecond that were seen to arrive. */
    best: number;
    window: number;
    written: number;
    arrived: number;
    /** Since when what is under way has had the uplink for itself. */
    since: number;
    /** Bytes of which nothing says that they have arrived. */
    get underWay(): number;
    /**
     * Whether so many more bytes may be written now. What is larger than all that may be under way goes by itself.
     *
     * @param {number} bytes
     */
    fits(bytes: number): boolean;
    /**
     * A message is written.
     *
     * @param {number} now
     * @param {number} bytes
     * @returns {Flown} for `acked`, once something in that message was answered
     */
    wrote(now: number, bytes: number): Flown;
    /**
     * Something in a message was answered: all of it has arrived, and all that was written before.
     *
     * @param {number} now
     * @param {Flown} flown
     */
    acked(now: number, { end, at, before, since }: Flown): void;
    /** For how many milliseconds what is under way may take up the uplink, at the pace that was seen. */
    get graceMs(): number;
}
/**
 * A message on its way: where it ends in all that is written, when it was written, how much had arrived by then, and since when
 * the rest had the uplink for itself.
 */
export type Flown = {
    end: number;
    at: number;
    before: number;
    since: number;
};

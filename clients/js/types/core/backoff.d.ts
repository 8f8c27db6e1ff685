/** Pauses that double, each drawn at random between half and the whole. */
export class Backoff {
    /**
     * @param {import('../config.js').Reconnect} policy
     * @param {() => number} random from 0 to 1
     */
    constructor(policy: import("../config.js").Reconnect, random: () => number);
    policy: import("../config.js").Reconnect;
    random: () => number;
    failures: number;
    /** Records a success: the next pause is a first one. */
    reset(): void;
    /**
     * Returns the pause before the next try in milliseconds, or undefined after the last one.
     *
     * @param {number} [atLeast] the server's `retry_ms`, to which up to half is added at random
     */
    next(atLeast?: number): number | undefined;
}

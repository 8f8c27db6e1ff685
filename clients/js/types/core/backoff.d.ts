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
    /** It worked: the next pause is a first one. */
    reset(): void;
    /**
     * The pause before the next try in milliseconds, or undefined if there is to be none.
     *
     * @param {number} [atLeast] the server's wish, to which as much as half is added at random
     */
    next(atLeast?: number): number | undefined;
}

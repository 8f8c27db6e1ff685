/**
 * The state of one transport at this server.
 *
 * @typedef {{worked: boolean, failures: number, pauseMs: number, until: number}} Rung
 */
export class Ladder {
    /**
     * @param {Transport[]} order the best first, at least one
     * @param {number} upgradeMs how long a transport is passed over the first time
     */
    constructor(order: Transport[], upgradeMs: number);
    order: import("../links/link.js").Transport[];
    upgradeMs: number;
    /** @type {Map<Transport, Rung>} */
    rungs: Map<Transport, Rung>;
    /** @type {Set<Transport>} Transports that failed since one worked. */
    failing: Set<Transport>;
    /** @param {Transport} name */
    rung(name: Transport): Rung;
    /**
     * Returns the transport for the next try.
     *
     * @param {number} now
     * @returns {Transport}
     */
    choose(now: number): Transport;
    /**
     * Records that a try carried nothing. `unfit`: the transport is known to be at fault, however
     * often it has worked. `isQuick`: it was refused at once, so that another try costs no time.
     *
     * @param {Transport} name
     * @param {boolean} unfit
     * @param {boolean} [isQuick]
     */
    failed(name: Transport, unfit: boolean, isQuick?: boolean): void;
    /**
     * Records that the transport works. Better ones that failed before it are passed over for a time.
     *
     * @param {number} now
     * @param {Transport} name
     */
    works(now: number, name: Transport): void;
    /**
     * @param {number} now
     * @param {Transport} name
     */
    passOver(now: number, name: Transport): void;
    /**
     * Returns which better transport than this one is to be tried again, and when; undefined if this
     * is the best.
     *
     * @param {Transport} name
     * @returns {{at: number, name: Transport} | undefined}
     */
    better(name: Transport): {
        at: number;
        name: Transport;
    } | undefined;
    /**
     * Returns the state for another client of the same server.
     *
     * @param {number} now
     * @returns {Record<string, [number, number]>} the milliseconds for which each is still passed
     *   over, and the whole time
     */
    save(now: number): Record<string, [number, number]>;
    /**
     * @param {number} now
     * @param {any} saved from `save`, perhaps of another version
     */
    load(now: number, saved: any): void;
}
export type Transport = import("../links/link.js").Transport;
/**
 * The state of one transport at this server.
 */
export type Rung = {
    worked: boolean;
    failures: number;
    pauseMs: number;
    until: number;
};

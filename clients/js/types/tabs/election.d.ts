/**
 * Who holds the connection: the tab that holds the lock `im/<name>`. It is let go when the tab is closed or crashes.
 */
export class Election {
    /**
     * @param {object} setup
     * @param {string} setup.name
     * @param {string} setup.tab
     * @param {LockManager} setup.locks
     * @param {() => (() => void)} setup.lead begins to lead, and gives what ends that
     */
    constructor({ name, tab, locks, lead }: {
        name: string;
        tab: string;
        locks: LockManager;
        lead: () => (() => void);
    });
    name: string;
    locks: LockManager;
    lead: () => (() => void);
    leaving: AbortController;
    /** Whether this tab leads. */
    isLeader: boolean;
    /**
     * Settles when the tab's own lock is held. As long as it is, the hub knows that this tab lives.
     *
     * @type {Promise<void>}
     */
    alive: Promise<void>;
    /**
     * Waits for the lead and takes it, now with `steal`.
     *
     * @param {LockOptions} options
     */
    stand(options: LockOptions): void;
    /** Takes the lead from a tab that does not answer. */
    usurp(): void;
    /**
     * Holds a lock until this tab leaves, or another steals it.
     *
     * @param {string} lock
     * @param {LockOptions} options
     * @param {() => (() => void)} begin gives what ends it
     */
    hold(lock: string, options: LockOptions, begin: () => (() => void)): Promise<void>;
    leave(): void;
}

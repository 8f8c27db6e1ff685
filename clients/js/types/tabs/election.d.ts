/**
 * Leader election: the tab that holds the lock `im/<name>` holds the connection. Closing or a crash
 * of the tab releases it.
 */
export class Election {
    /**
     * @param {object} setup
     * @param {string} setup.name
     * @param {string} setup.tab
     * @param {LockManager} setup.locks
     * @param {() => (() => void)} setup.lead starts to lead, and returns what ends that
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
     * Settles when the tab's own lock is held. While it is held, the hub knows that this tab is
     * alive.
     *
     * @type {Promise<void>}
     */
    alive: Promise<void>;
    /**
     * Waits for the lock and leads; with `steal`, at once.
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
     * @param {() => (() => void)} begin returns what ends it
     */
    hold(lock: string, options: LockOptions, begin: () => (() => void)): Promise<void>;
    leave(): void;
}

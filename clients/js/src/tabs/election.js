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
  constructor({ name, tab, locks, lead }) {
    this.name = name;
    this.locks = locks;
    this.lead = lead;
    this.leaving = new AbortController();
    /** Whether this tab leads. */
    this.isLeader = false;
    /**
     * Settles when the tab's own lock is held. While it is held, the hub knows that this tab is
     * alive.
     *
     * @type {Promise<void>}
     */
    this.alive = new Promise((resolve) => {
      this.hold(`im/${name}/tab/${tab}`, {}, () => (resolve(), () => {}));
    });
    this.stand({});
  }

  /**
   * Waits for the lock and leads; with `steal`, at once.
   *
   * @param {LockOptions} options
   */
  stand(options) {
    this.hold(`im/${this.name}`, options, () => {
      this.isLeader = true;
      const end = this.lead();
      return () => {
        this.isLeader = false;
        end();
      };
    });
  }

  /** Takes the lead from a tab that does not answer. */
  usurp() {
    if (!this.isLeader && !this.leaving.signal.aborted) this.stand({ steal: true });
  }

  /**
   * Holds a lock until this tab leaves, or another steals it.
   *
   * @param {string} lock
   * @param {LockOptions} options
   * @param {() => (() => void)} begin returns what ends it
   */
  async hold(lock, options, begin) {
    const { signal } = this.leaving;
    /** @type {(() => void) | undefined} */
    let end;
    let wasHeld = false;
    const finish = () => {
      const act = end;
      end = undefined;
      act?.();
    };
    const held = () => {
      wasHeld = true;
      end = begin();
      // The work ends before another tab gets the lock, unless that tab steals it.
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(finish()), { once: true }));
    };
    try {
      // The standard does not allow `steal` together with a signal.
      await this.locks.request(lock, options.steal ? { steal: true } : { signal }, held);
    } catch {
      // Aborted before it was granted, or stolen.
    }
    finish();
    if (wasHeld && !signal.aborted && lock === `im/${this.name}`) this.stand({});
  }

  leave() {
    this.leaving.abort();
  }
}

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
  constructor({ name, tab, locks, lead }) {
    this.name = name;
    this.locks = locks;
    this.lead = lead;
    this.leaving = new AbortController();
    /** Whether this tab leads. */
    this.isLeader = false;
    /**
     * Settles when the tab's own lock is held. As long as it is, the hub knows that this tab lives.
     *
     * @type {Promise<void>}
     */
    this.alive = new Promise((resolve) => {
      this.hold(`im/${name}/tab/${tab}`, {}, () => (resolve(), () => {}));
    });
    this.stand({});
  }

  /**
   * Waits for the lead and takes it, now with `steal`.
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
   * @param {() => (() => void)} begin gives what ends it
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
      // What was begun ends before another tab gets the lock; one that steals it does not ask.
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(finish()), { once: true }));
    };
    try {
      // A lock is either stolen or waited for until a signal; the standard does not allow both.
      await this.locks.request(lock, options.steal ? { steal: true } : { signal }, held);
    } catch {
      // Left before it was granted, or stolen.
    }
    finish();
    if (wasHeld && !signal.aborted && lock === `im/${this.name}`) this.stand({});
  }

  leave() {
    this.leaving.abort();
  }
}

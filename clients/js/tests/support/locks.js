/** Web Locks within one process: exclusive ones, with `signal` and `steal`. Node 20 has none. */
export class FakeLocks {
  constructor() {
    /** @type {Map<string, {holder?: (error: Error) => void, queue: (() => void)[]}>} */
    this.locks = new Map();
  }

  /**
   * @param {string} name
   * @param {LockOptions} options
   * @param {(lock: any) => any} callback
   */
  async request(name, options, callback) {
    const lock = this.locks.get(name) ?? { queue: [] };
    this.locks.set(name, lock);
    if (options.steal) {
      lock.holder?.(new DOMException('stolen', 'AbortError'));
    } else if (lock.holder) {
      await new Promise((resolve, reject) => {
        const go = () => resolve(undefined);
        lock.queue.push(go);
        options.signal?.addEventListener('abort', () => {
          lock.queue = lock.queue.filter((other) => other !== go);
          reject(new DOMException('aborted', 'AbortError'));
        });
      });
    }
    if (options.signal?.aborted) throw new DOMException('aborted', 'AbortError');
    /** @type {(error: Error) => void} */
    let steal = () => {};
    const stolen = new Promise((_, reject) => (steal = reject));
    lock.holder = steal;
    try {
      return await Promise.race([callback({ name }), stolen]);
    } finally {
      if (lock.holder === steal) {
        lock.holder = undefined;
        lock.queue.shift()?.();
      }
    }
  }
}

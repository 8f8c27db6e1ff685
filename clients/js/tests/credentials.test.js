// Credentials that expire, and a source of tokens that fails, answers late, or not at all. In
// virtual time.

import assert from 'node:assert/strict';
import test from 'node:test';

import { online } from './support/machine.js';
import { Subscriptions } from './support/subscriptions.js';

/** @typedef {import('../src/core/machine.js').Machine} Machine */

const HOUR = 3_600_000;

/**
 * A machine whose wall clock runs with the time.
 * @param {number} lasts milliseconds until the first token expires
 */
function renewable(lasts) {
  const rig = { now: 0 };
  const machine = online({ token: 't0', renewable: true }, { expires: 1_000_000 + lasts });
  machine.credentials.wallClock = () => 1_000_000 + rig.now;
  return Object.assign(rig, {
    machine,
    /** Advances the time until the machine requests a token; heartbeats are answered meanwhile. */
    untilFetch() {
      for (let i = 0; i < 1e5 && machine.phase !== 'ended'; i++) {
        rig.now = machine.deadline;
        machine.onTime(rig.now);
        const outputs = machine.outputs.splice(0);
        for (const output of outputs) {
          if (output.do === 'transmit') this.says({ t: 'ok', id: JSON.parse(String(output.message)).id, now: 0 });
        }
        if (outputs.some((output) => output.do === 'fetchToken')) return;
      }
      assert.fail('no token is fetched');
    },
    /** Returns the number of the written `refresh`. */
    refresh() {
      const [written] = machine.outputs.splice(0).flatMap((output) => (output.do === 'transmit' ? [JSON.parse(String(output.message))] : []));
      assert.equal(written.t, 'refresh');
      return written.id;
    },
    /** @param {object} frame */
    says(frame) {
      machine.onMessage(rig.now, JSON.stringify(frame));
    },
  });
}

test('credentials are refreshed again and again on one connection', () => {
  const rig = renewable(HOUR);
  for (let n = 1; n <= 20; n++) {
    rig.untilFetch();
    assert.equal(rig.now, n * (HOUR - 60_000));
    rig.machine.onToken(rig.now, `t${n}`);
    rig.says({ t: 'ok', id: rig.refresh(), expires: 1_000_000 + rig.now + HOUR });
  }
  assert.equal(rig.machine.phase, 'online');
});

test('an answer to refresh without expires ends the refreshing', () => {
  const rig = renewable(HOUR);
  rig.untilFetch();
  rig.machine.onToken(rig.now, 't1');
  rig.says({ t: 'ok', id: rig.refresh() });
  assert.equal(rig.machine.credentials.deadline, Infinity);
});

test('a refresh by the application plans the next one', () => {
  const rig = renewable(HOUR);
  const id = rig.machine.onCommand({ t: 'refresh', token: 'given' });
  rig.machine.flush(1);
  rig.says({ t: 'ok', id, expires: 1_000_000 + 10 * HOUR });
  rig.untilFetch();
  assert.equal(rig.now, 10 * HOUR - 60_000);
});

test('a source that fails or is late is asked again before the credentials expire', () => {
  const rig = renewable(HOUR);
  rig.untilFetch();
  const first = rig.now;
  rig.machine.onNoToken(rig.now, 'offline');
  rig.untilFetch();
  // The source does not answer.
  rig.untilFetch();
  rig.machine.onNoToken(rig.now, 'offline');
  rig.untilFetch();
  // The time limit of a call, and four pauses.
  assert.ok(rig.now > first + 30_000 && rig.now < first + 40_000, String(rig.now - first));
  rig.machine.onToken(rig.now, 't1');
  rig.says({ t: 'ok', id: rig.refresh(), expires: 1_000_000 + rig.now + HOUR });
  assert.equal(rig.machine.phase, 'online');
  assert.equal(rig.machine.credentials.fetchAt, rig.now + HOUR - 60_000);
});

test('a refresh that is refused is tried again with another token', () => {
  for (const code of [4200, 4202, 4100, 4301]) {
    const rig = renewable(HOUR);
    rig.untilFetch();
    const first = rig.now;
    rig.machine.onToken(rig.now, 't1');
    rig.says({ t: 'err', id: rig.refresh(), code, retry_ms: code === 4200 ? 2000 : undefined });
    rig.untilFetch();
    assert.ok(rig.now >= first + (code === 4200 ? 2000 : 250) && rig.now < first + 4000, `${code}: ${rig.now - first}`);
    assert.equal(rig.machine.phase, 'online');
  }
});

test('a token that comes after the connection was cut is used for the next', () => {
  const rig = renewable(HOUR);
  rig.untilFetch();
  rig.machine.onLost(rig.now, { message: 'cut' });
  rig.machine.onToken(rig.now, 't1');
  assert.equal(rig.machine.identity.token, 't1');
  assert.equal(rig.machine.phase, 'waiting');
});

test('over two ways the downlink is shown new credentials', () => {
  const rig = renewable(HOUR);
  rig.untilFetch();
  rig.machine.onToken(rig.now, 't1');
  const id = rig.refresh();
  /** @type {any} */ (rig.machine.traits).duplex = false;
  rig.says({ t: 'ok', id, expires: 1_000_000 + rig.now + HOUR });
  assert.deepEqual(rig.machine.outputs.map((output) => output.do), ['nudge']);
});

test('a source that never settles does not stop the client', async () => {
  let calls = 0;
  /** @type {AbortSignal[]} */
  const signals = [];
  const model = new Subscriptions(1, true, ({ signal }) => {
    calls += 1;
    signals.push(signal);
    return calls < 4 ? new Promise(() => {}) : Promise.resolve('good');
  });
  const statuses = /** @type {(string | undefined)[]} */ ([]);
  model.client.on('status', ({ message }) => statuses.push(message));
  await model.settle();
  assert.equal(model.client.status, 'online');
  assert.deepEqual(model.shown, ['good']);
  assert.equal(statuses.filter((message) => /took longer than 30000 ms/.test(message ?? '')).length, 3);
  assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, true, false]);
});

test('a token that comes late is taken, and one that fails late does no harm', async () => {
  /** @type {{resolve: (token: string) => void, reject: (error: Error) => void}[]} */
  const calls = [];
  const model = new Subscriptions(1, true, () => new Promise((resolve, reject) => void calls.push({ resolve, reject })));
  await model.turn();
  while (calls.length < 3) {
    model.wait();
    await model.turn();
  }
  calls[0].reject(new Error('given up'));
  await model.turn();
  assert.equal(model.client.shell?.machine.credentials.isFetching, true);
  calls[1].resolve('late');
  await model.settle();
  assert.deepEqual(model.shown, ['late']);
  calls[2].resolve('too late');
  await model.settle();
  assert.deepEqual(model.shown, ['late']);
});

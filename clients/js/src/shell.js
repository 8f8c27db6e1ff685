/**
 * Drives the machine: links, timers, promises.
 *
 * @module
 */

import { ImError } from './error.js';
import { onWake } from './env.js';
import { isFromServer, wordsOf } from './links/link.js';

/**
 * @typedef {import('./core/machine.js').Machine} Machine
 * @typedef {import('./core/types.js').Output} Output
 * @typedef {import('./core/types.js').ClientEvent} ClientEvent
 * @typedef {import('./core/ladder.js').Ladder} Ladder
 * @typedef {import('./links/link.js').Link} Link
 * @typedef {import('./links/link.js').LinkEvents} LinkEvents
 * @typedef {import('./links/link.js').Transport} Transport
 * @typedef {import('./wire/value.js').Frame} Frame
 */

/** The longest timer of browsers, in milliseconds. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;
/**
 * A transport that is lost within this time, in milliseconds, was refused; otherwise it was blocked
 * silently.
 */
const QUICK_MS = 1000;
/** Time until the next try to move while a non-idempotent command is in flight, in milliseconds. */
const MOVE_AGAIN_MS = 1000;

export class Shell {
  /**
   * @param {object} setup
   * @param {Machine} setup.machine
   * @param {Ladder} setup.ladder
   * @param {(transport: string, events: LinkEvents) => Link} setup.link
   * @param {import('./links/link.js').Env} setup.env
   * @param {((options: {signal: AbortSignal}) => Promise<string | null>) | undefined} setup.tokens
   * @param {(event: ClientEvent) => void} setup.onEvent
   * @param {() => void} [setup.onLadder] the state of the transports has changed
   */
  constructor({ machine, ladder, link, env, tokens, onEvent, onLadder }) {
    this.machine = machine;
    this.ladder = ladder;
    this.makeLink = link;
    this.env = env;
    this.tokens = tokens;
    this.onEvent = onEvent;
    this.onLadder = onLadder ?? (() => {});
    /** @type {Map<number, {resolve: (reply: Frame) => void, reject: (error: ImError) => void}>} */
    this.answers = new Map();
    /** @type {Link | undefined} */
    this.link = undefined;
    /** @type {Link | undefined} A better link that is being tried beside the one in use. */
    this.probe = undefined;
    /** @type {Transport | undefined} The transport to move to, if any. */
    this.moveTo = undefined;
    this.isSteady = false;
    this.connectedAt = 0;
    /** Whether the link is a better one that has not worked yet. */
    this.isMoving = false;
    this.isRunning = false;
    this.isFlushing = false;
    this.timer = undefined;
    this.upgradeTimer = undefined;
    /** Aborts the newest call of the token source. */
    this.fetching = new AbortController();
    this.stopWaking = onWake(() => this.wake());
  }

  /** The transport in use. */
  get transport() {
    return /** @type {Transport | undefined} */ (this.link?.transport);
  }

  start() {
    this.did(() => this.machine.start(this.env.now()));
  }

  /** The network changed, or the machine woke up. */
  wake() {
    this.machine.onWake(this.env.now());
    this.run();
  }

  /**
   * @param {Frame} body
   * @returns {Promise<Frame>} the answer
   */
  command(body) {
    return new Promise((resolve, reject) => {
      const id = this.machine.onCommand(body);
      this.answers.set(id, { resolve, reject });
      this.soon();
    });
  }

  /** Writes the commands of this turn together. */
  soon() {
    if (this.isFlushing) return;
    this.isFlushing = true;
    queueMicrotask(() => {
      this.isFlushing = false;
      this.machine.flush(this.env.now());
      this.run();
    });
  }

  /** Ends the client; the session can be resumed. */
  close() {
    this.machine.end();
    this.run();
  }

  /** Carries out the machine's actions, delivers its events, and sets the timer. */
  run() {
    // A callback of the application may have called this again.
    if (this.isRunning) return;
    this.isRunning = true;
    try {
      for (;;) {
        const output = this.machine.outputs.shift();
        if (output) {
          this.perform(output);
          continue;
        }
        const event = this.machine.events.shift();
        if (!event) break;
        this.onEvent(event);
      }
    } finally {
      this.isRunning = false;
    }
    this.setTimer();
  }

  setTimer() {
    this.env.clearTimeout(this.timer);
    this.timer = undefined;
    if (this.machine.isEnded) return this.dispose();
    const { deadline } = this.machine;
    if (deadline === Infinity) return;
    const ms = Math.min(Math.max(0, Math.ceil(deadline - this.env.now())), LONGEST_TIMER_MS);
    this.timer = this.env.setTimeout(() => {
      this.machine.onTime(this.env.now());
      this.run();
    }, ms);
  }

  dispose() {
    this.env.clearTimeout(this.upgradeTimer);
    this.probe?.close();
    this.fetching.abort(new Error('the client has ended'));
    this.stopWaking();
  }

  /** @param {Output} output */
  perform(output) {
    switch (output.do) {
      case 'connect':
        return this.connect();
      case 'transmit':
        return this.link?.send(output.message, output.idempotent);
      case 'welcome':
        return this.onWelcome(output.welcome);
      case 'nudge':
        return this.link?.nudge();
      case 'fetchToken':
        return void this.fetchToken();
      case 'disconnect':
        if (output.cause && !this.isSteady && !isFromServer(output.cause)) this.failed(false);
        return this.leave();
      case 'reply': {
        const answer = this.answers.get(output.id);
        this.answers.delete(output.id);
        if (output.error) answer?.reject(output.error);
        else answer?.resolve(/** @type {Frame} */ (output.reply));
      }
    }
  }

  leave() {
    this.link?.close();
    this.link = undefined;
    this.probe?.close();
    this.probe = undefined;
    this.env.clearTimeout(this.upgradeTimer);
  }

  async fetchToken() {
    this.fetching.abort(new Error('another token was asked for'));
    const fetching = new AbortController();
    this.fetching = fetching;
    try {
      if (!this.tokens) throw new Error('no token source is configured');
      const token = await this.tokens({ signal: fetching.signal });
      // Late tokens of earlier calls are used too.
      this.machine.onToken(this.env.now(), token);
    } catch (error) {
      // The failure of an earlier call says nothing about the newest one.
      if (fetching === this.fetching) this.machine.onNoToken(this.env.now(), wordsOf(error));
    }
    this.run();
  }

  connect() {
    this.leave();
    this.isMoving = this.moveTo !== undefined;
    this.isSteady = false;
    this.connectedAt = this.env.now();
    this.link = this.make(this.moveTo ?? this.ladder.choose(this.env.now()));
    this.moveTo = undefined;
    this.link.open();
  }

  /** @param {Transport} transport */
  make(transport) {
    const { env, machine } = this;
    /** @type {Link} */
    const link = this.makeLink(transport, {
      open: () => {
        if (link === this.link) this.did(() => machine.onConnected(env.now(), link.traits));
        else if (link === this.probe) this.move(transport, link);
      },
      message: (message) => link === this.link && this.did(() => machine.onMessage(env.now(), message)),
      heard: () => link === this.link && machine.onHeard(env.now()),
      steady: () => link === this.link && this.steady(),
      lost: (cause) => {
        if (link === this.link) this.lost(cause);
        else if (link === this.probe) this.probeFailed(transport);
      },
    });
    return link;
  }

  /** @param {() => void} act */
  did(act) {
    act();
    this.run();
  }

  /** @param {import('./core/types.js').Cause & {unfit?: boolean}} cause */
  lost(cause) {
    if (cause.unfit || (!this.isSteady && !isFromServer(cause))) this.failed(cause.unfit === true);
    this.env.clearTimeout(this.upgradeTimer);
    this.link = undefined;
    this.did(() => this.machine.onLost(this.env.now(), cause));
  }

  /** @param {boolean} unfit */
  failed(unfit) {
    const isQuick = this.env.now() - this.connectedAt < QUICK_MS;
    if (this.transport) this.ladder.failed(this.transport, unfit || this.isMoving, isQuick);
  }

  /** @param {Frame} welcome */
  onWelcome({ session, secret }) {
    this.link?.welcome({ session, secret });
    if (this.link?.traits.duplex) this.steady();
  }

  steady() {
    if (this.isSteady || !this.transport) return;
    this.isSteady = true;
    this.isMoving = false;
    this.ladder.works(this.env.now(), this.transport);
    this.onLadder();
    this.planUpgrade();
  }

  planUpgrade() {
    const better = this.transport && this.ladder.better(this.transport);
    this.env.clearTimeout(this.upgradeTimer);
    if (!better) return;
    const ms = Math.min(Math.max(0, better.at - this.env.now()), LONGEST_TIMER_MS);
    this.upgradeTimer = this.env.setTimeout(() => this.upgrade(better.name), ms);
  }

  /**
   * Tries a better transport. WebSocket is opened beside the link in use; the others share the
   * session's one downlink, and can only be tried by moving to them.
   *
   * @param {Transport} name
   */
  upgrade(name) {
    if (this.machine.phase !== 'online' || !this.isSteady) return;
    if (name !== 'ws') return this.move(name, undefined);
    this.probe = this.make(name);
    this.upgradeTimer = this.env.setTimeout(() => this.probeFailed(name), this.machine.config.connectTimeoutMs);
    this.probe.open();
  }

  /** @param {Transport} name */
  probeFailed(name) {
    this.probe?.close();
    this.probe = undefined;
    this.ladder.passOver(this.env.now(), name);
    this.onLadder();
    this.planUpgrade();
  }

  /**
   * Moves to a better transport, with commands in flight.
   *
   * @param {Transport} name
   * @param {Link | undefined} probe
   */
  move(name, probe) {
    this.env.clearTimeout(this.upgradeTimer);
    this.probe = undefined;
    if (!this.machine.onMove(this.env.now())) {
      probe?.close();
      this.upgradeTimer = this.env.setTimeout(() => this.upgrade(name), MOVE_AGAIN_MS);
      return;
    }
    if (!probe) {
      this.moveTo = name;
      this.connect();
      return this.run();
    }
    this.leave();
    this.isMoving = true;
    this.isSteady = false;
    this.link = probe;
    this.did(() => this.machine.onConnected(this.env.now(), probe.traits));
  }
}

/**
 * What happens while a connection stands: frames in, commands out, heartbeats.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';
import { ImError } from '../error.js';
import { decodeMessage } from '../wire/codec.js';
import { checkPush, checkReply } from './reply.js';
import { keptBy } from './rooms.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('./types.js').Online} Online
 * @typedef {import('./machine.js').Message} Message
 * @typedef {import('./flight.js').Pending} Pending
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/** Refreshing begins so long before the credentials expire, or half way if that is later. */
const REFRESH_MARGIN_MS = 60_000;

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Message} message
 */
export function onMessage(machine, now, message) {
  machine.onHeard(now);
  try {
    for (const frame of decodeMessage(message)) {
      if (machine.phase !== 'greeting' && machine.phase !== 'online') return;
      onFrame(machine, now, frame);
    }
  } catch (error) {
    const words = error instanceof Error ? error.message : String(error);
    return machine.drop(now, { message: `the server sent something that makes no sense: ${words}` });
  }
  flush(machine, now);
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
function onFrame(machine, now, frame) {
  if (frame.t === 'ok') return onOk(machine, now, frame);
  if (frame.t === 'err') return onRefusal(machine, now, frame);
  if (checkPush(frame)) onPush(machine, now, frame);
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
function onOk(machine, now, frame) {
  const pending = machine.flight.settle(frame.id);
  if (!pending) return;
  try {
    checkReply(pending.body.t, frame);
  } catch (error) {
    if (pending.origin !== 'user') throw error;
    const message = error instanceof Error ? error.message : String(error);
    machine.outputs.push({ do: 'reply', id: frame.id, error: new ImError('protocol', message) });
    return;
  }
  switch (pending.origin) {
    case 'user':
      return onAnswer(machine, frame.id, pending.body, frame);
    case 'hello':
      return onWelcome(machine, now, frame);
    case 'resume':
    case 'fill':
      return onStatuses(machine, now, frame);
    case 'checkpoint':
      machine.rooms.confirmed(pending.body.cursors);
      return machine.rooms.learnRev(frame.rev);
  }
}

/**
 * The answer to a command of the application's.
 *
 * @param {Machine} machine
 * @param {number} id
 * @param {Frame} body
 * @param {Frame} reply
 */
function onAnswer(machine, id, body, reply) {
  if (body.t === 'sub') {
    for (const status of reply.rooms) {
      const known = machine.rooms.map.has(status.room);
      // Where pushes come by another way, they may be ahead of this answer, and the status that counts is among them.
      if (!machine.traits?.duplex && known) machine.rooms.compare(status.room, undefined);
      else {
        machine.rooms.follow(status);
        if (status.status !== 'ok') machine.events.push({ type: 'room', status });
      }
    }
    onGeneration(machine, reply.gen);
  }
  if (body.t === 'sub' || body.t === 'unsub') machine.rooms.learnRev(reply.rev);
  machine.outputs.push({ do: 'reply', id, reply });
  if (body.t === 'logout') machine.end({ code: Code.LoggedOut, message: meaning(Code.LoggedOut) });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} welcome
 */
function onWelcome(machine, now, welcome) {
  if (!welcome.resumed) machine.rooms.forgetCheckpoint();
  machine.rooms.toldAt = now;
  machine.session = { session: welcome.session, secret: welcome.secret };
  machine.identity.device = welcome.device;
  machine.limits = { ...machine.limits, ...welcome.limits };
  machine.phase = 'online';
  machine.renewals = 0;
  machine.online = {
    since: now,
    idleMs: Math.max(1000, welcome.idle_ms),
    heard: now,
    written: now,
    pingUntil: Infinity,
    refreshAt: refreshAt(machine, now, welcome.expires),
  };
  machine.outputs.push({ do: 'welcome', welcome });
  machine.events.push({ type: 'connected', welcome });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {number | null | undefined} expires
 */
function refreshAt(machine, now, expires) {
  if (!machine.identity.renewable || typeof expires !== 'number') return Infinity;
  const left = expires - machine.wallClock();
  return left > 0 ? now + Math.max(left / 2, left - REFRESH_MARGIN_MS) : Infinity;
}

/**
 * Asks for all rooms, after `first` (the greeting) in the same message. Those that are where the server's checkpoint has them
 * need not be named.
 *
 * @param {Machine} machine
 * @param {import('../wire/codec.js').Encoded} [first]
 */
export function writeResume({ traits, rooms, flight, outputs }, first) {
  const { codec, duplex } = /** @type {import('./types.js').Traits} */ (traits);
  const rev = rooms.map.size > 0 ? rooms.rev : undefined;
  const frames = rooms.toResume();
  // Without a connection the session may still follow rooms that this client does not: naming none says so.
  if (frames.length === 0 && (rev !== undefined || !duplex)) frames.push([]);
  let message = first ? [first] : [];
  /** @type {number | undefined} */
  let firstId;
  frames.forEach((cursors, at) => {
    // The revision stands in the first frame: each one changes the checkpoint, and so the revision.
    const [id, frame] = flight.write({ t: 'resume', cursors, rev: at === 0 ? rev : undefined }, 'resume', codec);
    for (const [room] of cursors) rooms.asked(room, id);
    firstId ??= id;
    message.push(frame);
    outputs.push({ do: 'transmit', message: codec.join(message) });
    message = [];
  });
  if (firstId !== undefined) rooms.askedRest(firstId);
  if (message.length > 0) outputs.push({ do: 'transmit', message: codec.join(message) });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
function onStatuses(machine, now, reply) {
  machine.rooms.learnRev(reply.rev);
  if (!machine.traits?.duplex) {
    machine.rooms.answeredElsewhere(reply.id);
    for (const status of reply.rooms) machine.rooms.compare(status.room, keptBy(status));
    return onGeneration(machine, reply.gen);
  }
  for (const status of reply.rooms) {
    const known = machine.rooms.map.has(status.room);
    if (!known && machine.flight.any('unsub', status.room)) continue;
    if (machine.rooms.answered(now, reply.id, status)) machine.events.push({ type: 'room', status });
  }
  machine.rooms.unanswered(now, reply.id);
  onGeneration(machine, reply.gen);
}

/**
 * @param {Machine} machine
 * @param {string} generation
 */
function onGeneration(machine, generation) {
  machine.generation = generation;
  for (const room of machine.rooms.setGeneration(generation)) {
    machine.events.push({ type: 'snapshot', room, entries: [] });
  }
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 */
function onRefusal(machine, now, { id, code, msg, retry_ms: retryMs }) {
  // Without a number it is about something that could not be read at all; the close that follows says the rest.
  const pending = machine.flight.pending.get(id);
  if (!pending) return;
  const later = advice(code) === 'retry' || advice(code) === 'back off';
  if (pending.origin === 'user') {
    // Whatever it was refused for, it is no try if it is another one's turn first.
    const itsTurn = code !== Code.NotYet && machine.flight.isNext(id);
    if (later && pending.body.t === 'send' && (pending.tries < machine.config.sendRetries || !itsTurn)) {
      const pause = Math.max(100 * 2 ** Math.min(pending.tries, 7), retryMs ?? 0);
      if (itsTurn) pending.tries += 1;
      return machine.flight.retry(id, now + pause, code === Code.RateLimited);
    }
    machine.flight.settle(id);
    const error = new ImError('refused', msg ?? meaning(code), { code, retryMs, mid: pending.body.mid });
    machine.outputs.push({ do: 'reply', id, error });
    return;
  }
  machine.flight.settle(id);
  if (pending.origin === 'hello') return machine.drop(now, { code, message: msg ?? meaning(code), retryMs });
  if (pending.origin === 'resume' && code === Code.StaleCheckpoint) {
    machine.rooms.forgetCheckpoint();
    return writeResume(machine);
  }
  if (pending.origin === 'resume') return machine.rooms.unanswered(now, id);
  if (pending.origin === 'checkpoint') machine.rooms.isTelling = false;
  if (pending.origin === 'fill') {
    if (later) return machine.rooms.unanswered(now, id);
    const status = { room: pending.body.room, status: 'denied', head: 0, code };
    if (machine.rooms.moves(now, status)) machine.events.push({ type: 'room', status });
  }
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
function onPush(machine, now, frame) {
  const { rooms, events } = machine;
  const { t, ...fields } = frame;
  switch (t) {
    case 'event': {
      const event = /** @type {import('./rooms.js').RoomEvent} */ (fields);
      if (rooms.take(now, event)) events.push({ type: 'event', event });
      return;
    }
    case 'signal':
      return void events.push({ type: 'signal', signal: fields });
    case 'state': {
      const update = /** @type {import('./latest.js').StateUpdate} */ (fields);
      const room = rooms.map.get(frame.room);
      if (room) events.push({ type: room.state.update(update) ? 'state' : 'stale', update });
      return;
    }
    case 'snapshot': {
      const updates = frame.entries.map((/** @type {Frame} */ entry) => ({ room: frame.room, ...entry }));
      const entries = rooms.map.get(frame.room)?.state.snapshot(frame.gen, updates, frame.more);
      if (entries) events.push({ type: 'snapshot', room: frame.room, entries });
      return;
    }
    case 'room':
      return onRoom(machine, now, /** @type {import('./rooms.js').RoomStatus} */ (fields));
    case 'bye':
      return machine.drop(now, { code: frame.code, message: frame.msg ?? meaning(frame.code), retryMs: frame.retry_ms });
  }
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {import('./rooms.js').RoomStatus} status
 */
function onRoom(machine, now, status) {
  const { rooms, traits, flight } = machine;
  if (rooms.map.has(status.room)) {
    if (rooms.moves(now, status)) machine.events.push({ type: 'room', status });
  } else if (!traits?.duplex && flight.any('sub', status.room)) {
    // It came before the answer to the `sub`.
    rooms.follow(status);
    if (status.status !== 'ok') machine.events.push({ type: 'room', status });
  }
}

/**
 * Writes what is ready.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function flush(machine, now) {
  const { online, traits, flight } = machine;
  if (!online || !traits) return;
  const holes = machine.rooms.holes(now);
  if (holes.length > 0 && !traits.duplex) {
    // A reader's mark may be further than what is missing. The next connection begins without one.
    return machine.drop(now, { message: `something is missing in ${holes[0][0]}` });
  }
  for (const [room, { cursor }] of holes) {
    const id = flight.push({ t: 'sub', room, epoch: cursor.epoch, since: cursor.seq }, 'fill');
    machine.rooms.asked(room, id);
  }
  if (now >= machine.rooms.nextCheckpoint(machine.config)) {
    flight.push({ t: 'checkpoint', cursors: machine.rooms.toConfirm(now) }, 'checkpoint');
  }
  /** @type {[number, ImError][]} */
  const refused = [];
  for (;;) {
    const frames = flight.batch(now, machine.limits, traits.codec, refused);
    if (frames.length === 0) break;
    machine.outputs.push({ do: 'transmit', message: traits.codec.join(frames) });
    online.written = now;
  }
  for (const [id, error] of refused) machine.outputs.push({ do: 'reply', id, error });
}

/**
 * Asks whether the server is still there. An answer that is awaited already is awaited no longer than `within`.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 * @param {number} within milliseconds
 */
export function ping(machine, now, online, within) {
  const { codec } = /** @type {import('./types.js').Traits} */ (machine.traits);
  online.pingUntil = Math.min(online.pingUntil, now + within);
  const [, frame] = machine.flight.write({ t: 'ping' }, 'ping', codec);
  machine.outputs.push({ do: 'transmit', message: codec.join([frame]) });
  online.written = now;
}

/**
 * When the next heartbeat is due. A link that is not duplex watches itself.
 *
 * @param {Machine} machine
 * @param {Online} online
 */
function pingAt(machine, online) {
  return machine.traits?.duplex ? Math.min(online.heard, online.written) + online.idleMs / 3 : Infinity;
}

/**
 * @param {Machine} machine
 * @param {Online} online
 */
export function deadline(machine, online) {
  const heartbeat = online.pingUntil < Infinity ? online.pingUntil : pingAt(machine, online);
  const checkpoint = machine.rooms.nextCheckpoint(machine.config);
  return Math.min(heartbeat, online.refreshAt, checkpoint, machine.rooms.nextHole(), machine.flight.deadline());
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 */
export function onTime(machine, now, online) {
  if (now >= online.pingUntil) return machine.drop(now, { message: 'nothing is heard from the server any more' });
  if (online.pingUntil === Infinity && now >= pingAt(machine, online)) {
    ping(machine, now, online, machine.config.pingTimeoutMs);
  }
  if (now >= online.refreshAt) {
    online.refreshAt = Infinity;
    machine.outputs.push({ do: 'fetchToken' });
  }
  flush(machine, now);
}

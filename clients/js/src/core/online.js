/**
 * An open connection: frames in, commands out, heartbeats.
 *
 * @module
 */

import { decodeMessage } from '../wire/codec.js';
import { onOk, onRefusal } from './answers.js';
import * as credentials from './credentials.js';
import { onPush } from './pushes.js';
import { checkPush } from './reply.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('./types.js').Online} Online
 * @typedef {import('./machine.js').Message} Message
 * @typedef {import('../wire/value.js').Frame} Frame
 */

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
    return machine.drop(now, { message: `invalid message from the server: ${words}` });
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
 * Writes what is ready.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function flush(machine, now) {
  const { online, traits, flight } = machine;
  if (!online || !traits) return;
  repairGaps(machine, now);
  if (now >= machine.rooms.nextCheckpoint(machine.config)) {
    flight.push({ t: 'checkpoint', cursors: machine.rooms.toConfirm(now) }, 'checkpoint');
  }
  /** @type {[number, import('../error.js').ImError][]} */
  const refused = [];
  // Requests go one after the other: commands queued during one are combined into the next.
  while (traits.duplex || flight.pace.underWay === 0) {
    const batch = flight.batch(now, machine.limits, traits.codec, refused);
    if (!batch) break;
    machine.outputs.push({ do: 'transmit', message: traits.codec.join(batch.frames), idempotent: batch.idempotent });
    online.written = now;
  }
  for (const [id, error] of refused) machine.outputs.push({ do: 'reply', id, error });
}

/**
 * Requests missing events: rooms whose `resume` was refused together, as before, each other one by
 * itself.
 *
 * @param {Machine} machine
 * @param {number} now
 */
function repairGaps({ rooms, flight }, now) {
  const gaps = rooms.gaps(now);
  const together = gaps.flatMap(([id, { wasRefused }]) => (wasRefused ? [id] : []));
  for (const cursors of rooms.frames(together)) {
    const by = flight.push({ t: 'resume', cursors }, 'resume');
    for (const [id] of cursors) rooms.asked(id, by);
  }
  for (const [room, { cursor, asked }] of gaps) {
    if (asked !== undefined) continue;
    const by = flight.push({ t: 'subscribe', room, epoch: cursor.epoch, since: cursor.seq }, 'gapRepair');
    rooms.asked(room, by);
  }
}

/**
 * Sends a heartbeat. An answer that is awaited already is awaited no longer than `within`.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 * @param {number} within milliseconds
 */
export function ping(machine, now, online, within) {
  const { codec } = /** @type {import('./types.js').Traits} */ (machine.traits);
  // The heartbeat waits behind the bytes in flight; on a slow uplink that time is no silence of the
  // server.
  online.pingUntil = Math.min(online.pingUntil, now + within + machine.flight.pace.graceMs);
  const [, frame] = machine.flight.write(now, { t: 'ping' }, 'ping', codec);
  machine.outputs.push({ do: 'transmit', message: codec.join([frame]), idempotent: true });
  online.written = now;
}

/**
 * Returns when the next heartbeat is due. A link that is not duplex checks itself.
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
  return Math.min(heartbeat, machine.credentials.deadline, checkpoint, machine.rooms.nextGap(), machine.flight.deadline());
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Online} online
 */
export function onTime(machine, now, online) {
  if (now >= online.pingUntil) return machine.drop(now, { message: 'the server is silent' });
  if (online.pingUntil === Infinity && now >= pingAt(machine, online)) {
    ping(machine, now, online, machine.config.pingTimeoutMs);
  }
  credentials.onTime(machine, now);
  flush(machine, now);
}

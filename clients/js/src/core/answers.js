/**
 * Answers to commands: what they change, and where they are delivered.
 *
 * @module
 */

import { advice, Code, meaning } from '../codes.js';
import { ImError } from '../error.js';
import { onRefreshed, onRefreshRefused } from './credentials.js';
import { onWelcome, writeResume } from './greeting.js';
import { releaseEarly } from './pushes.js';
import { checkReply } from './reply.js';

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('./flight.js').Pending} Pending
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 */
export function onOk(machine, now, frame) {
  machine.flight.arrived(now, frame.id);
  const pending = machine.flight.settle(frame.id);
  if (!pending) return;
  try {
    checkReply(pending.body.t, frame);
  } catch (error) {
    if (pending.origin !== 'user') throw error;
    onUnreadable(machine, frame.id, pending, error instanceof Error ? error.message : String(error));
    return releaseEarly(machine, now, false);
  }
  onGood(machine, now, frame, pending);
  machine.decisions.forget(machine.flight.oldestSubscribing());
  releaseEarly(machine, now, true);
}

/**
 * Handles an invalid answer to a command of the application.
 *
 * @param {Machine} machine
 * @param {number} id
 * @param {Pending} pending
 * @param {string} message
 */
function onUnreadable({ rooms, decisions, flight, outputs }, id, { body }, message) {
  // The server may hold a subscription that the client does not have.
  if (body.t === 'subscribe' || body.t === 'unsubscribe') rooms.hasStray = true;
  decisions.forget(flight.oldestSubscribing());
  outputs.push({ do: 'reply', id, error: new ImError('protocol', message) });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} frame
 * @param {Pending} pending
 */
function onGood(machine, now, frame, pending) {
  switch (pending.origin) {
    case 'user':
      return onAnswer(machine, now, pending.body, frame);
    case 'hello':
      return onWelcome(machine, now, frame);
    case 'resume':
    case 'gapRepair':
      return onStatuses(machine, now, frame);
    case 'checkpoint':
      machine.rooms.confirmed(pending.body.cursors);
      return machine.rooms.learnRev(frame.rev);
    case 'refresh':
      return onRefreshed(machine, now, frame);
  }
}

/**
 * Handles the answer to a command of the application.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} body
 * @param {Frame} reply
 */
function onAnswer(machine, now, body, reply) {
  if (body.t === 'subscribe') onSubscribed(machine, now, body.room, reply);
  if (body.t === 'subscribe' || body.t === 'unsubscribe') {
    machine.rooms.learnRev(reply.rev);
    machine.decisions.carriedOut(body.room, reply.id);
  }
  if (body.t === 'refresh') onRefreshed(machine, now, reply);
  machine.outputs.push({ do: 'reply', id: reply.id, reply });
  if (body.t === 'logout') machine.end({ code: Code.LoggedOut, message: meaning(Code.LoggedOut) });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {string} room
 * @param {Frame} reply
 */
function onSubscribed(machine, now, room, reply) {
  const { rooms, decisions } = machine;
  if (!decisions.overtake(room, reply.id)) {
    for (const status of reply.rooms) {
      if (rooms.subscribed(now, status)) machine.events.push({ type: 'room', status });
    }
  }
  onGeneration(machine, reply.gen);
}

/**
 * Handles the statuses that answer the client's own command about rooms.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} reply
 */
function onStatuses(machine, now, reply) {
  const { rooms, flight, decisions } = machine;
  rooms.learnRev(reply.rev);
  for (const status of reply.rooms) {
    // The application has unsubscribed, and the server has not read that command yet.
    if (!rooms.map.has(status.room) && flight.subscribing(status.room)) continue;
    if (decisions.overtake(status.room, reply.id)) continue;
    if (rooms.answered(now, reply.id, status)) machine.events.push({ type: 'room', status });
  }
  rooms.unanswered(now, reply.id);
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
export function onRefusal(machine, now, refusal) {
  const { id, code } = refusal;
  machine.flight.arrived(now, id);
  // A refusal without a number is about an unreadable message; the close that follows has the
  // details.
  const pending = machine.flight.pending.get(id);
  if (!pending) return;
  if (pending.origin === 'user') onUserRefusal(machine, now, refusal, pending);
  else {
    machine.flight.settle(id);
    onOwnRefusal(machine, now, refusal, pending);
  }
  releaseEarly(machine, now, false);
}

/**
 * Handles a refusal of the client's own command.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 * @param {Pending} pending
 */
function onOwnRefusal(machine, now, refusal, pending) {
  const { id, code, retry_ms: retryMs } = refusal;
  switch (pending.origin) {
    case 'hello':
      return machine.drop(now, { code, message: refusal.msg ?? meaning(code), retryMs });
    case 'resume':
      if (isTemporary(code)) return machine.rooms.refused(now, id, retryMs, true);
      if (code !== Code.StaleCheckpoint) return machine.rooms.unanswered(now, id);
      machine.rooms.dropCheckpoint();
      return writeResume(machine, now);
    case 'checkpoint':
      machine.rooms.checkpointPending = false;
      return;
    case 'refresh':
      return onRefreshRefused(machine, now, refusal);
    case 'gapRepair':
      return onGapRepairRefused(machine, now, refusal, pending.body.room);
  }
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 * @param {Pending} pending
 */
function onUserRefusal(machine, now, { id, code, msg, retry_ms: retryMs }, pending) {
  const { flight, rooms, decisions } = machine;
  const { body, tries } = pending;
  // Whatever the refusal, it does not count as a try while an earlier send is unanswered.
  const itsTurn = code !== Code.SenderOrder && flight.isNext(id);
  if (isTemporary(code) && body.t === 'send' && (tries < machine.config.sendRetries || !itsTurn)) {
    const pause = Math.max(100 * 2 ** Math.min(tries, 7), retryMs ?? 0);
    if (itsTurn) pending.tries += 1;
    return flight.retry(id, now + pause, code === Code.RateLimited);
  }
  flight.settle(id);
  // The server keeps a subscription that the client has ended.
  if (body.t === 'unsubscribe') {
    rooms.hasStray = true;
    decisions.carriedOut(body.room, id);
  }
  decisions.forget(flight.oldestSubscribing());
  const error = new ImError('refused', msg ?? meaning(code), { code, retryMs, mid: body.mid });
  machine.outputs.push({ do: 'reply', id, error });
}

/**
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} refusal
 * @param {string} room
 */
function onGapRepairRefused({ rooms, events, decisions }, now, { id, code, retry_ms: retryMs }, room) {
  // If the application has called since, the answer to its call decides about the room.
  if (isTemporary(code) || decisions.overtake(room, id)) return rooms.refused(now, id, retryMs);
  const status = { room, status: 'denied', head: 0, code };
  if (rooms.moves(now, status)) events.push({ type: 'room', status });
}

/** Whether the code is retryable. @param {number} code */
function isTemporary(code) {
  const given = advice(code);
  return given === 'retry' || given === 'back off';
}

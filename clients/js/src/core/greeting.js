/**
 * The first messages of a connection: the greeting and the resume.
 *
 * @module
 */

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * Sends the greeting, and the resume of all rooms in the same message.
 *
 * @param {Machine} machine
 * @param {number} now
 */
export function greet(machine, now) {
  const { identity, session, flight } = machine;
  const { codec } = /** @type {import('./types.js').Traits} */ (machine.traits);
  const { token, user, device, client } = identity;
  const hello = { t: 'hello', v: 1, token, user, device, ...session, client };
  const [, first] = flight.write(now, hello, 'hello', codec);
  writeResume(machine, now, first);
  // The time that a slow uplink needs for these bytes does not count as silence of the server.
  machine.until += flight.pace.graceMs;
}

/**
 * Writes the resume of all rooms, after `first` (the greeting) in the same message. Rooms whose
 * cursor equals the server's checkpoint need not be named.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {import('../wire/codec.js').Encoded} [first]
 */
export function writeResume({ traits, rooms, flight, outputs }, now, first) {
  const { codec, duplex } = /** @type {import('./types.js').Traits} */ (traits);
  const rev = rooms.map.size > 0 ? rooms.rev : undefined;
  const frames = rooms.toResume();
  // The checkpoint may contain rooms that this client has unsubscribed, or never knew: then an
  // empty frame is sent.
  if (frames.length === 0 && (rev !== undefined || !duplex || rooms.mayHold)) frames.push([]);
  let message = first ? [first] : [];
  /** @type {number | undefined} */
  let firstId;
  frames.forEach((cursors, at) => {
    // Only the first frame has the revision: each one changes the checkpoint, and so the revision.
    const [id, frame] = flight.write(now, { t: 'resume', cursors, rev: at === 0 ? rev : undefined }, 'resume', codec);
    for (const [room] of cursors) rooms.asked(room, id);
    firstId ??= id;
    message.push(frame);
    outputs.push({ do: 'transmit', message: codec.join(message), idempotent: true });
    message = [];
  });
  if (firstId !== undefined) rooms.askedRest(firstId);
  if (message.length > 0) outputs.push({ do: 'transmit', message: codec.join(message), idempotent: true });
}

/**
 * Handles the welcome: the connection is open.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {Frame} welcome
 */
export function onWelcome(machine, now, welcome) {
  const { rooms, identity, credentials } = machine;
  if (!welcome.resumed) rooms.dropCheckpoint();
  rooms.checkpointedAt = now;
  machine.session = { session: welcome.session, secret: welcome.secret };
  identity.device = welcome.device;
  machine.limits = { ...machine.limits, ...welcome.limits };
  machine.phase = 'online';
  credentials.renewals = 0;
  credentials.until = Infinity;
  credentials.plan(now, identity.renewable ? welcome.expires : undefined);
  machine.online = { since: now, idleMs: Math.max(1000, welcome.idle_ms), heard: now, written: now, pingUntil: Infinity };
  machine.outputs.push({ do: 'welcome', welcome });
  machine.events.push({ type: 'connected', welcome });
}

/**
 * The first words of a connection: greeting, and asking for the rooms.
 *
 * @module
 */

/**
 * @typedef {import('./machine.js').Machine} Machine
 * @typedef {import('../wire/value.js').Frame} Frame
 */

/**
 * Greets, and asks for the rooms in the same flight.
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
  // What a slow uplink needs for all of that is no silence of the server's.
  machine.until += flight.pace.graceMs;
}

/**
 * Asks for all rooms, after `first` (the greeting) in the same message. Those that are where the server's checkpoint has them
 * need not be named.
 *
 * @param {Machine} machine
 * @param {number} now
 * @param {import('../wire/codec.js').Encoded} [first]
 */
export function writeResume({ traits, rooms, flight, outputs }, now, first) {
  const { codec, duplex } = /** @type {import('./types.js').Traits} */ (traits);
  const rev = rooms.map.size > 0 ? rooms.rev : undefined;
  const frames = rooms.toResume();
  // The session's checkpoint may have rooms that this client has left, or never knew: naming none says so.
  if (frames.length === 0 && (rev !== undefined || !duplex || rooms.mayHold)) frames.push([]);
  let message = first ? [first] : [];
  /** @type {number | undefined} */
  let firstId;
  frames.forEach((cursors, at) => {
    // The revision stands in the first frame: each one changes the checkpoint, and so the revision.
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
 * The server has answered the greeting: the connection stands.
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

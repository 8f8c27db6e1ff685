import { configOf } from '../../src/config.js';
import { Machine } from '../../src/core/machine.js';
import { JSON_CODEC } from '../../src/wire/codec.js';

const WELCOME = { t: 'ok', id: 1, session: 's', secret: 'x', user: 'u', device: 'd', resumed: false, idle_ms: 60_000, limits: {} };

/**
 * A machine that is online, since the time 0.
 *
 * @param {Partial<import('../../src/core/types.js').Identity>} [identity]
 * @param {object} [welcome]
 */
export function online(identity, welcome) {
  const machine = new Machine({
    config: configOf(),
    identity: { renewable: false, client: 'test', ...identity },
    random: () => 0.5,
    wallClock: () => 1_000_000,
  });
  machine.start(0);
  machine.onConnected(0, { codec: JSON_CODEC, duplex: true });
  machine.onMessage(0, JSON.stringify({ ...WELCOME, ...welcome }));
  machine.outputs.length = 0;
  machine.events.length = 0;
  return machine;
}

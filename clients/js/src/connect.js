import { Client } from './client.js';
import { Ladder } from './core/ladder.js';
import { Machine } from './core/machine.js';
import { environment } from './env.js';
import { checkId } from './ids.js';
import { addressesOf, linkOf, transportsOf } from './links/index.js';
import { Shell } from './shell.js';
import { PersistentStore } from './storage.js';
import { tabsEnvironment } from './tabs/channel.js';
import { join } from './tabs/index.js';

/** @typedef {import('./core/types.js').ClientEvent} ClientEvent */

/** Name and version, for the server's logs. */
export const CLIENT = 'im-js 0.1';

/** Another tab is local, so reconnecting to it need not wait long. */
const TAB_RECONNECT = { baseMs: 50, maxMs: 2000, attempts: Infinity, stableMs: 1000 };
/** The leading tab answers only once its own connection is open. */
const TAB_CONNECT_MS = 60_000;

/**
 * Fetches credentials. `signal` aborts when the client waits for them no longer.
 *
 * @typedef {(options: {signal: AbortSignal}) => string | null | Promise<string | null>} TokenSource
 */

/**
 * @typedef {object} Options
 * @property {string} url The service's address: `https://example.org/im` for all transports (in a
 *   page `/im` will do), or the address of its WebSocket, `wss://example.org/im/ws`.
 * @property {string | TokenSource} [token] A token, or a function that fetches a valid one. The
 *   function is called again before its token expires, and when the token was refused. If it
 *   throws, or takes longer than `config.tokenTimeoutMs`, it is called again after a pause; `null`
 *   means that there will be no token, and ends the client. Not needed if a cookie authenticates
 *   the user.
 * @property {string} [user] The user id, for servers that allow anonymous users.
 * @property {string} [device] The device id; should be stable. From the storage if there is one,
 *   otherwise random.
 * @property {import('./links/link.js').Transport | 'auto' | import('./links/link.js').Transport[]} [transport]
 *   `ws`, `sse`, `poll` (long polling), `short` (short polling), or a list of these, the best
 *   first. `auto`, the default, is all four: the best that works is used, and a better one is tried
 *   again after a while.
 * @property {'json' | 'msgpack'} [encoding] `json` by default.
 * @property {import('./storage.js').StorageLike} [storage] Where the session, the device and
 *   messages without an ack are stored, so that they survive a reload: for example `localStorage`,
 *   if no other user of this browser can read the page's storage.
 * @property {boolean} [tabs] Whether all tabs of the page share one connection; not by default.
 *   Where a browser lacks Web Locks or BroadcastChannel, each tab has its own. Tabs of different
 *   users must have different names.
 * @property {string} [name] Separates several clients of one page, in the storage and between tabs.
 *   The address and the user by default.
 * @property {RequestCredentials} [credentials] Whether HTTP requests carry cookies: `same-origin`
 *   by default; `include` for services of another origin.
 * @property {import('./config.js').ConfigOptions} [config]
 * @property {import('./tabs/channel.js').TabsEnv} [tabsEnv] Locks and channels, for tests.
 * @property {Partial<import('./links/link.js').Env>} [env] Clocks, `fetch` and the like, for tests.
 */

/**
 * Creates a client of the service at `options.url`, which connects at once.
 *
 * @param {Options} options
 * @returns {Client}
 * @throws {import('./error.js').ImError} `invalid` for invalid options
 */
export function connect(options) {
  const { url, token, user, device, transport = 'auto', encoding = 'json', credentials = 'same-origin' } = options;
  const addresses = addressesOf(url);
  const order = transportsOf(addresses, transport);
  if (user !== undefined) checkId('user', user);
  if (device !== undefined) checkId('device', device);
  const env = { ...environment(), ...options.env };
  const store = storeOf();
  const client = new Client({ config: options.config, store });
  const { config } = client;
  /** @type {((options: {signal: AbortSignal}) => Promise<string | null>) | undefined} */
  const tokens = typeof token === 'function' ? async (options) => token(options) : undefined;
  /**
   * @type {(session: import('./core/types.js').Session | undefined, onEvent: (event: ClientEvent)
   *   => void) => Shell}
   */
  const direct = (session, onEvent) => {
    const identity = {
      token: typeof token === 'string' ? token : undefined,
      renewable: tokens !== undefined,
      user,
      device: device ?? store?.device(),
      client: CLIENT,
    };
    const machine = new Machine({ config, identity, session, random: env.random, wallClock: env.wallClock });
    const ladder = new Ladder(order, config.upgradeMs);
    ladder.load(env.now(), store?.get('transports'));
    const setup = { addresses, encoding, credentials, config, env, token: () => machine.identity.token };
    const onLadder = () => store?.put('transports', JSON.stringify(ladder.save(env.now())));
    /**
     * @type {(name: string, events: import('./links/link.js').LinkEvents) =>
     *   import('./links/link.js').Link}
     */
    const link = (name, events) => linkOf(name, setup, events);
    return new Shell({ machine, ladder, env, tokens, onEvent, onLadder, link });
  };
  const tabsEnv = options.tabs ? (options.tabsEnv ?? tabsEnvironment()) : undefined;
  if (tabsEnv) client.begin(shared(tabsEnv));
  else client.begin(direct(store?.session(), (event) => client.onEvent(event)));
  return client;

  /** @param {import('./tabs/channel.js').TabsEnv} tabs */
  function shared(tabs) {
    const machine = new Machine({
      config: { ...config, reconnect: TAB_RECONNECT, connectTimeoutMs: TAB_CONNECT_MS },
      identity: { renewable: false, user, device, client: CLIENT },
      session: store?.session(),
      random: env.random,
      wallClock: env.wallClock,
    });
    const joined = join({ name: nameOf(options), tabs, env, connect: (onEvent) => direct(machine.session, onEvent) });
    client.atClose.push(joined.leave);
    client.isLeader = joined.isLeader;
    const ladder = new Ladder([/** @type {any} */ ('tab')], config.upgradeMs);
    return new Shell({
      machine,
      ladder,
      env,
      tokens: undefined,
      link: (_, events) => joined.link(events),
      onEvent: (event) => client.onEvent(event),
    });
  }

  /** @param {Options} from */
  function nameOf({ name = `${addresses.ws} ${user ?? ''}` }) {
    return name;
  }

  function storeOf() {
    const { storage } = options;
    return storage && new PersistentStore(storage, nameOf(options), (error) => queueMicrotask(() => client.emit('error', error)));
  }
}

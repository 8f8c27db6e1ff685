//! The engine's configuration.

use std::time::Duration;

use crate::state::StateLimits;
use crate::wire::Limits;

/// The engine's configuration. Start from [`EngineConfig::default`] and change single fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EngineConfig {
    /// Bounds of one message.
    pub limits: Limits,
    /// Bounds of a room's state.
    pub state: StateLimits,

    /// Maximum time from the opening of a connection to its handshake. 5 s by default: enough for a
    /// slow phone, short enough that silent connections do not accumulate.
    pub handshake_timeout: Duration,
    /// Maximum silence of a peer. 60 s by default: proxies often cut off at 60 s or more, and three
    /// heartbeats fit into it.
    pub idle_timeout: Duration,
    /// Time without traffic to or from a peer after which the transport is asked for a heartbeat.
    /// 20 s by default.
    pub heartbeat: Duration,
    /// Interval of timeout checks; timeouts may be late by this much. 1 s by default.
    pub tick: Duration,
    /// Maximum duration of a hook call. 2 s by default.
    pub hook_timeout: Duration,

    /// Connections of this engine, before and after the handshake. 1,000,000 by default; each costs
    /// some 2 KB here and more in its transport.
    pub max_connections: usize,
    /// Connections of one address (of IPv6, one /64), retained polls included; further ones are
    /// refused with [`Code::TooManyConnections`](crate::Code::TooManyConnections).
    ///
    /// 1,024 by default, since many people may share an address. Behind a proxy, configure the
    /// transport to report the client's own address (docs/proxies.md), or all clients count as one.
    pub max_connections_per_address: usize,
    /// Connections of one address before their handshake. 1,024 by default.
    pub max_handshakes_per_address: usize,
    /// Connections of one user. 16 by default: a few devices with a few tabs each.
    pub max_connections_per_user: usize,
    /// Concurrent command messages of one user that came without a connection of their own. A
    /// message counts from the moment its user is known, by headers or by `hello`. 32 by default;
    /// further ones are refused with [`Code::TooManyConnections`](crate::Code::TooManyConnections).
    pub max_calls_per_user: usize,
    /// Time after its last use during which a session can be resumed. 7 days by default.
    pub session_ttl: Duration,
    /// Sessions of a user. 100 by default. When a further one is opened, the least recently used
    /// one ends.
    pub max_sessions_per_user: usize,
    /// Interval at which the sessions connected here are compared with the store, so that a session
    /// that another node ended or took over is disconnected even if the hint was lost. 10 s by
    /// default.
    pub session_check: Duration,

    /// Commands of a connection whose acks it has not received yet. 64 by default. Beyond that the
    /// connection is not read any further. The bytes of acks have bounds of their own:
    /// [`Self::ack_bytes`].
    pub max_in_flight: u32,
    /// Bytes of acks that one connection, or one call, may have pending before its next command
    /// waits until they are written. 256 KiB by default: one full page. Worst case in memory: this,
    /// one page, and [`Self::max_in_flight`] small acks.
    pub ack_bytes: usize,
    /// Bytes of pending acks of all connections together, including pages being built. 128 MiB by
    /// default: more than two hundred full pages at one time.
    ///
    /// Beyond that, commands that request pages wait for 2 s and are then refused with
    /// [`Code::Overloaded`](crate::Code::Overloaded), and every connection has one command at a
    /// time. From three quarters on, a connection that receives no byte of its acks for five ticks
    /// is disconnected with [`Code::SlowSubscriber`](crate::Code::SlowSubscriber). Worst case in
    /// memory: this, and one small ack for each connection.
    pub acks_bytes: usize,
    /// Refused frames after which a connection is closed. Frames count that are refused by the rate
    /// limit or because an earlier send must be retried first; the count restarts when the client
    /// has waited for as long as it was told to.
    ///
    /// 4,096 by default: as many frames as a client may have sent when it reads the first refusal.
    /// After each refusal beyond 256, or beyond four times [`Self::max_in_flight`] if that is more,
    /// the connection is not read for 10 ms. A call counts as a connection of its own. Worst case:
    /// the acks, of which `max_in_flight` are pending at a time.
    pub max_flood: u32,
    /// Rooms that one session subscribes to. 2,048 by default; some 100 bytes each.
    pub max_rooms_per_session: usize,
    /// Members of a room. 100,000 by default.
    pub max_members: u32,
    /// Members named when a room is created. 256 by default.
    pub max_first_members: usize,
    /// Events, members or rooms in one page. 200 by default.
    pub max_page: u32,
    /// Bytes of one page: as encoded for a client, and of packed content where a log is read. 256
    /// KiB by default. A page contains at least one entry, however large.
    pub max_page_bytes: usize,
    /// How far ahead of the engine's clock a state stamp may lie. 5 s by default.
    pub max_stamp_ahead: Duration,
    /// If set, only message ids that are UUIDv7 and not older than this are accepted; older ones
    /// are refused as "too old". Off by default.
    pub dedup_horizon: Option<Duration>,

    /// Bytes enqueued for one connection: pushes as they are on the wire, in the longer encoding.
    /// 256 KiB by default. Beyond that the queue is dropped and the subscriber catches up from the
    /// log.
    pub outbox_bytes: usize,
    /// Bytes enqueued for all connections together. 256 MiB by default. Beyond that queues are
    /// dropped as above.
    pub outboxes_bytes: usize,
    /// Ephemeral messages enqueued for one connection. 256 by default; the oldest is dropped first.
    pub max_signals: usize,
    /// Treatment of a subscriber whose queue was dropped.
    pub slow_subscriber: SlowSubscriber,

    /// Recent events of a room cached in its window while it has subscribers. 256 by default.
    pub window_events: usize,
    /// Bytes of the window of one room: of the event and of both encodings, whether or not they
    /// were requested. 512 KiB by default: 256 events of half a kilobyte. A window contains at
    /// least one event, however large. The same bound applies to buffered events that arrive before
    /// their predecessors; beyond it they are read from the store.
    pub window_bytes: usize,
    /// Bytes of the windows of all rooms together. 256 MiB by default, which is the worst case in
    /// memory. Beyond that, windows cache nothing, and those of rooms without events for a tick are
    /// emptied; subscribers then catch up from the store.
    pub windows_bytes: usize,
    /// Bytes of keyed state of all rooms with subscribers together: keys, values and 384 bytes per
    /// entry. 64 MiB by default: a thousand rooms full of state. Beyond that, state that was not
    /// used recently is evicted and read from the store again on demand. Worst case in memory:
    /// this, and the rooms whose state is in use at that moment.
    pub states_bytes: usize,
    /// Concurrent store reads for catch-up. 16 by default.
    pub catch_up_reads: usize,
    /// Bytes of catch-up pages cached for other subscribers, every form of their events counted. 64
    /// MiB by default, some 60,000 short messages; 0 caches none.
    pub page_cache_bytes: usize,

    /// Append workers, each with its share of the rooms. 4 by default.
    pub append_shards: usize,
    /// Appends queued for one shard: half of them in order of arrival, half in the queue that is
    /// fair among users. 4,096 by default; senders wait beyond that. Worst case in memory: as many
    /// messages of `limits.max_message_bytes`.
    pub append_shard_queue: usize,
    /// Appends in one store call. 512 by default.
    pub append_batch: usize,
    /// Rows in one store call: two for each append, and two more for each first member of a room.
    /// At least 8 are used, four times what a message writes.
    ///
    /// 1,024 by default: one store call then takes some 10 ms, and a shard's other users wait no
    /// longer than that. An append of more than a quarter of them (a room created with 128 members)
    /// is sent alone, and only one at a time across all shards.
    pub append_rows: usize,
    /// Bytes in one store call, 64 for each row and the contents. 1 MiB by default, for the same
    /// reason.
    pub append_bytes: usize,

    /// Interval at which heads and state of rooms with subscribers are compared with the store. 5 s
    /// by default.
    pub head_check: Duration,
    /// Interval at which old events and the remains of deleted rooms are removed. 10 s by default.
    pub upkeep: Duration,
    /// Rooms checked in one round of upkeep. 1,024 by default: a million rooms take some three
    /// hours.
    pub upkeep_rooms: usize,
    /// Events, or records of deleted rooms, that one round of upkeep removes. 16,384 by default.
    pub upkeep_events: usize,
    /// Maximum delay of a state update before it is written to the store. 200 ms by default.
    pub state_delay: Duration,
    /// State keys that wait to be written. 65,536 by default; beyond that updates are refused. At
    /// most twice as many updates accepted by other nodes are retained, for five to ten times
    /// `state_delay`.
    pub max_state_pending: usize,
    /// Bytes of these updates: keys, rooms and values. 64 MiB by default; beyond that updates are
    /// refused.
    pub max_state_pending_bytes: usize,
}

/// Treatment of a subscriber whose queue was dropped because it received too little for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SlowSubscriber {
    /// It catches up from the log at its own pace and loses nothing durable.
    #[default]
    CatchUp,
    /// It is disconnected with [`Code::SlowSubscriber`](crate::Code::SlowSubscriber) and may
    /// resume.
    Disconnect,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            state: StateLimits::default(),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            heartbeat: Duration::from_secs(20),
            tick: Duration::from_secs(1),
            hook_timeout: Duration::from_secs(2),
            max_connections: 1_000_000,
            max_connections_per_address: 1024,
            max_handshakes_per_address: 1024,
            max_connections_per_user: 16,
            max_calls_per_user: 32,
            session_ttl: Duration::from_secs(7 * 24 * 3600),
            max_sessions_per_user: 100,
            session_check: Duration::from_secs(10),
            max_in_flight: 64,
            ack_bytes: 256 * 1024,
            acks_bytes: 128 * 1024 * 1024,
            max_flood: 4096,
            max_rooms_per_session: 2048,
            max_members: 100_000,
            max_first_members: 256,
            max_page: 200,
            max_page_bytes: 256 * 1024,
            max_stamp_ahead: Duration::from_secs(5),
            dedup_horizon: None,
            outbox_bytes: 256 * 1024,
            outboxes_bytes: 256 * 1024 * 1024,
            max_signals: 256,
            slow_subscriber: SlowSubscriber::default(),
            window_events: 256,
            window_bytes: 512 * 1024,
            windows_bytes: 256 * 1024 * 1024,
            states_bytes: 64 * 1024 * 1024,
            catch_up_reads: 16,
            page_cache_bytes: 64 * 1024 * 1024,
            append_shards: 4,
            append_shard_queue: 4096,
            append_batch: 512,
            append_rows: 1024,
            append_bytes: 1024 * 1024,
            head_check: Duration::from_secs(5),
            upkeep: Duration::from_secs(10),
            upkeep_rooms: 1024,
            upkeep_events: 16_384,
            state_delay: Duration::from_millis(200),
            max_state_pending: 65_536,
            max_state_pending_bytes: 64 * 1024 * 1024,
        }
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty),* $(,)?) => {
        impl EngineConfig {
            $(
                #[doc = concat!("Sets [`", stringify!($name), "`](EngineConfig#structfield.", stringify!($name), ").")]
                #[must_use]
                pub fn $name(mut self, value: $type) -> Self {
                    self.$name = value;
                    self
                }
            )*
        }
    };
}

setters! {
    limits: Limits,
    state: StateLimits,
    handshake_timeout: Duration,
    idle_timeout: Duration,
    heartbeat: Duration,
    tick: Duration,
    hook_timeout: Duration,
    max_connections: usize,
    max_connections_per_address: usize,
    max_handshakes_per_address: usize,
    max_connections_per_user: usize,
    max_calls_per_user: usize,
    session_ttl: Duration,
    max_sessions_per_user: usize,
    session_check: Duration,
    max_in_flight: u32,
    ack_bytes: usize,
    acks_bytes: usize,
    max_flood: u32,
    max_rooms_per_session: usize,
    max_members: u32,
    max_first_members: usize,
    max_page: u32,
    max_page_bytes: usize,
    max_stamp_ahead: Duration,
    dedup_horizon: Option<Duration>,
    outbox_bytes: usize,
    outboxes_bytes: usize,
    max_signals: usize,
    slow_subscriber: SlowSubscriber,
    window_events: usize,
    window_bytes: usize,
    windows_bytes: usize,
    states_bytes: usize,
    catch_up_reads: usize,
    page_cache_bytes: usize,
    append_shards: usize,
    append_shard_queue: usize,
    append_batch: usize,
    append_rows: usize,
    append_bytes: usize,
    head_check: Duration,
    upkeep: Duration,
    upkeep_rooms: usize,
    upkeep_events: usize,
    state_delay: Duration,
    max_state_pending: usize,
    max_state_pending_bytes: usize,
}

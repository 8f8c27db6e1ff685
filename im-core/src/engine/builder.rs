//! The engine's builder. Only one choice is required: the authenticator.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::Result;
use crate::id::NodeId;
use crate::memory::MemoryStore;
use crate::ports::{
    AllowAnonymous, Authenticator, Bus, Clock, Hooks, NoHooks, NoQuotas, Quotas, RateLimiter,
    Retention, RetentionPolicy, Store, SystemClock, TokenBuckets,
};
use crate::time::StampClock;

use super::Engine;
use super::acks::AckBudget;
use super::append_shards::{self, AppendShards};
use super::catch_up_reads::CatchUpReads;
use super::config::EngineConfig;
use super::core::Core;
use super::health::Vitals;
use super::hub::Hub;
use super::outbox::OutboxBounds;
use super::remote_state::RemoteState;
use super::room::WindowBounds;
use super::state_writer::StateWriter;

/// The authenticator is not chosen yet.
#[derive(Debug, Clone, Copy)]
pub struct NeedsAuthenticator(());

/// Builder of an engine. `A` records whether the authenticator was chosen.
#[must_use]
pub struct EngineBuilder<A = Arc<dyn Authenticator>> {
    authenticator: A,
    store: Option<Arc<dyn Store>>,
    bus: Option<Arc<dyn Bus>>,
    hooks: Arc<dyn Hooks>,
    clock: Arc<dyn Clock>,
    limiter: Arc<dyn RateLimiter>,
    quotas: Arc<dyn Quotas>,
    retention: Arc<dyn RetentionPolicy>,
    config: EngineConfig,
}

/// A user's default rate and burst in tokens: a send costs one. A person types less, a busy bot
/// needs no more.
const COMMANDS_PER_SECOND: u32 = 200;
const COMMANDS_AT_ONCE: u32 = 1000;

impl EngineBuilder<NeedsAuthenticator> {
    pub(super) fn new() -> Self {
        Self {
            authenticator: NeedsAuthenticator(()),
            store: None,
            bus: None,
            hooks: Arc::new(NoHooks),
            clock: Arc::new(SystemClock),
            limiter: Arc::new(TokenBuckets::new(COMMANDS_PER_SECOND, COMMANDS_AT_ONCE)),
            quotas: Arc::new(NoQuotas),
            retention: Arc::new(Retention::default()),
            config: EngineConfig::default(),
        }
    }

    /// Sets the authenticator.
    pub fn authenticator(self, authenticator: Arc<dyn Authenticator>) -> EngineBuilder {
        EngineBuilder {
            authenticator,
            store: self.store,
            bus: self.bus,
            hooks: self.hooks,
            clock: self.clock,
            limiter: self.limiter,
            quotas: self.quotas,
            retention: self.retention,
            config: self.config,
        }
    }

    /// Accepts every claimed user. For demos, and behind a gateway that authenticates.
    pub fn allow_anonymous(self) -> EngineBuilder {
        self.authenticator(Arc::new(AllowAnonymous))
    }
}

impl<A> EngineBuilder<A> {
    /// Sets the store. The default is a [`MemoryStore`], which is lost with the process.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Sets the bus to other engines on the same store. None by default.
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Sets the hooks. [`NoHooks`] by default.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Sets the clock. The system's clock by default.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the rate limit of commands. The default is 200 tokens a second and 1,000 at once per
    /// user, on each node: a short send costs one, a command that reads or writes more rows costs
    /// more.
    pub fn rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.limiter = limiter;
        self
    }

    /// Sets the quotas of addresses and users. None by default.
    pub fn quotas(mut self, quotas: Arc<dyn Quotas>) -> Self {
        self.quotas = quotas;
        self
    }

    /// Sets the retention policy. By default all messages are retained.
    pub fn retention(mut self, policy: Arc<dyn RetentionPolicy>) -> Self {
        self.retention = policy;
        self
    }

    /// Sets the configuration.
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }
}

impl EngineBuilder {
    /// Starts the engine's tasks on the current tokio runtime.
    ///
    /// # Errors
    ///
    /// The store or the bus cannot be reached.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or if its time driver is off.
    pub async fn start(self) -> Result<Engine> {
        let node = NodeId::random();
        let config = self.config;
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryStore::new()));
        let state_generation = store.begin_state(node).await?;
        let receiver = match &self.bus {
            Some(bus) => Some(bus.subscribe(node).await?),
            None => None,
        };
        let (append_shards, jobs) =
            AppendShards::new(config.append_shards, config.append_shard_queue);
        let windows = WindowBounds {
            events: config.window_events.max(1),
            bytes: config.window_bytes,
            all_bytes: config.windows_bytes,
            used: AtomicUsize::new(0),
            state_bytes: config.states_bytes,
            state_used: AtomicUsize::new(0),
        };
        let acks = Arc::new(AckBudget::new(&config));
        let outboxes = OutboxBounds {
            bytes: config.outbox_bytes,
            all_bytes: config.outboxes_bytes,
            signals: config.max_signals,
            in_flight: config.max_in_flight.max(1),
            slow_subscriber: config.slow_subscriber,
            used: AtomicUsize::new(0),
            ack_budget: acks.clone(),
        };
        let tasks = TaskTracker::new();
        let core = Arc::new(Core {
            node,
            authenticator: self.authenticator,
            hooks: self.hooks,
            clock: self.clock,
            limiter: self.limiter,
            quotas: self.quotas,
            retention: self.retention,
            swept: Mutex::new(None),
            bus: self.bus,
            hub: Hub::new(windows),
            append_shards,
            registry: Arc::default(),
            catch_up_reads: CatchUpReads::new(
                tasks.clone(),
                config.catch_up_reads,
                (config.max_page as usize, config.max_page_bytes),
                config.page_cache_bytes,
            ),
            state_writer: StateWriter::new(
                config.max_state_pending,
                config.max_state_pending_bytes,
            ),
            remote_state: RemoteState::new(
                config.max_state_pending,
                config.max_state_pending_bytes,
            ),
            state_generation: AtomicU64::new(state_generation),
            stamps: Mutex::new(StampClock::new(node)),
            outboxes: Arc::new(outboxes),
            acks,
            started: tokio::time::Instant::now(),
            vitals: Vitals::default(),
            tasks,
            draining: AtomicBool::new(false),
            stopped: CancellationToken::new(),
            store,
            config,
        });
        for jobs in jobs {
            core.tasks.spawn(append_shards::run(core.clone(), jobs));
        }
        super::tasks::start(&core, receiver);
        tracing::info!(node = node.0, store = core.store.name(), durability = ?core.store.durability(), "engine started");
        Ok(Engine::new(core))
    }
}

//! Assembling an engine. Only one choice must be made: who may come in.

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

/// It has not been said yet who may come in.
#[derive(Debug, Clone, Copy)]
pub struct NeedsAuthenticator(());

/// An engine being assembled. `A` says whether the authenticator was chosen.
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

/// Tokens a second, and at once, that one user has by default: a send costs one. A person types less, a busy bot needs no more.
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

    /// This says who it is.
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

    /// Everybody is believed to be who they say they are. For demos, and behind a gate of your own.
    pub fn allow_anonymous(self) -> EngineBuilder {
        self.authenticator(Arc::new(AllowAnonymous))
    }
}

impl<A> EngineBuilder<A> {
    /// Where everything durable lives. A [`MemoryStore`] if none is given: gone with the process.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// What joins this engine with others on the same store. None if none is given.
    pub fn bus(mut self, bus: Arc<dyn Bus>) -> Self {
        self.bus = Some(bus);
        self
    }

    /// Your say in what happens. [`NoHooks`] if none are given.
    pub fn hooks(mut self, hooks: Arc<dyn Hooks>) -> Self {
        self.hooks = hooks;
        self
    }

    /// Where time comes from. The system's clock if none is given.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// How often users may issue commands. 200 tokens a second and 1,000 at once, on each node, if none is given: a short
    /// send costs one, a command that reads or writes more rows costs more.
    pub fn rate_limiter(mut self, limiter: Arc<dyn RateLimiter>) -> Self {
        self.limiter = limiter;
        self
    }

    /// What one address and one user may use. No bounds if none are given.
    pub fn quotas(mut self, quotas: Arc<dyn Quotas>) -> Self {
        self.quotas = quotas;
        self
    }

    /// How long messages are kept. For ever, if none is given.
    pub fn retention(mut self, policy: Arc<dyn RetentionPolicy>) -> Self {
        self.retention = policy;
        self
    }

    /// The knobs.
    pub fn config(mut self, config: EngineConfig) -> Self {
        self.config = config;
        self
    }
}

impl EngineBuilder {
    /// Starts the engine's tasks on the present tokio runtime.
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

//! The engine's health, for a probe that decides whether this process receives traffic.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::Engine;
use super::core::Core;

/// How long the result of a store probe is reused. However many probes arrive, the store serves one
/// read a second.
const PROBE_LASTS: Duration = Duration::from_secs(1);

/// The health of an engine at one moment: see [`Engine::health`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether it runs, drains or has stopped.
    pub phase: Phase,
    /// Whether the store responds.
    pub store: StoreHealth,
    /// Time since when every append has failed because of the store; `None` if the last one was
    /// committed. A store may serve reads and refuse writes: a full disk, a transaction that blocks
    /// all others.
    pub appends_failing: Option<Duration>,
    /// Appends that wait for the store, of at most
    /// [`append_shards`](super::EngineConfig::append_shards) times
    /// [`append_shard_queue`](super::EngineConfig::append_shard_queue).
    pub appends_waiting: usize,
    /// Connections open now.
    pub connections: usize,
    /// Rooms in memory: those with subscribers on this node.
    pub rooms: usize,
    /// The engine's own tasks.
    pub tasks: Vec<TaskHealth>,
}

/// The phase of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// It accepts connections.
    Running,
    /// It accepts no new ones, and disconnects the others.
    Draining,
    /// Its tasks have ended.
    Stopped,
}

/// The health of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreHealth {
    /// The store's name.
    pub name: &'static str,
    /// The duration of a small read, or its failure, in words for the operator: they may name hosts
    /// and files.
    pub answer: Result<Duration, String>,
}

/// One of the engine's own tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TaskHealth {
    /// Its work: `tick`, `head_check`, `session_check`, `state`, `remote_state`, `upkeep` or
    /// `sweep`.
    pub name: &'static str,
    /// Its period.
    pub every: Duration,
    /// How much later than the period its last round ended, or would end now. Some lag is normal: a
    /// round takes time.
    pub lag: Duration,
}

impl Health {
    /// Returns whether this process should receive traffic: it runs, and its store responds.
    ///
    /// Neither lag nor failing appends count: without traffic a process could never be seen to
    /// recover. Alert on them.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running && self.store.answer.is_ok()
    }

    /// The greatest lag of a task.
    pub fn lag(&self) -> Duration {
        self.tasks.iter().map(|task| task.lag).max().unwrap_or_default()
    }
}

impl fmt::Display for Health {
    /// One line, without the store's own words, so that it can be public.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ready = if self.is_ready() { "ready" } else { "not ready" };
        let phase = match self.phase {
            Phase::Running => "running",
            Phase::Draining => "draining",
            Phase::Stopped => "stopped",
        };
        write!(f, "{ready}: {phase}, {} ", self.store.name)?;
        match &self.store.answer {
            Ok(took) => write!(f, "answers in {took:.1?}")?,
            Err(_) => write!(f, "does not answer")?,
        }
        if let Some(since) = self.appends_failing {
            write!(f, ", appends fail for {since:.1?}")?;
        }
        let Self { connections, rooms, appends_waiting, .. } = self;
        write!(f, ", {connections} connections, {rooms} rooms, {appends_waiting} appends waiting")?;
        write!(f, ", lag {:.1?}", self.lag())
    }
}

impl Engine {
    /// Probes the engine. A small read of the store is given up after `within`; its result is
    /// reused for a second by all callers.
    ///
    /// For a readiness probe; `docs/metrics.md` has one, and lists the alerts.
    ///
    /// ```
    /// # async fn example(engine: im_core::engine::Engine) {
    /// let health = engine.health(std::time::Duration::from_secs(2)).await;
    /// let status = if health.is_ready() { 200 } else { 503 };
    /// println!("{status} {health}"); // 200 ready: running, sqlite answers in 0.2ms, …
    /// # assert_eq!(status, 200);
    /// # }
    /// # use im_core::engine::Engine;
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    /// # runtime.block_on(async {
    /// #     example(Engine::builder().allow_anonymous().start().await.unwrap()).await
    /// # });
    /// ```
    pub async fn health(&self, within: Duration) -> Health {
        let core = self.core();
        let phase = match (core.stopped.is_cancelled(), core.is_draining()) {
            (true, _) => Phase::Stopped,
            (false, true) => Phase::Draining,
            (false, false) => Phase::Running,
        };
        let answer = timeout(within, core.vitals.probe(core)).await;
        let late = || Err(format!("no answer within {within:?}"));
        Health {
            phase,
            store: StoreHealth {
                name: core.store.name(),
                answer: answer.unwrap_or_else(|_| late()),
            },
            appends_failing: core.vitals.appends_failing(core.running()),
            appends_waiting: core.append_shards.waiting(),
            connections: core.registry.len(),
            rooms: core.hub.len(),
            tasks: core.vitals.tasks(core.running()),
        }
    }
}

/// Measurements of a running engine, for [`Engine::health`].
#[derive(Debug, Default)]
pub(crate) struct Vitals {
    beats: Mutex<Vec<Arc<Beat>>>,
    /// The time and result of the last store probe. The caller that probes holds this lock.
    probed: tokio::sync::Mutex<Option<(Instant, Result<Duration, String>)>>,
    /// When appends began to fail, in milliseconds of [`Core::running`], plus 1; 0 if they do not.
    failing: AtomicU64,
}

/// The time of a task's last round.
#[derive(Debug)]
pub(crate) struct Beat {
    name: &'static str,
    every: Duration,
    at: AtomicU64,
}

impl Beat {
    /// Records the end of a round.
    pub(crate) fn beat(&self, now: u64) {
        self.at.store(now, Ordering::Relaxed);
    }

    fn health(&self, now: u64) -> TaskHealth {
        let since = now.saturating_sub(self.at.load(Ordering::Relaxed));
        let lag = Duration::from_millis(since).saturating_sub(self.every);
        TaskHealth { name: self.name, every: self.every, lag }
    }
}

impl Vitals {
    /// Registers a task with this period.
    pub(crate) fn task(&self, name: &'static str, every: Duration, now: u64) -> Arc<Beat> {
        let beat = Arc::new(Beat { name, every, at: AtomicU64::new(now) });
        self.beats.lock().push(beat.clone());
        beat
    }

    fn tasks(&self, now: u64) -> Vec<TaskHealth> {
        self.beats.lock().iter().map(|beat| beat.health(now)).collect()
    }

    /// Records that a batch of appends was committed, or failed because of the store.
    pub(crate) fn appended(&self, committed: bool, now: u64) {
        if committed {
            self.failing.store(0, Ordering::Relaxed);
        } else {
            // The first failure counts.
            let _ = self.failing.compare_exchange(0, now + 1, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    fn appends_failing(&self, now: u64) -> Option<Duration> {
        let since = self.failing.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(now.saturating_sub(since)))
    }

    async fn probe(&self, core: &Core) -> Result<Duration, String> {
        let mut probed = self.probed.lock().await;
        if let Some((at, answer)) = &*probed
            && at.elapsed() < PROBE_LASTS
        {
            return answer.clone();
        }
        let started = Instant::now();
        let answer = core.store.state_generation().await;
        let answer = answer.map(|_| started.elapsed()).map_err(|error| error.to_string());
        *probed = Some((Instant::now(), answer.clone()));
        answer
    }
}

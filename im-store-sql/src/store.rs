//! The store: writes queue for a commit, reads run beside it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use im_core::ports::{Appended, Durability, StoreError, StoreErrorKind, StoreResult};
use im_core::state::{Act, Append, StateLimits};
use parking_lot::Mutex;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Pool};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::committer::{Committer, pause};
use crate::config::SqlConfig;
use crate::dialect::Dialect;
use crate::error::{Class, Fault, Outcome, closed};
use crate::job::{Appends, Doing, Job, Topic, Work};
use crate::link::Link;
use crate::open::{Opened, open};

/// A store in an SQL database. See the crate's documentation for what it promises.
///
/// [`Store::close`] it when it is not needed any more. One that is dropped commits what it was given, and closes some
/// moments later.
///
/// [`Store::close`]: im_core::ports::Store::close
pub struct SqlStore<D: Dialect> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
    /// A queue for each committer; none when the store is closed.
    pub(crate) queues: Mutex<Vec<mpsc::UnboundedSender<Job<D>>>>,
    pub(crate) committers: tokio::sync::Mutex<JoinSet<()>>,
    pub(crate) closed: AtomicBool,
    away: Arc<AtomicBool>,
    /// Bytes that may still wait for a commit.
    places: Arc<Semaphore>,
    all_places: usize,
    patience: Duration,
    pub(crate) durability: Durability,
    pub(crate) state_limits: StateLimits,
    /// Given back when the store is closed, or dropped.
    pub(crate) lock: Mutex<Option<std::fs::File>>,
}

/// What a write takes in the queue beside its content.
const OVERHEAD: usize = 512;

impl<D: Dialect> SqlStore<D> {
    /// Opens the store in the database that `config` names, and makes or migrates its tables.
    ///
    /// Needs a tokio runtime, here and in every call.
    ///
    /// # Errors
    ///
    /// `Unavailable` with words that say what to do: the database cannot be reached within [`SqlConfig::patience`], refuses
    /// the user, is used by another process (SQLite), or its tables were made by a newer version.
    pub async fn open(config: SqlConfig) -> StoreResult<Self> {
        let Opened { readers, writers, lock, durability } = open::<D>(&config).await?;
        let away = Arc::new(AtomicBool::new(false));
        let (mut queues, mut committers) = (Vec::new(), JoinSet::new());
        for _ in 0..writers.options().get_max_connections() {
            let (queue, jobs) = mpsc::unbounded_channel();
            queues.push(queue);
            let committer = Committer {
                pool: writers.clone(),
                jobs,
                max_batch: config.max_batch,
                max_batch_bytes: config.max_batch_bytes,
                patience: config.patience,
                away: Arc::clone(&away),
                held: None,
                known: None,
                wary: 0,
                suspect: false,
            };
            committers.spawn(committer.run());
        }
        let all_places = config.queue_bytes.clamp(OVERHEAD, Semaphore::MAX_PERMITS.min(1 << 31));
        Ok(Self {
            readers,
            writers,
            queues: Mutex::new(queues),
            committers: tokio::sync::Mutex::new(committers),
            closed: AtomicBool::new(false),
            away,
            places: Arc::new(Semaphore::new(all_places)),
            all_places,
            patience: config.patience,
            durability,
            state_limits: config.state_limits,
            lock: Mutex::new(lock),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Waits for a place in the queue that `key` belongs to.
    async fn submit(
        &self,
        shard: usize,
        work: Work<D>,
        count: usize,
        bytes: usize,
    ) -> StoreResult<()> {
        let wanted = (bytes + count.max(1) * OVERHEAD).min(self.all_places);
        // Never more than 2^31.
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(wanted).await;
        let job = Job { work, bytes, place: place.map_err(|_| closed())? };
        let queues = self.queues.lock();
        queues.get(shard).and_then(|queue| queue.send(job).ok()).ok_or_else(closed)
    }

    /// The committer that takes all writes about `key`, so that no two of them wait for each other's locks.
    pub(crate) fn shard(&self, key: &str) -> usize {
        // As many as there are queues, until the store is closed.
        let count = u64::from(self.writers.options().get_max_connections().max(1));
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        // Fewer than there are committers.
        (hasher.finish() % count) as usize
    }

    pub(crate) async fn write<T: Send + 'static>(
        &self,
        topic: Topic,
        key: &str,
        bytes: usize,
        act: impl for<'a, 'c> Fn(&'a mut Link<'c, D>) -> BoxFuture<'a, Outcome<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let call = Doing { topic, act, result: None, reply };
        self.submit(self.shard(key), Work::Call(Box::new(call)), 1, bytes).await?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    pub(crate) async fn append_to(
        &self,
        shard: usize,
        batch: Vec<Append>,
    ) -> Vec<StoreResult<Appended>> {
        let (count, bytes) = (batch.len(), batch.iter().map(weight).sum());
        let (reply, answer) = oneshot::channel();
        let appends = Appends { batch, results: Vec::new(), reply };
        if let Err(error) = self.submit(shard, Work::Appends(appends), count, bytes).await {
            return refuse(count, &error);
        }
        answer.await.unwrap_or_else(|_| refuse(count, &gone()))
    }
}

/// Runs a read on a connection of its own, again as long as its [`Turn`] allows.
macro_rules! read {
    ($store:ident, |$link:ident| $call:expr) => {{
        let mut turn = $crate::store::Turn::new($store);
        loop {
            let mut conn = turn.connection().await?;
            let $link = &mut Link::<D>(&mut conn);
            match $call.await {
                Ok(found) => break Ok(turn.done(found)),
                Err(fault) => turn.failed(conn, fault).await?,
            }
        }
    }};
}
pub(crate) use read;

/// The attempts of one read: again if the database was away or another one was in the way, as long as the patience lasts.
pub(crate) struct Turn<'a, D: Dialect> {
    store: &'a SqlStore<D>,
    until: Instant,
    attempt: u32,
}

impl<'a, D: Dialect> Turn<'a, D> {
    pub(crate) fn new(store: &'a SqlStore<D>) -> Self {
        Self { store, until: Instant::now() + store.patience, attempt: 0 }
    }

    pub(crate) async fn connection(&mut self) -> StoreResult<PoolConnection<D>> {
        loop {
            if self.store.is_closed() {
                return Err(closed());
            }
            match self.store.readers.acquire().await {
                Ok(conn) => return Ok(conn),
                Err(error) => self.pause(error.into()).await?,
            }
        }
    }

    pub(crate) fn done<T>(&self, found: T) -> T {
        self.store.away.store(false, Ordering::Relaxed);
        found
    }

    pub(crate) async fn failed(
        &mut self,
        conn: PoolConnection<D>,
        fault: Fault,
    ) -> StoreResult<()> {
        // The next attempt gets a connection that has seen nothing of it.
        let _ = conn.detach().close_hard().await;
        self.pause(fault).await
    }

    async fn pause(&mut self, fault: Fault) -> StoreResult<()> {
        let store = self.store;
        let class = fault.class::<D>();
        let again = matches!(class, Class::Away | Class::Contended | Class::Taken);
        // Connections that a server has closed while nobody used them fail at once: each of them, once.
        let stale = self.attempt <= store.readers.options().get_max_connections();
        let patient = Instant::now() < self.until && !store.away.load(Ordering::Relaxed);
        if !again || !(stale || patient) {
            store.away.store(class == Class::Away, Ordering::Relaxed);
            return Err(fault.into_error::<D>());
        }
        sleep(pause(self.attempt)).await;
        self.attempt += 1;
        Ok(())
    }
}

/// The committer ended without an answer, which only a bug of ours could make it do.
pub(crate) fn gone() -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, "the committer has ended")
}

fn refuse(count: usize, error: &StoreError) -> Vec<StoreResult<Appended>> {
    (0..count).map(|_| Err(StoreError::new(error.kind(), error.to_string()))).collect()
}

/// What an append weighs in the queue.
fn weight(append: &Append) -> usize {
    let act = match &append.act {
        Act::Post { event, seed } => {
            event.content.packed().len() + seed.as_ref().map_or(0, |seed| seed.members.len() * 100)
        }
        Act::Create { seed, .. } => seed.members.len() * 200,
        Act::Change { .. } => 0,
    };
    act + 200
}

impl<D: Dialect> std::fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlStore").field("database", &D::SHORT).finish_non_exhaustive()
    }
}

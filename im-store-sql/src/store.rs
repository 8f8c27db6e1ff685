//! The store: writes queue for a commit, reads run beside it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use im_core::ports::{Appended, Durability, StoreError, StoreErrorKind, StoreResult};
use im_core::state::{Act, Append, StateLimits};
use parking_lot::Mutex;
use sqlx::Pool;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::committer::Committer;
use crate::config::SqlConfig;
use crate::dialect::Dialect;
use crate::error::{Outcome, closed};
use crate::file::Lock;
use crate::health::Health;
use crate::job::{Appends, Doing, Job, Topic, Work};
use crate::link::Link;
use crate::open::{Opened, open};

/// A store in an SQL database. See the crate's documentation for what it promises.
///
/// [`Store::close`] it when it is not needed any more. One that is dropped commits what it was given, and closes some
/// moments later, as long as the runtime runs.
///
/// [`Store::close`]: im_core::ports::Store::close
pub struct SqlStore<D: Dialect> {
    pub(crate) readers: Pool<D>,
    pub(crate) writers: Pool<D>,
    /// A queue for each committer; none when the store is closed.
    pub(crate) queues: Mutex<Vec<mpsc::UnboundedSender<Job<D>>>>,
    /// They end by themselves when their queues are closed and empty.
    committers: tokio::sync::Mutex<Vec<JoinHandle<()>>>,
    pub(crate) closed: AtomicBool,
    pub(crate) health: Arc<Health>,
    /// Set while the writer waits for readers to be out of its way.
    #[cfg(feature = "sqlite")]
    pub(crate) urgent: Arc<AtomicBool>,
    /// Pages that may be read at one time; closed when the store is.
    pub(crate) pages: Semaphore,
    /// Bytes that may still wait for a commit.
    places: Arc<Semaphore>,
    queue_bytes: usize,
    pub(crate) patience: Duration,
    pub(crate) time_limit: Duration,
    pub(crate) durability: Durability,
    pub(crate) state_limits: StateLimits,
    /// Given back when the store is closed, or dropped, and the last committer has ended.
    lock: Mutex<Option<Arc<Lock>>>,
}

/// How many pages are read at one time: a quarter of the connections stays for look-ups. SQLite runs in this process, so its
/// pages take half of the cores at most, and commits and everything else have the rest.
fn pages_at_once<D: Dialect>(connections: u32) -> usize {
    let most = (connections - connections.div_ceil(4).min(connections)).max(1) as usize;
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    if D::ONE_WRITER { most.min(cores.div_ceil(2)) } else { most }
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
        let (health, urgent) = (Arc::new(Health::default()), Arc::new(AtomicBool::new(false)));
        let (mut queues, mut committers) = (Vec::new(), Vec::new());
        for _ in 0..writers.options().get_max_connections() {
            let (queue, jobs) = mpsc::unbounded_channel();
            queues.push(queue);
            let committer = Committer {
                pool: writers.clone(),
                readers: readers.clone(),
                jobs,
                max_batch: config.max_batch,
                max_batch_bytes: config.max_batch_bytes,
                patience: config.patience,
                time_limit: config.time_limit,
                health: Arc::clone(&health),
                urgent: Arc::clone(&urgent),
                held: None,
                known: None,
                wary: 0,
                suspect: false,
                lock: lock.clone(),
            };
            committers.push(tokio::spawn(committer.run()));
        }
        let queue_bytes = config.queue_bytes.clamp(OVERHEAD, Semaphore::MAX_PERMITS.min(1 << 31));
        Ok(Self {
            readers,
            writers,
            queues: Mutex::new(queues),
            committers: tokio::sync::Mutex::new(committers),
            closed: AtomicBool::new(false),
            health,
            #[cfg(feature = "sqlite")]
            urgent,
            pages: Semaphore::new(pages_at_once::<D>(config.connections)),
            places: Arc::new(Semaphore::new(queue_bytes)),
            queue_bytes,
            patience: config.patience,
            time_limit: config.time_limit,
            durability,
            state_limits: config.state_limits,
            lock: Mutex::new(lock),
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Commits what it was given, and ends.
    pub(crate) async fn end(&self) {
        self.closed.store(true, Ordering::Relaxed);
        self.pages.close();
        self.queues.lock().clear();
        let mut committers = self.committers.lock().await;
        while let Some(committer) = committers.last_mut() {
            // It ends in any case: each of its transactions does.
            let _ = committer.await;
            committers.pop();
        }
        // A connection that is in the hands of somebody who does not use it is closed by them.
        let _ = timeout(self.time_limit, self.readers.close()).await;
        let _ = timeout(self.time_limit, self.writers.close()).await;
        drop(self.lock.lock().take());
    }

    /// Waits for a place in the queue that `key` belongs to.
    async fn submit(
        &self,
        shard: usize,
        work: Work<D>,
        count: usize,
        bytes: usize,
    ) -> StoreResult<()> {
        let wanted = (bytes + count.max(1) * OVERHEAD).min(self.queue_bytes);
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

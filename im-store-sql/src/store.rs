//! The store: writes queue for a commit, reads run beside it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use im_core::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreError, StoreErrorKind, StoreResult,
};
use im_core::state::{
    Act, Append, Checkpoint, CheckpointChange, RoomRecord, SecretHash, SendRecord, SessionHead,
    SessionRecord, Standing, StateLimits, Ticket, Unchanged,
};
use im_core::wire::{Role, RoomKind, StateUpdate};
use im_core::{MessageId, NodeId, RoomId, SessionId, Timestamp, UserId};
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
use crate::job::{Appends, Doing, Job, Work};
use crate::link::Link;
use crate::open::{Opened, open};

/// A store in an SQL database. See the crate's documentation for what it promises.
///
/// [`Store::close`] it when it is not needed any more. One that is dropped commits what it was given, and closes some
/// moments later.
pub struct SqlStore<D: Dialect> {
    readers: Pool<D>,
    writers: Pool<D>,
    /// A queue for each committer; none when the store is closed.
    queues: Mutex<Vec<mpsc::UnboundedSender<Job<D>>>>,
    committers: tokio::sync::Mutex<JoinSet<()>>,
    closed: AtomicBool,
    away: Arc<AtomicBool>,
    /// Bytes that may still wait for a commit.
    places: Arc<Semaphore>,
    all_places: usize,
    patience: Duration,
    durability: Durability,
    state_limits: StateLimits,
    /// Goes with the store.
    _lock: Option<std::fs::File>,
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
            _lock: lock,
        })
    }

    /// Waits for a place in the queue that `key` belongs to.
    async fn submit(&self, shard: usize, work: Work<D>, count: usize, bytes: usize) -> StoreResult<()> {
        let wanted = (bytes + count.max(1) * OVERHEAD).min(self.all_places);
        // Never more than 2^31.
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let place = Arc::clone(&self.places).acquire_many_owned(wanted).await;
        let job = Job { work, bytes, place: place.map_err(|_| closed())? };
        let queues = self.queues.lock();
        queues.get(shard).and_then(|queue| queue.send(job).ok()).ok_or_else(closed)
    }

    /// The committer that takes all writes about `key`, so that no two of them wait for each other's locks.
    fn shard(&self, key: &str) -> usize {
        let count = self.queues.lock().len().max(1) as u64;
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        // Fewer than there are committers.
        (hasher.finish() % count) as usize
    }

    async fn write<T: Send + 'static>(
        &self,
        key: &str,
        bytes: usize,
        act: impl for<'a, 'c> Fn(&'a mut Link<'c, D>) -> BoxFuture<'a, Outcome<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let call = Doing { act, result: None, reply };
        self.submit(self.shard(key), Work::Call(Box::new(call)), 1, bytes).await?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    async fn append_to(&self, shard: usize, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
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
        let mut turn = Turn::new($store);
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

/// The attempts of one read: again if the database was away or another one was in the way, as long as the patience lasts.
struct Turn<'a, D: Dialect> {
    store: &'a SqlStore<D>,
    until: Instant,
    attempt: u32,
}

impl<'a, D: Dialect> Turn<'a, D> {
    fn new(store: &'a SqlStore<D>) -> Self {
        Self { store, until: Instant::now() + store.patience, attempt: 0 }
    }

    async fn connection(&mut self) -> StoreResult<PoolConnection<D>> {
        loop {
            if self.store.closed.load(Ordering::Relaxed) {
                return Err(closed());
            }
            match self.store.readers.acquire().await {
                Ok(conn) => return Ok(conn),
                Err(error) => self.pause(error.into()).await?,
            }
        }
    }

    fn done<T>(&self, found: T) -> T {
        self.store.away.store(false, Ordering::Relaxed);
        found
    }

    async fn failed(&mut self, conn: PoolConnection<D>, fault: Fault) -> StoreResult<()> {
        // The next attempt gets a connection that has seen nothing of it.
        let _ = conn.detach().close_hard().await;
        self.pause(fault).await
    }

    async fn pause(&mut self, fault: Fault) -> StoreResult<()> {
        let store = self.store;
        let class = fault.class::<D>();
        let again = matches!(class, Class::Away | Class::Contended);
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
fn gone() -> StoreError {
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

#[async_trait]
impl<D: Dialect> RoomLog for SqlStore<D> {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let shards: Vec<usize> =
            batch.iter().map(|append| self.shard(append.room.as_str())).collect();
        if shards.iter().all(|shard| *shard == shards[0]) {
            return self.append_to(shards[0], batch).await;
        }
        let mut parts: std::collections::BTreeMap<usize, Vec<Append>> = Default::default();
        for (append, shard) in batch.into_iter().zip(&shards) {
            parts.entry(*shard).or_default().push(append);
        }
        let parts = parts.into_iter().map(async |(shard, part)| {
            (shard, self.append_to(shard, part).await.into_iter())
        });
        let answers = futures::future::join_all(parts).await;
        let mut answers: std::collections::BTreeMap<usize, _> = answers.into_iter().collect();
        shards
            .into_iter()
            .map(|shard| {
                let next = answers.get_mut(&shard).and_then(Iterator::next);
                // Each part has as many answers as appends.
                next.unwrap_or_else(|| Err(gone()))
            })
            .collect()
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        read!(self, |link| link.page(room, range))
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        read!(self, |link| link.heads(rooms))
    }

    async fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<SendRecord>> {
        read!(self, |link| link.sent(room, sender, id))
    }
}

#[async_trait]
impl<D: Dialect> RoomDirectory for SqlStore<D> {
    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        read!(self, |link| link.room(room))
    }

    async fn standing(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Standing>> {
        read!(self, |link| link.standing(room, user))
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        read!(self, |link| link.members(room, after, limit))
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        read!(self, |link| link.rooms_of(user, after, limit))
    }
}

/// A write about a session: a copy of what it needs goes along, so that it can be run again.
macro_rules! write_session {
    ($self:ident, $id:ident, |$link:ident $(, $arg:ident)*| $call:expr) => {{
        let ($id, $($arg,)*) = ($id.clone(), $($arg.clone(),)*);
        let key = $id.as_str().to_owned();
        $self
            .write(&key, 0, move |$link| {
                let ($id, $($arg,)*) = ($id.clone(), $($arg.clone(),)*);
                Box::pin(async move { $call.await })
            })
            .await
    }};
}

#[async_trait]
impl<D: Dialect> SessionRegistry for SqlStore<D> {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        let id = &record.id;
        write_session!(self, id, |link, record| {
            let _ = &id;
            link.open_session(&record)
        })
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        read!(self, |link| link.session(id))
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        read!(self, |link| link.sessions_of(user, limit))
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        write_session!(self, id, |link, expires| link.attach_session(&id, expires))
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        write_session!(self, id, |link, expires| link.touch_session(&id, expires))
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        write_session!(self, id, |link| link.end_session(&id))
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        read!(self, |link| link.session_heads(ids))
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        read!(self, |link| link.checkpoint(id))
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        let change = Arc::new(change);
        write_session!(self, id, |link, change| link.change_checkpoint(&id, &change))
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        write_session!(self, id, |link, ticket| link.put_ticket(&id, &ticket))
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        write_session!(self, id, |link, secret| link.open_ticket(&id, &secret))
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        read!(self, |link| link.ticket(id))
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.write("", 0, move |link| Box::pin(link.sweep_sessions(now, limit))).await
    }
}

#[async_trait]
impl<D: Dialect> StateStore for SqlStore<D> {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        let limits = self.state_limits;
        let mut by_shard: std::collections::BTreeMap<usize, Vec<Arc<StateUpdate>>> =
            Default::default();
        for update in updates {
            by_shard.entry(self.shard(update.room.as_str())).or_default().push(update);
        }
        for updates in by_shard.into_values() {
            let Some(first) = updates.first() else { continue };
            let key = first.room.as_str().to_owned();
            let size = |update: &Arc<StateUpdate>| update.value.as_ref().map_or(0, |v| v.packed().len());
            let (bytes, updates) = (updates.iter().map(size).sum(), Arc::new(updates));
            self.write(&key, bytes, move |link| {
                let updates = Arc::clone(&updates);
                Box::pin(async move { link.merge_state(&updates, &limits).await })
            })
            .await?;
        }
        Ok(())
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        read!(self, |link| link.state(room))
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.write("", 0, move |link| Box::pin(link.begin_state(node))).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        read!(self, |link| link.state_generation())
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.write("", 0, move |link| Box::pin(link.end_state(node))).await
    }
}

#[async_trait]
impl<D: Dialect> Store for SqlStore<D> {
    fn name(&self) -> &'static str {
        D::SHORT
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    async fn close(&self) -> StoreResult<()> {
        self.closed.store(true, Ordering::Relaxed);
        self.queues.lock().clear();
        let mut committers = self.committers.lock().await;
        while committers.join_next().await.is_some() {}
        self.readers.close().await;
        self.writers.close().await;
        Ok(())
    }
}

impl<D: Dialect> std::fmt::Debug for SqlStore<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlStore").field("database", &D::SHORT).finish_non_exhaustive()
    }
}

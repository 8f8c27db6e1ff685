//! The store: calls become jobs for the writer, or reads on threads for blocking work.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use im_core::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreError, StoreErrorKind, StoreResult, Upkeep,
};
use im_core::state::{
    Act, Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedEvent,
    ImportedPart, ImportedRoom, Keep, Membership, RoomRecord, SecretHash, SessionHead,
    SessionRecord, Ticket, Trimmed, Unchanged,
};
use im_core::wire::{Role, RoomKind, StateUpdate};
use im_core::{Epoch, MessageId, NodeId, RoomId, SessionId, Timestamp, UserId};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;

use crate::config::SledConfig;
use crate::device::{Device, Disk};
use crate::error::closed;
use crate::folder::Folder;
use crate::open;
use crate::queue::{Bounds, Job, Queue};
use crate::rooms::RoomCache;
use crate::shared::{Reader, Shared};
use crate::txn::Txn;
use crate::writer::{Appends, Call, Work, Writer};

/// An embedded store in a folder. See the crate's documentation for what it promises.
///
/// [`Store::close`] it when it is not needed any more. One that is dropped commits what it was given and closes on
/// its own thread, some moments later.
pub struct SledStore {
    shared: Arc<Shared>,
    device: Arc<dyn Device>,
    queue: Arc<Queue>,
    /// Bytes that may still wait for a commit.
    places: Arc<Semaphore>,
    queue_bytes: usize,
    pub(crate) reads: Arc<Semaphore>,
    /// Pages take turns of their own, so that no look-up waits for them, and half of the cores at most.
    pages: Arc<Semaphore>,
    /// Taken by whoever closes.
    writer: Mutex<Option<JoinHandle<StoreResult<()>>>>,
}

impl SledStore {
    /// Opens the store in the folder that `config` names, or makes it.
    ///
    /// Needs a tokio runtime, here and in every call.
    ///
    /// # Errors
    ///
    /// `Unavailable` with words that name the folder: it is in use by another process, holds something else, or was
    /// written by a newer version. `Corrupt` if it is damaged beyond recovery. `Full` if there is no room left.
    pub async fn open(config: SledConfig) -> StoreResult<Self> {
        Self::open_on(config, Arc::new(Disk)).await
    }

    pub(crate) async fn open_on(config: SledConfig, device: Arc<dyn Device>) -> StoreResult<Self> {
        blocking(move || Self::open_now(config, device)).await
    }

    fn open_now(config: SledConfig, device: Arc<dyn Device>) -> StoreResult<Self> {
        let (folder, status) = Folder::take(&config.path)?;
        let open::Opened { handle, meta } =
            open::open(&folder, status, &*device, config.cache_bytes)?;
        let (shared, queue) = (Arc::new(Shared::default()), Arc::new(Queue::default()));
        let generation = handle.generation;
        shared.open(handle);
        let writer = Writer {
            folder,
            device: Arc::clone(&device),
            queue: Arc::clone(&queue),
            shared: Arc::clone(&shared),
            bounds: Bounds {
                count: config.max_batch,
                bytes: config.max_batch_bytes,
                delay: config.commit_delay,
            },
            cache_bytes: config.cache_bytes,
            state_limits: config.state_limits,
            generation,
            meta,
            cache: RoomCache::default(),
            failed_at: None,
            suspect: false,
            unfinished: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("im-store-sled".into());
        let thread = thread.spawn(move || writer.run()).map_err(|e| {
            StoreError::new(StoreErrorKind::Unavailable, "the writer's thread could not be started")
                .because(e)
        })?;
        let queue_bytes = config.queue_bytes.clamp(OVERHEAD, Semaphore::MAX_PERMITS.min(1 << 31));
        Ok(Self {
            shared,
            device,
            queue,
            places: Arc::new(Semaphore::new(queue_bytes)),
            queue_bytes,
            reads: Arc::new(Semaphore::new(config.max_reads)),
            pages: Arc::new(Semaphore::new(cores().div_ceil(2).min(config.max_reads))),
            writer: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn device(&self) -> &Arc<dyn Device> {
        &self.device
    }

    /// Waits for a place in the queue and hands the work to the writer.
    async fn submit(&self, work: Box<dyn Work>, count: usize, bytes: usize) -> StoreResult<()> {
        let wanted = (bytes + count.max(1) * OVERHEAD).min(self.queue_bytes);
        // Never more than 2^31.
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
        let (places, queue) = (Arc::clone(&self.places), Arc::clone(&self.queue));
        let push = move |place| {
            let job = Job { work, count, bytes, _place: place };
            queue.push(job).map_err(|_| closed())
        };
        match Arc::clone(&places).try_acquire_many_owned(wanted) {
            Ok(place) => push(place),
            Err(_) => {
                in_line(async move {
                    let place = places.acquire_many_owned(wanted).await;
                    push(place.map_err(|_| closed())?)
                })
                .await
            }
        }
    }

    /// Has the writer do something, and waits until it is kept.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        bytes: usize,
        act: impl FnOnce(&mut Txn<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reply, answer) = oneshot::channel();
        let call = Call { act: Some(act), result: None, reply };
        self.submit(Box::new(call), 1, bytes).await?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Looks something up on a thread for blocking work.
    async fn read<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Reader<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.read_in_turn(&self.reads, act).await
    }

    /// Reads a page.
    async fn read_page<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Reader<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        self.read_in_turn(&self.pages, act).await
    }

    async fn read_in_turn<T: Send + 'static>(
        &self,
        turns: &Arc<Semaphore>,
        act: impl FnOnce(&Reader<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (reads, shared) = (Arc::clone(turns), Arc::clone(&self.shared));
        let read = move |turn| {
            blocking(move || {
                let _turn = turn;
                shared.with(|handle| act(&Reader { handle, shared: &shared }))
            })
        };
        match Arc::clone(&reads).try_acquire_owned() {
            Ok(turn) => read(turn).await,
            Err(_) => {
                in_line(async move {
                    let turn = reads.acquire_owned().await.map_err(|_| closed())?;
                    read(turn).await
                })
                .await
            }
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// What a write takes in the queue beside its content.
const OVERHEAD: usize = 512;

/// Waits in a line in a task of its own. Whoever asked may be busy with something else when the turn comes, and would hold
/// up everybody behind it.
async fn in_line<T: Send + 'static>(
    work: impl Future<Output = StoreResult<T>> + Send + 'static,
) -> StoreResult<T> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        Err(StoreError::new(StoreErrorKind::Unavailable, "the runtime ends").because(error))
    })
}

/// Runs on a thread for blocking work. A panic there is sled's: its assertions on the pages that it reads.
pub(crate) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    spawn_blocking(act).await.unwrap_or_else(|error| {
        Err(StoreError::new(StoreErrorKind::Unavailable, "sled panicked").because(error))
    })
}

/// The writer ended without an answer, which only a bug of ours could make it do.
fn gone() -> StoreError {
    StoreError::new(StoreErrorKind::Unknown, "the writer's thread has ended")
}

/// What an append weighs in the queue.
fn weight(append: &Append) -> usize {
    let seed = match &append.act {
        Act::Post { event, seed } => {
            event.content.packed().len() + seed.as_ref().map_or(0, |seed| seed.members.len() * 100)
        }
        Act::Create { seed, .. } => seed.members.len() * 200,
        Act::Change { .. } => 0,
    };
    seed + 200
}

#[async_trait]
impl RoomLog for SledStore {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let count = batch.len();
        if count == 0 {
            return Vec::new();
        }
        let bytes = batch.iter().map(weight).sum();
        let (reply, answer) = oneshot::channel();
        let work = Appends { batch, results: Vec::new(), reply };
        if self.submit(Box::new(work), count, bytes).await.is_err() {
            return (0..count).map(|_| Err(closed())).collect();
        }
        answer.await.unwrap_or_else(|_| (0..count).map(|_| Err(gone())).collect())
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let room = room.clone();
        self.read_page(move |reader| reader.page(&room, range)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        let rooms = rooms.to_vec();
        SledStore::read(self, move |reader| rooms.iter().map(|room| reader.head(room)).collect())
            .await
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let (room, sender, id) = (room.clone(), sender.clone(), id.clone());
        SledStore::read(self, move |reader| reader.sent(&room, &sender, &id)).await
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        let (id, keep) = (room.clone(), *keep);
        let trimmed = self.write(0, move |txn| txn.trim(&id, &keep, limit)).await?;
        loop {
            let id = room.clone();
            if trimmed.is_none() || !self.write(0, move |txn| txn.drop_trimmed(&id)).await? {
                return Ok(trimmed);
            }
        }
    }
}

#[async_trait]
impl RoomDirectory for SledStore {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        let after = after.cloned();
        self.read_page(move |reader| reader.rooms(after.as_ref(), limit)).await
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        let (room, after) = (room.clone(), after.cloned());
        self.read_page(move |reader| reader.memberships(&room, after.as_ref(), limit)).await
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        let room = room.clone();
        self.read(move |reader| reader.room(&room)).await
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        let (room, user) = (room.clone(), user.clone());
        self.read(move |reader| reader.membership(&room, &user)).await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        let (room, after) = (room.clone(), after.cloned());
        self.read_page(move |reader| reader.members(&room, after.as_ref(), limit)).await
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        let (user, after) = (user.clone(), after.cloned());
        self.read_page(move |reader| reader.rooms_of(&user, after.as_ref(), limit)).await
    }
}

#[async_trait]
impl SessionRegistry for SledStore {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.write(0, move |txn| txn.open_session(&record)).await
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        let id = id.clone();
        self.read(move |reader| reader.session(&id)).await
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        let user = user.clone();
        self.read(move |reader| reader.sessions_of(&user, limit)).await
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        let id = id.clone();
        self.write(0, move |txn| txn.attach_session(&id, expires)).await
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        let id = id.clone();
        self.write(0, move |txn| txn.touch_session(&id, expires)).await
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        let id = id.clone();
        self.write(0, move |txn| txn.end_session(&id)).await
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        let ids = ids.to_vec();
        self.read(move |reader| ids.iter().map(|id| reader.session_head(id)).collect()).await
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        let id = id.clone();
        self.read(move |reader| reader.checkpoint(&id)).await
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        let id = id.clone();
        let bytes = (change.subscribe.len() + change.confirm.len()) * 100;
        self.write(bytes, move |txn| txn.change_checkpoint(&id, &change)).await
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        let id = id.clone();
        self.write(ticket.claims.len(), move |txn| txn.put_ticket(&id, &ticket)).await
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        let (id, secret) = (id.clone(), *secret);
        self.write(0, move |txn| txn.open_ticket(&id, &secret)).await
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        let id = id.clone();
        self.read(move |reader| reader.ticket(&id)).await
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.write(0, move |txn| txn.sweep_sessions(now, limit)).await
    }
}

#[async_trait]
impl StateStore for SledStore {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        let size = |update: &Arc<StateUpdate>| {
            100 + update.value.as_ref().map_or(0, |value| value.packed().len())
        };
        let bytes = updates.iter().map(size).sum();
        self.write(bytes, move |txn| txn.merge_state(updates)).await
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        let room = room.clone();
        self.read(move |reader| reader.state(&room)).await
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.write(0, move |txn| txn.begin_state(node)).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.read(move |reader| reader.state_generation()).await
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.write(0, move |txn| txn.end_state(node)).await
    }
}

#[async_trait]
impl Upkeep for SledStore {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        let room = room.clone();
        self.write(0, move |txn| txn.delete_room(&room)).await
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.write(0, move |txn| txn.purge(limit)).await
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        let user = user.clone();
        self.write(0, move |txn| txn.erase_user(&user, limit)).await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.write(0, move |txn| txn.begin_import(&room)).await
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        let id = room.clone();
        let size = |event: &ImportedEvent| event.content.packed().len() + 200;
        let bytes = part.memberships.len() * 200 + part.events.iter().map(size).sum::<usize>();
        self.write(bytes, move |txn| txn.import(&id, epoch, part)).await
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        let room = room.clone();
        self.write(0, move |txn| txn.finish_import(&room, epoch)).await
    }
}

#[async_trait]
impl Store for SledStore {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn durability(&self) -> Durability {
        Durability::ProcessCrash
    }

    async fn close(&self) -> StoreResult<()> {
        self.queue.close();
        let Some(writer) = self.writer.lock().take() else { return Ok(()) };
        blocking(move || writer.join().unwrap_or_else(|_| Err(gone()))).await
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        // The thread commits what it has and ends; to wait for it here could block a thread of the runtime.
        self.queue.close();
    }
}

impl fmt::Debug for SledStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SledStore").field("open", &self.shared.is_open()).finish_non_exhaustive()
    }
}

//! The reference store: everything in memory, behind one lock.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::id::{Epoch, MessageId, NodeId, RoomId, SessionId, UserId, random_bytes};
use crate::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreError, StoreErrorKind, StoreResult, Upkeep,
};
use crate::state::{
    Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart, ImportedRoom,
    Keep, Membership, RoomRecord, SecretHash, SessionHead, SessionRecord, StateLimits, Ticket,
    Trimmed, Unchanged,
};
use crate::time::Timestamp;
use crate::wire::{Role, RoomKind, StateUpdate};

use super::rooms::Rooms;
use super::sessions::Sessions;

/// A store in memory. Fast, and gone with the process: each one has a generation of its own, so that readers of an
/// earlier one start anew.
///
/// It is the reference: where the docs of the ports leave a question open, this is the answer. Appends take constant
/// time, and so does finding a page; a lock is held for one append at a time, never over an await. Several engines may
/// share one.
///
/// Nothing is removed but what [`MemoryStore::keep_events`] or the port's own methods ask for: memory grows with what is
/// sent, and with the record of each send, which outlives its event.
///
/// An engine that is dropped without a drain leaves its node open in the state; from then on every
/// [`StateStore::begin_state`] gives a new generation. That is always safe: clients replace what they have.
///
/// ```
/// use im_core::memory::MemoryStore;
/// use im_core::ports::{Durability, Store};
/// assert_eq!(MemoryStore::new().durability(), Durability::Volatile);
/// ```
pub struct MemoryStore {
    keep: usize,
    state_limits: StateLimits,
    /// `None` once it was closed.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    rooms: Rooms,
    sessions: Sessions,
    state_generation: u64,
    /// The nodes that have begun to write state and have not ended.
    writers: HashSet<NodeId>,
}

impl MemoryStore {
    /// An empty store with a random generation, which keeps all events.
    pub fn new() -> Self {
        let kept = Kept {
            rooms: Rooms::new(u64::from_be_bytes(random_bytes())),
            sessions: Sessions::default(),
            state_generation: u64::from_be_bytes(random_bytes()),
            writers: HashSet::new(),
        };
        Self {
            keep: usize::MAX,
            state_limits: StateLimits::default(),
            kept: Mutex::new(Some(kept)),
        }
    }

    /// Keeps only the last `events` (at least 1) of each room; those before them are trimmed with every append. All by
    /// default.
    #[must_use]
    pub fn keep_events(mut self, events: usize) -> Self {
        self.keep = events.max(1);
        self
    }

    /// How much state a room may hold. An update beyond it is discarded, so these should be no smaller than the
    /// engine's.
    #[must_use]
    pub fn state_limits(mut self, limits: StateLimits) -> Self {
        self.state_limits = limits;
        self
    }

    fn with<T>(&self, act: impl FnOnce(&mut Kept) -> T) -> StoreResult<T> {
        self.kept.lock().as_mut().map(act).ok_or_else(closed)
    }
}

fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Closed, "the store was closed")
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("keep", &self.keep).finish_non_exhaustive()
    }
}

#[async_trait]
impl RoomLog for MemoryStore {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let one =
            |append: &Append| self.with(|kept| kept.rooms.append(append, self.keep)).flatten();
        batch.iter().map(one).collect()
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        self.with(|kept| kept.rooms.read(room, range))
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        self.with(|kept| rooms.iter().map(|room| kept.rooms.head(room)).collect())
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        self.with(|kept| kept.rooms.sent(room, sender, id))
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        self.with(|kept| kept.rooms.trim(room, keep, limit))
    }
}

#[async_trait]
impl RoomDirectory for MemoryStore {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        self.with(|kept| kept.rooms.all(after, limit))
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        self.with(|kept| kept.rooms.memberships(room, after, limit))
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.with(|kept| kept.rooms.record(room))
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        self.with(|kept| kept.rooms.membership(room, user))
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        self.with(|kept| kept.rooms.members(room, after, limit))
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        self.with(|kept| kept.rooms.of_user(user, after, limit))
    }
}

#[async_trait]
impl SessionRegistry for MemoryStore {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.with(|kept| kept.sessions.open(record))
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        self.with(|kept| kept.sessions.get(id))
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        self.with(|kept| kept.sessions.of_user(user, limit))
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        self.with(|kept| kept.sessions.attach(id, expires))
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        self.with(|kept| kept.sessions.touch(id, expires))
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        self.with(|kept| kept.sessions.end(id))
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        self.with(|kept| ids.iter().map(|id| kept.sessions.head(id)).collect())
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        self.with(|kept| kept.sessions.checkpoint(id))
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        self.with(|kept| kept.sessions.change_checkpoint(id, &change))
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        self.with(|kept| kept.sessions.put_ticket(id, ticket))
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        self.with(|kept| kept.sessions.open_ticket(id, secret))
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.with(|kept| kept.sessions.ticket(id))
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.with(|kept| kept.sessions.sweep(now, limit))
    }
}

#[async_trait]
impl StateStore for MemoryStore {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        self.with(|kept| {
            for update in updates {
                kept.rooms.merge(update, &self.state_limits);
            }
        })
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        self.with(|kept| kept.rooms.state(room))
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.with(|kept| {
            if !kept.writers.is_empty() {
                kept.state_generation = kept.state_generation.wrapping_add(1);
            }
            kept.writers.insert(node);
            kept.state_generation
        })
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.with(|kept| kept.state_generation)
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.with(|kept| {
            kept.writers.remove(&node);
        })
    }
}

#[async_trait]
impl Upkeep for MemoryStore {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        self.with(|kept| kept.rooms.delete(room))
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.with(|kept| kept.rooms.purge(limit))
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        self.with(|kept| kept.rooms.erase(user, &mut kept.sessions, limit, &self.state_limits))
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.with(|kept| kept.rooms.begin_import(&room)).flatten()
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        self.with(|kept| kept.rooms.import(room, epoch, part)).flatten()
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        self.with(|kept| kept.rooms.finish_import(room, epoch)).flatten()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn durability(&self) -> Durability {
        Durability::Volatile
    }

    async fn close(&self) -> StoreResult<()> {
        *self.kept.lock() = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{EventKind, Seq};
    use crate::state::{Act, Authority, NewEvent, RoomSeed};
    use crate::wire::{Content, Limits, PageFrom};

    fn post(room: &RoomId, from: &UserId) -> Append {
        let content = Content::text("hello", &Limits::default()).unwrap();
        let event = NewEvent {
            from: from.clone(),
            kind: EventKind::message(),
            content,
            idempotency_key: None,
        };
        let seed = RoomSeed { kind: RoomKind::Inbox, open: false, members: Vec::new() };
        let act = Act::Post { event, seed: Some(seed) };
        let at = Timestamp::from_millis(1);
        Append { room: room.clone(), authority: Authority::Service, act, at, max_members: 10 }
    }

    #[tokio::test]
    async fn trimmed_log_pages_from_first_retained() {
        let store = MemoryStore::new().keep_events(3);
        let user = UserId::new("ann").unwrap();
        let room = RoomId::inbox(&user);
        store.append(vec![post(&room, &user); 5]).await;
        let read = async |from| {
            let range = LogRange { from, limit: 10, max_bytes: 1000 };
            let page = store.read(&room, range).await.unwrap().unwrap();
            assert_eq!((page.head.seq.get(), page.first.get()), (5, 3));
            page.events.iter().map(|event| event.seq.get()).collect::<Vec<_>>()
        };
        assert_eq!(read(PageFrom::After(Seq::ZERO)).await, [3, 4, 5]);
        assert_eq!(read(PageFrom::After(Seq::new(3).unwrap())).await, [4, 5]);
        assert_eq!(read(PageFrom::Before(Seq::MAX)).await, [5, 4, 3]);
        assert_eq!(read(PageFrom::Before(Seq::new(4).unwrap())).await, [3]);
        assert!(read(PageFrom::Before(Seq::new(2).unwrap())).await.is_empty());
        store.append(vec![post(&room, &user)]).await;
        let head = store.heads(&[room]).await.unwrap()[0].unwrap();
        assert_eq!((head.cursor.seq.get(), head.first.get()), (6, 4));
    }

    #[tokio::test]
    async fn two_stores_share_no_epoch() {
        let user = UserId::new("ann").unwrap();
        let room = RoomId::inbox(&user);
        let mut epochs = Vec::new();
        for store in [MemoryStore::new(), MemoryStore::new()] {
            store.append(vec![post(&room, &user)]).await;
            epochs.push(store.room(&room).await.unwrap().unwrap().epoch);
        }
        assert_ne!(epochs[0].generation, epochs[1].generation);
    }

    /// A writer that did not end its state changes the generation for the next one.
    #[tokio::test]
    async fn unclean_writer_changes_generation() {
        let store = MemoryStore::new();
        let first = store.begin_state(NodeId(1)).await.unwrap();
        store.end_state(NodeId(1)).await.unwrap();
        assert_eq!(store.begin_state(NodeId(2)).await.unwrap(), first);
        assert_ne!(store.begin_state(NodeId(3)).await.unwrap(), first);
    }
}

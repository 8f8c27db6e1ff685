//! The ports, each call a look or a job.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::id::{Epoch, MessageId, NodeId, RoomId, SessionId, UserId, new_generation};
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

use super::database::{Database, RowsMut};
use super::look::Reader;
use super::record::Meta;
use super::work::{Answer, Committer, Job, answered, closed, read};
use super::write::Writer;
use super::{keys, record};

/// As which generation a store is opened: whether it is what was closed, or killed, the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenAs {
    /// It is, with everything that was ever acknowledged.
    #[default]
    SameGeneration,
    /// It may lack something: it was restored from a copy, say, or the database is not safe against a loss of power and
    /// there was one. All rooms get another epoch, and clients are told `reset`.
    NewGeneration,
}

/// A store over a database with ordered keys and transactions.
///
/// Everything that the ports promise holds as long as the database keeps what [`Database`], [`Rows`](super::Rows) and
/// [`RowsMut`] ask. Memory: what is under way; nothing is cached here.
pub struct KeyedStore<D> {
    database: Arc<D>,
    committer: Committer,
    generation: u64,
    state_limits: StateLimits,
}

/// The layout of keys and records that this version writes.
const LAYOUT: u32 = 1;

impl<D: Database> KeyedStore<D> {
    /// Opens what is in the database, or begins a store where nothing is: with a generation of its own, so that clients
    /// of one that was wiped notice.
    ///
    /// # Errors
    ///
    /// The database's; [`StoreErrorKind::Corrupt`] if a store in it was written by a later version of this one, or the
    /// rows are somebody else's.
    pub async fn open(database: D, open_as: OpenAs) -> StoreResult<Self> {
        let database = Arc::new(database);
        let committer = Committer::start(Arc::clone(&database))?;
        let (job, answer) = Job::new(move |rows| begin(rows, open_as));
        committer.submit(job).await;
        let generation = answered(answer).await?;
        Ok(Self { database, committer, generation, state_limits: StateLimits::default() })
    }

    /// How much state a room may hold. An update beyond it is discarded, so these should be no smaller than the
    /// engine's.
    #[must_use]
    pub fn state_limits(mut self, limits: StateLimits) -> Self {
        self.state_limits = limits;
        self
    }

    /// The database.
    pub fn database(&self) -> &D {
        &self.database
    }

    async fn look<T: Send + 'static>(
        &self,
        act: impl FnOnce(Reader<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let generation = self.generation;
        let database = Arc::clone(&self.database);
        answered(read(database, move |rows| act(Reader { rows, generation }))).await
    }

    async fn change<T: Send + 'static>(
        &self,
        act: impl FnMut(&mut Writer<'_>) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let (job, answer) = self.job(act);
        self.committer.submit(job).await;
        answered(answer).await
    }

    fn job<T: Send + 'static>(
        &self,
        mut act: impl FnMut(&mut Writer<'_>) -> StoreResult<T> + Send + 'static,
    ) -> (Job, Answer<T>) {
        let (generation, state_limits) = (self.generation, self.state_limits);
        Job::new(move |rows| act(&mut Writer { rows, generation, state_limits }))
    }
}

/// Gives the generation.
fn begin(rows: &mut dyn RowsMut, open_as: OpenAs) -> StoreResult<u64> {
    let held: Option<Meta> = match rows.get(keys::META)? {
        Some(meta) => Some(record::unpack("beginning", &meta)?),
        None => None,
    };
    let meta = match held {
        Some(meta) if meta.layout != LAYOUT => {
            let words = format!(
                "the store has layout {}, and this version reads {LAYOUT}: use the version that wrote it",
                meta.layout
            );
            return Err(StoreError::new(StoreErrorKind::Corrupt, words));
        }
        Some(meta) if open_as == OpenAs::SameGeneration => return Ok(meta.generation),
        held => Meta {
            layout: LAYOUT,
            generation: new_generation(),
            incarnation: held.map_or(0, |meta| meta.incarnation),
            state_generation: new_generation(),
        },
    };
    rows.put(keys::META, &record::pack(&meta)?)?;
    Ok(meta.generation)
}

/// Appends to one room. What the rules refuse writes nothing; anything else fails all of them.
fn append_all(txn: &mut Writer<'_>, appends: &[Append]) -> StoreResult<Vec<StoreResult<Appended>>> {
    let decided = |result: StoreResult<Appended>| match result {
        Err(error) if !matches!(error.kind(), StoreErrorKind::Refused(_)) => Err(error),
        decided => Ok(decided),
    };
    appends.iter().map(|append| decided(txn.append(append))).collect()
}

fn lost(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    let words = "the thread that commits has not come to its end";
    StoreError::new(StoreErrorKind::Unavailable, words).because(why)
}

impl<D: Database> fmt::Debug for KeyedStore<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.database.name();
        f.debug_struct("KeyedStore").field("database", &name).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Database> RoomLog for KeyedStore<D> {
    /// Those of one room are one job, so that none is kept before another that failed. All jobs share a commit all the same,
    /// and what is damaged in one room fails no other's.
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let mut results: Vec<_> = batch.iter().map(|_| Err(closed())).collect();
        let mut rooms: BTreeMap<RoomId, (Vec<usize>, Vec<Append>)> = BTreeMap::new();
        for (place, append) in batch.into_iter().enumerate() {
            let (places, appends) = rooms.entry(append.room.clone()).or_default();
            places.push(place);
            appends.push(append);
        }
        let mut answers = Vec::with_capacity(rooms.len());
        for (places, appends) in rooms.into_values() {
            let count = appends.len();
            let (mut job, answer) = self.job(move |txn| append_all(txn, &appends));
            job.count = count;
            self.committer.submit(job).await;
            answers.push((places, answer));
        }
        for (places, answer) in answers {
            match answered(answer).await {
                Ok(appended) => places
                    .into_iter()
                    .zip(appended)
                    .for_each(|(place, result)| results[place] = result),
                Err(error) => places.into_iter().for_each(|place| {
                    results[place] = Err(StoreError::new(error.kind(), error.to_string()));
                }),
            }
        }
        results
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let room = room.clone();
        self.look(move |rows| rows.page(&room, range)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        let rooms = rooms.to_vec();
        self.look(move |rows| rooms.iter().map(|room| rows.head(room)).collect()).await
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        let (room, sender, id) = (room.clone(), sender.clone(), id.clone());
        self.look(move |rows| rows.sent(&room, &sender, &id)).await
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        let (room, keep) = (room.clone(), *keep);
        self.change(move |txn| txn.trim(&room, &keep, limit)).await
    }
}

#[async_trait]
impl<D: Database> RoomDirectory for KeyedStore<D> {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        let after = after.cloned();
        self.look(move |rows| rows.rooms(after.as_ref(), limit)).await
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        let (room, after) = (room.clone(), after.cloned());
        self.look(move |rows| rows.memberships(&room, after.as_ref(), limit, Some)).await
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        let room = room.clone();
        self.look(move |rows| rows.room(&room)).await
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        let (room, user) = (room.clone(), user.clone());
        self.look(move |rows| rows.membership(&room, &user)).await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        let (room, after) = (room.clone(), after.cloned());
        let role = |membership| match membership {
            Membership::Member(role) => Some(role),
            Membership::Banned => None,
        };
        self.look(move |rows| rows.memberships(&room, after.as_ref(), limit, role)).await
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        let (user, after) = (user.clone(), after.cloned());
        self.look(move |rows| rows.rooms_of(&user, after.as_ref(), limit)).await
    }
}

#[async_trait]
impl<D: Database> SessionRegistry for KeyedStore<D> {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.change(move |txn| txn.open_session(&record)).await
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        let id = id.clone();
        self.look(move |rows| rows.session(&id)).await
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        let user = user.clone();
        self.look(move |rows| rows.sessions_of(&user, limit)).await
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        let id = id.clone();
        self.change(move |txn| txn.attach_session(&id, expires)).await
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        let id = id.clone();
        self.change(move |txn| txn.touch_session(&id, expires)).await
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        let id = id.clone();
        self.change(move |txn| txn.end_session(&id).map(drop)).await
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        let ids = ids.to_vec();
        self.look(move |rows| ids.iter().map(|id| rows.session_head(id)).collect()).await
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        let id = id.clone();
        self.look(move |rows| rows.checkpoint(&id)).await
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        let id = id.clone();
        self.change(move |txn| txn.change_checkpoint(&id, &change)).await
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        let id = id.clone();
        self.change(move |txn| txn.put_ticket(&id, &ticket)).await
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        let (id, secret) = (id.clone(), *secret);
        self.change(move |txn| txn.open_ticket(&id, &secret)).await
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        let id = id.clone();
        self.look(move |rows| rows.ticket(&id)).await
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.change(move |txn| txn.sweep_sessions(now, limit)).await
    }
}

#[async_trait]
impl<D: Database> StateStore for KeyedStore<D> {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        self.change(move |txn| txn.merge_state(&updates)).await
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        let room = room.clone();
        self.look(move |rows| rows.state(&room)).await
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.change(move |txn| txn.begin_state(node)).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.look(|rows| rows.meta().map(|meta| meta.state_generation)).await
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.change(move |txn| txn.end_state(node)).await
    }
}

#[async_trait]
impl<D: Database> Upkeep for KeyedStore<D> {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        let room = room.clone();
        self.change(move |txn| txn.delete_room(&room)).await
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.change(move |txn| txn.purge(limit)).await
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        let user = user.clone();
        self.change(move |txn| txn.erase_user(&user, limit)).await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.change(move |txn| txn.begin_import(&room)).await
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        let room = room.clone();
        self.change(move |txn| txn.import(&room, epoch, part.clone())).await
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        let room = room.clone();
        self.change(move |txn| txn.finish_import(&room, epoch)).await
    }
}

#[async_trait]
impl<D: Database> Store for KeyedStore<D> {
    fn name(&self) -> &'static str {
        self.database.name()
    }

    fn durability(&self) -> Durability {
        self.database.durability()
    }

    async fn close(&self) -> StoreResult<()> {
        let Some(thread) = self.committer.stop() else { return Ok(()) };
        let database = Arc::clone(&self.database);
        // To its end, whether or not anybody still waits for it.
        let ending = tokio::task::spawn_blocking(move || {
            let ended = thread.join();
            database.close()?;
            ended.map_err(|_| lost("it has panicked"))
        });
        ending.await.map_err(lost)?
    }
}

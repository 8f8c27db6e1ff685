//! What the engine asks of the store: each call as a read, or as a write in the queue of what it is about.

use std::sync::Arc;

use async_trait::async_trait;
use im_core::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreError, StoreResult, Upkeep,
};
use im_core::state::{
    Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart, ImportedRoom,
    Keep, Membership, RoomRecord, SecretHash, SessionHead, SessionRecord, Ticket, Trimmed,
    Unchanged,
};
use im_core::wire::{Role, RoomKind, StateUpdate};
use im_core::{Epoch, MessageId, NodeId, RoomId, SessionId, Timestamp, UserId};

use crate::dialect::Dialect;
use crate::job::Topic;
use crate::store::{SqlStore, gone};
use crate::turn::read;

/// A write about something with an id: a copy of what it needs goes along, so that it can be run again.
macro_rules! write {
    ($self:ident, $topic:ident, $id:ident, |$link:ident $(, $arg:ident)*| $call:expr) => {
        write!($self, $topic, $id, 0, |$link $(, $arg)*| $call)
    };
    ($self:ident, $topic:ident, $id:ident, $bytes:expr, |$link:ident $(, $arg:ident)*| $call:expr) => {{
        let ($id, $($arg,)*) = ($id.clone(), $($arg.clone(),)*);
        let key = $id.as_str().to_owned();
        $self
            .write(Topic::$topic, &key, $bytes, move |$link| {
                let ($id, $($arg,)*) = ($id.clone(), $($arg.clone(),)*);
                Box::pin(async move { $call.await })
            })
            .await
    }};
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
        let parts = parts
            .into_iter()
            .map(async |(shard, part)| (shard, self.append_to(shard, part).await.into_iter()));
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
        read!(self, page, |link| link.page(room, range))
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        read!(self, |link| link.heads(rooms))
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        read!(self, |link| link.sent(room, sender, id))
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        write!(self, Rooms, room, |link, keep| link.trim(&room, &keep, limit))
    }
}

#[async_trait]
impl<D: Dialect> RoomDirectory for SqlStore<D> {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        read!(self, page, |link| link.rooms(after, limit))
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        read!(self, page, |link| link.memberships(room, after, limit))
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        read!(self, |link| link.room(room))
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        read!(self, |link| link.membership(room, user))
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        read!(self, page, |link| link.members(room, after, limit))
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        read!(self, page, |link| link.rooms_of(user, after, limit))
    }
}

#[async_trait]
impl<D: Dialect> SessionRegistry for SqlStore<D> {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        let id = &record.id;
        write!(self, Others, id, |link, record| {
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
        write!(self, Others, id, |link, expires| link.attach_session(&id, expires))
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        write!(self, Others, id, |link, expires| link.touch_session(&id, expires))
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        write!(self, Others, id, |link| link.end_session(&id))
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
        write!(self, Others, id, |link, change| link.change_checkpoint(&id, &change))
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        write!(self, Others, id, |link, ticket| link.put_ticket(&id, &ticket))
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        write!(self, Others, id, |link, secret| link.open_ticket(&id, &secret))
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        read!(self, |link| link.ticket(id))
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.write(Topic::Others, "", 0, move |link| Box::pin(link.sweep_sessions(now, limit)))
            .await
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
            let size =
                |update: &Arc<StateUpdate>| update.value.as_ref().map_or(0, |v| v.packed().len());
            let (bytes, updates) = (updates.iter().map(size).sum(), Arc::new(updates));
            self.write(Topic::Others, &key, bytes, move |link| {
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
        self.write(Topic::Others, "", 0, move |link| Box::pin(link.begin_state(node))).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        read!(self, |link| link.state_generation())
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.write(Topic::Others, "", 0, move |link| Box::pin(link.end_state(node))).await
    }
}

#[async_trait]
impl<D: Dialect> Upkeep for SqlStore<D> {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        write!(self, Rooms, room, |link| link.delete_room(&room))
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.write(Topic::Rooms, "", 0, move |link| Box::pin(link.purge(limit))).await
    }

    /// All of them in one committer: each locks rooms of all others, and no two of them wait for each other's.
    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        let (user, limits) = (user.clone(), self.state_limits);
        self.write(Topic::Rooms, "", 0, move |link| {
            let user = user.clone();
            Box::pin(async move { link.erase_user(&user, limit, &limits).await })
        })
        .await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        let id = &room.id;
        let begun = write!(self, Rooms, id, |link, room| {
            let _ = &id;
            link.begin_import(&room)
        });
        begun?.map_err(StoreError::from)
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        let bytes = part.events.iter().map(|event| event.content.packed().len()).sum();
        let part = Arc::new(part);
        let done = write!(self, Rooms, room, bytes, |link, part| link.import(&room, epoch, &part));
        done?.map_err(StoreError::from)
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        write!(self, Rooms, room, |link| link.finish_import(&room, epoch))?
            .map_err(StoreError::from)
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
        self.end().await;
        Ok(())
    }
}

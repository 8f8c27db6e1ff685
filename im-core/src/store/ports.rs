//! The ports of the store.

use std::sync::Arc;

use async_trait::async_trait;

use crate::id::{Epoch, MessageId, NodeId, RoomId, SessionId, UserId};
use crate::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreResult, Upkeep,
};
use crate::state::{
    Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart, ImportedRoom,
    Keep, Membership, RoomRecord, SecretHash, SessionHead, SessionRecord, Ticket, Trimmed,
    Unchanged,
};
use crate::time::Timestamp;
use crate::wire::{Role, RoomKind, StateUpdate};

use super::BackendStore;

#[async_trait]
impl RoomLog for BackendStore {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        self.append(batch).await
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        self.page(room, range).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        self.heads(rooms).await
    }

    async fn sent(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        self.idempotency_record(room, sender, id).await
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        self.trim_log(room, keep, limit).await
    }
}

#[async_trait]
impl RoomDirectory for BackendStore {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        self.rooms(after, limit).await
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        self.list_members(room, after, limit, Some).await
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.room(room).await
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        self.membership(room, user).await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        let role = |membership| match membership {
            Membership::Member(role) => Some(role),
            Membership::Banned => None,
        };
        self.list_members(room, after, limit, role).await
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        self.rooms_of(user, after, limit).await
    }
}

#[async_trait]
impl SessionRegistry for BackendStore {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.open_session(record).await
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        self.session(id).await
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        self.sessions_of(user, limit).await
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        self.move_session(id, expires, 1).await
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        self.move_session(id, expires, 0).await.map(drop)
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        self.end_session(id).await
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        self.session_heads(ids).await
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        self.checkpoint(id).await
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        self.change_checkpoint(id, change).await
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        self.put_ticket(id, ticket).await
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        self.open_ticket(id, secret).await
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.ticket(id).await
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.sweep_sessions(now, limit).await
    }
}

#[async_trait]
impl StateStore for BackendStore {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        self.merge_state(&updates).await
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        self.state(room).await
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.begin_state(node).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.state_generation().await
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.end_state(node).await
    }
}

#[async_trait]
impl Upkeep for BackendStore {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        self.delete_room(room).await
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.purge(limit).await
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        self.erase_user(user, limit).await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.begin_import(&room).await
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        self.import_part(room, epoch, &part).await
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        self.finish_import(room, epoch).await
    }
}

#[async_trait]
impl Store for BackendStore {
    fn name(&self) -> &'static str {
        self.info.name
    }

    fn durability(&self) -> Durability {
        self.info.durability
    }

    async fn close(&self) -> StoreResult<()> {
        self.committer.close().await;
        Ok(self.backend.close().await?)
    }
}

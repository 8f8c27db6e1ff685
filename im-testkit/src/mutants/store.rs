//! A faulty store: the faults are injected between the engine and a real store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use im_core::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreErrorKind, StoreResult, Upkeep,
};
use im_core::state::{
    Act, Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart,
    ImportedRoom, Keep, Membership, Refusal, RoomRecord, SecretHash, SessionHead, SessionRecord,
    Ticket, Trimmed, Unchanged,
};
use im_core::time::Timestamp;
use im_core::wire::{Event, Role, RoomKind, StateUpdate};
use im_core::{Epoch, MessageId, NodeId, RoomId, SessionId, StateKey, UserId};
use parking_lot::Mutex;

use super::Mutant;

/// A store with one fault. Otherwise it behaves as the inner one.
pub struct MutantStore {
    inner: Arc<dyn Store>,
    mutant: Option<Mutant>,
    /// Set after the restart of the process.
    restarted: AtomicBool,
    /// Set if the next append is acked and never written.
    dying: AtomicBool,
    /// The ids that were sent before the restart.
    known: Mutex<HashSet<MessageId>>,
    /// The first value of each state key.
    oldest: Mutex<HashMap<(RoomId, StateKey), Arc<StateUpdate>>>,
}

/// Suffix of an id under which a message was stored a second time; removed on every read.
const AGAIN: &str = "~again";

impl MutantStore {
    /// Wraps `inner` with the fault, if any.
    pub fn new(inner: Arc<dyn Store>, mutant: Option<Mutant>) -> Self {
        Self {
            inner,
            mutant,
            restarted: AtomicBool::new(false),
            dying: AtomicBool::new(false),
            known: Mutex::new(HashSet::new()),
            oldest: Mutex::new(HashMap::new()),
        }
    }

    /// The process is about to die: later appends may not be written.
    pub fn about_to_restart(&self) {
        self.dying.store(true, Ordering::SeqCst);
    }

    /// The process has restarted.
    pub fn restarted(&self) {
        self.dying.store(false, Ordering::SeqCst);
        self.restarted.store(true, Ordering::SeqCst);
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn loses_dedup(&self) -> bool {
        self.is(Mutant::DedupLost) && self.restarted.load(Ordering::SeqCst)
    }

    /// Returns a commit that is never written.
    async fn promise(&self, append: &Append) -> Option<Appended> {
        if !self.is(Mutant::AckBeforeCommit) || !self.dying.load(Ordering::SeqCst) {
            return None;
        }
        let Act::Post { event, .. } = &append.act else { return None };
        let head = self.inner.heads(std::slice::from_ref(&append.room)).await.ok()?.pop()??;
        Some(Appended::Committed(Arc::new(Event {
            room: append.room.clone(),
            epoch: head.cursor.epoch,
            seq: head.cursor.seq.next(),
            from: event.from.clone(),
            at: append.at,
            kind: event.kind.clone(),
            id: event.idempotency_key.as_ref().map(|key| key.id.clone()),
            content: event.content.clone(),
        })))
    }

    async fn append_one(&self, mut append: Append) -> StoreResult<Appended> {
        if let Some(promised) = self.promise(&append).await {
            return Ok(promised);
        }
        let forgets = self.loses_dedup();
        let mut used = None;
        if let Act::Post { event, .. } = &mut append.act
            && let Some(key) = &mut event.idempotency_key
        {
            used = Some((event.from.clone(), key.id.clone()));
            if !self.known.lock().insert(key.id.clone()) && forgets {
                key.id = MessageId::new(format!("{}{AGAIN}", key.id))
                    .unwrap_or_else(|_| MessageId::random());
            }
        }
        let room = append.room.clone();
        let mut answers = self.inner.append(vec![append]).await;
        let answer = match answers.pop() {
            Some(answer) => answer,
            None => {
                return Err(im_core::ports::StoreError::new(StoreErrorKind::Unknown, "no answer"));
            }
        };
        match (answer, used) {
            (Err(error), Some((sender, id)))
                if self.is(Mutant::ConflictAccepted)
                    && error.kind() == StoreErrorKind::Refused(Refusal::Conflict) =>
            {
                self.first_send(&room, &sender, &id).await?.ok_or(error)
            }
            (Ok(Appended::Committed(event)), _) => Ok(Appended::Committed(disguised(event))),
            (answer, _) => answer,
        }
    }

    async fn first_send(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<Appended>> {
        let (Some(record), Some(room)) =
            (self.inner.idempotency_record(room, sender, id).await?, self.inner.room(room).await?)
        else {
            return Ok(None);
        };
        Ok(Some(Appended::Duplicate { epoch: room.epoch, record }))
    }
}

/// Returns the event under the id that its sender chose.
fn disguised(event: Arc<Event>) -> Arc<Event> {
    let id = event.id.as_ref().and_then(|id| MessageId::new(id.as_str().strip_suffix(AGAIN)?).ok());
    match id {
        Some(id) => Arc::new(Event { id: Some(id), ..(*event).clone() }),
        None => event,
    }
}

#[async_trait]
impl RoomLog for MutantStore {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let mut answers = Vec::with_capacity(batch.len());
        for append in batch {
            answers.push(self.append_one(append).await);
        }
        answers
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        let page = self.inner.read(room, range).await?;
        Ok(page.map(|page| LogPage {
            events: page.events.into_iter().map(disguised).collect(),
            ..page
        }))
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        self.inner.heads(rooms).await
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        if self.loses_dedup() {
            Ok(None)
        } else {
            self.inner.idempotency_record(room, sender, id).await
        }
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        self.inner.trim(room, keep, limit).await
    }
}

#[async_trait]
impl RoomDirectory for MutantStore {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        self.inner.rooms(after, limit).await
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        self.inner.memberships(room, after, limit).await
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.inner.room(room).await
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        self.inner.membership(room, user).await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        self.inner.members(room, after, limit).await
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        self.inner.rooms_of(user, after, limit).await
    }
}

#[async_trait]
impl SessionRegistry for MutantStore {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.inner.open_session(record).await
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        self.inner.session(id).await
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        self.inner.sessions_of(user, limit).await
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        self.inner.attach_session(id, expires).await
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        self.inner.touch_session(id, expires).await
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        self.inner.end_session(id).await
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        self.inner.session_heads(ids).await
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        self.inner.checkpoint(id).await
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        self.inner.change_checkpoint(id, change).await
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        self.inner.put_ticket(id, ticket).await
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        self.inner.open_ticket(id, secret).await
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.inner.ticket(id).await
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.inner.sweep_sessions(now, limit).await
    }
}

#[async_trait]
impl StateStore for MutantStore {
    async fn merge_state(&self, mut updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        if self.is(Mutant::OlderState) {
            let mut oldest = self.oldest.lock();
            updates.retain(|update| {
                let place = (update.room.clone(), update.key.clone());
                oldest.entry(place).or_insert_with(|| update.clone()).stamp == update.stamp
            });
        }
        self.inner.merge_state(updates).await
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        self.inner.state(room).await
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.inner.begin_state(node).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.inner.state_generation().await
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.inner.end_state(node).await
    }
}

#[async_trait]
impl Upkeep for MutantStore {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        self.inner.delete_room(room).await
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.inner.purge(limit).await
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        self.inner.erase_user(user, limit).await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.inner.begin_import(room).await
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        self.inner.import(room, epoch, part).await
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        self.inner.finish_import(room, epoch).await
    }
}

#[async_trait]
impl Store for MutantStore {
    fn name(&self) -> &'static str {
        "mutant"
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    async fn close(&self) -> StoreResult<()> {
        self.inner.close().await
    }
}

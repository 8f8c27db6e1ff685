//! A store with planned faults and held calls.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use im_core::ports::{
    Appended, Durability, Head, LogPage, LogRange, RoomDirectory, RoomLog, SessionRegistry,
    StateSnapshot, StateStore, Store, StoreResult, Upkeep,
};
use im_core::state::{
    Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart, ImportedRoom,
    Keep, Membership, RoomRecord, SecretHash, SessionHead, SessionRecord, Ticket, Trimmed,
    Unchanged,
};
use im_core::wire::{Role, RoomKind, StateUpdate};
use im_core::{Epoch, MessageId, NodeId, RoomId, SessionId, Timestamp, UserId};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

mod fault;
mod gate;

pub use fault::{Fault, Operation};
pub use gate::{Gate, Moment};

use gate::Held;

/// Wraps a store. Without a plan it behaves as the inner one.
///
/// Share it by `Arc`: one clone for the engine, one for the test that plans the faults.
///
/// ```
/// # use std::sync::Arc;
/// # use im_core::{memory::MemoryStore, ports::{RoomDirectory, StoreErrorKind}, RoomId};
/// # use im_testkit::faulty_store::{Fault, FaultyStore, Operation};
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let store = FaultyStore::new(Arc::new(MemoryStore::new()));
/// store.fail_times(Operation::Room, Fault::Unavailable, 1);
/// let room = RoomId::new("r").unwrap();
/// assert_eq!(store.room(&room).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
/// assert!(store.room(&room).await.is_ok());
/// assert_eq!(store.calls(Operation::Room), 2);
/// # });
/// ```
pub struct FaultyStore {
    inner: RwLock<Arc<dyn Store>>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Default)]
struct Plan {
    calls: HashMap<Operation, u64>,
    faults: HashMap<Operation, VecDeque<Planned>>,
    gates: HashMap<FaultPoint, Arc<Held>>,
    turns: Option<Arc<Semaphore>>,
}

/// The operation and moment of a gate.
type FaultPoint = (Operation, Moment);

struct Planned {
    fault: Fault,
    /// Number of calls that succeed before the fault.
    skip: u64,
    /// Number of calls that fail after that.
    times: u64,
}

impl FaultyStore {
    /// Wraps `inner` without any planned fault.
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner: RwLock::new(inner), plan: Arc::default() }
    }

    /// Replaces the inner store, as when a backup is restored under running engines.
    pub fn replace(&self, other: Arc<dyn Store>) {
        *self.inner.write() = other;
    }

    fn inner(&self) -> Arc<dyn Store> {
        self.inner.read().clone()
    }

    /// Every call of `operation` fails from now on, after the faults planned before.
    pub fn fail(&self, operation: Operation, fault: Fault) {
        self.fail_after(operation, fault, 0, u64::MAX);
    }

    /// The next `times` calls of `operation` fail, after the faults planned before.
    pub fn fail_times(&self, operation: Operation, fault: Fault, times: u64) {
        self.fail_after(operation, fault, 0, times);
    }

    /// After the faults planned before, `skip` calls of `operation` succeed and the `times` after
    /// them fail.
    pub fn fail_after(&self, operation: Operation, fault: Fault, skip: u64, times: u64) {
        let planned = Planned { fault, skip, times };
        self.plan.lock().faults.entry(operation).or_default().push_back(planned);
    }

    /// Every call of every operation except [`Store::close`] fails from now on.
    pub fn fail_everything(&self, fault: Fault) {
        for operation in Operation::ALL.iter().filter(|operation| **operation != Operation::Close) {
            self.fail(*operation, fault);
        }
    }

    /// Drops the planned faults of `operation`.
    pub fn heal(&self, operation: Operation) {
        self.plan.lock().faults.remove(&operation);
    }

    /// Drops all planned faults.
    pub fn heal_everything(&self) {
        self.plan.lock().faults.clear();
    }

    /// Returns the number of calls of `operation`, failed and held ones included.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.plan.lock().calls.get(&operation).copied().unwrap_or(0)
    }

    /// Holds every call of `operation` from now on until the gate releases it. An earlier gate for
    /// the same moment keeps its held calls and receives no more.
    pub fn hold(&self, operation: Operation, moment: Moment) -> Gate {
        let point = (operation, moment);
        let held = Arc::<Held>::default();
        self.plan.lock().gates.insert(point, Arc::clone(&held));
        Gate::new(held, point, Arc::clone(&self.plan))
    }

    /// Limits the concurrent calls to `at_once`; the others queue, as with a pool of connections. A
    /// call that has its permit and is not polled blocks all queued ones. Appends have a queue of
    /// their own.
    pub fn take_turns(&self, at_once: usize) {
        self.plan.lock().turns = Some(Arc::new(Semaphore::new(at_once)));
    }

    /// Waits for a permit if calls are limited.
    async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turns = self.plan.lock().turns.clone()?;
        // The semaphore is never closed.
        let turn = turns.acquire_owned().await.ok();
        // Yields, as if the permit had to be waited for.
        tokio::task::yield_now().await;
        turn
    }

    /// Counts the call, holds it, and returns its fault. A fault may be planned while the call is
    /// held.
    async fn enter(&self, operation: Operation) -> Option<Fault> {
        *self.plan.lock().calls.entry(operation).or_default() += 1;
        self.pass(operation, Moment::Before).await;
        let mut plan = self.plan.lock();
        let faults = plan.faults.get_mut(&operation)?;
        while faults.front().is_some_and(|planned| planned.skip == 0 && planned.times == 0) {
            faults.pop_front();
        }
        let planned = faults.front_mut()?;
        if planned.skip > 0 {
            planned.skip -= 1;
            return None;
        }
        planned.times -= 1;
        Some(planned.fault)
    }

    async fn pass(&self, operation: Operation, moment: Moment) {
        let gate = self.plan.lock().gates.get(&(operation, moment)).cloned();
        if let Some(held) = gate {
            held.wait().await;
        }
    }

    async fn call<T>(
        &self,
        operation: Operation,
        act: impl Future<Output = StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let _turn = self.turn().await;
        let answer = match self.enter(operation).await {
            None => act.await,
            Some(fault @ Fault::UnknownAfter) => {
                act.await.and_then(|_| Err(fault.error(operation)))
            }
            Some(fault) => Err(fault.error(operation)),
        };
        self.pass(operation, Moment::After).await;
        answer
    }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner().name()).finish_non_exhaustive()
    }
}

#[async_trait]
impl RoomLog for FaultyStore {
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>> {
        let count = batch.len();
        let fault = self.enter(Operation::Append).await;
        let mut answers = Vec::new();
        if matches!(fault, None | Some(Fault::UnknownAfter)) {
            answers = self.inner().append(batch).await;
        }
        if let Some(fault) = fault {
            answers = (0..count).map(|_| Err(fault.error(Operation::Append))).collect();
        }
        self.pass(Operation::Append, Moment::After).await;
        answers
    }

    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>> {
        self.call(Operation::Read, self.inner().read(room, range)).await
    }

    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        self.call(Operation::Heads, self.inner().heads(rooms)).await
    }

    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>> {
        self.call(Operation::Sent, self.inner().idempotency_record(room, sender, id)).await
    }

    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>> {
        self.call(Operation::Trim, self.inner().trim(room, keep, limit)).await
    }
}

#[async_trait]
impl RoomDirectory for FaultyStore {
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>> {
        self.call(Operation::Rooms, self.inner().rooms(after, limit)).await
    }

    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>> {
        self.call(Operation::Memberships, self.inner().memberships(room, after, limit)).await
    }

    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>> {
        self.call(Operation::Room, self.inner().room(room)).await
    }

    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>> {
        self.call(Operation::Membership, self.inner().membership(room, user)).await
    }

    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>> {
        self.call(Operation::Members, self.inner().members(room, after, limit)).await
    }

    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        self.call(Operation::RoomsOf, self.inner().rooms_of(user, after, limit)).await
    }
}

#[async_trait]
impl SessionRegistry for FaultyStore {
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()> {
        self.call(Operation::OpenSession, self.inner().open_session(record)).await
    }

    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>> {
        self.call(Operation::Session, self.inner().session(id)).await
    }

    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>> {
        self.call(Operation::SessionsOf, self.inner().sessions_of(user, limit)).await
    }

    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>> {
        self.call(Operation::AttachSession, self.inner().attach_session(id, expires)).await
    }

    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()> {
        self.call(Operation::TouchSession, self.inner().touch_session(id, expires)).await
    }

    async fn end_session(&self, id: &SessionId) -> StoreResult<()> {
        self.call(Operation::EndSession, self.inner().end_session(id)).await
    }

    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>> {
        self.call(Operation::SessionHeads, self.inner().session_heads(ids)).await
    }

    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint> {
        self.call(Operation::Checkpoint, self.inner().checkpoint(id)).await
    }

    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>> {
        self.call(Operation::ChangeCheckpoint, self.inner().change_checkpoint(id, change)).await
    }

    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()> {
        self.call(Operation::PutTicket, self.inner().put_ticket(id, ticket)).await
    }

    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool> {
        self.call(Operation::OpenTicket, self.inner().open_ticket(id, secret)).await
    }

    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>> {
        self.call(Operation::Ticket, self.inner().ticket(id)).await
    }

    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize> {
        self.call(Operation::SweepSessions, self.inner().sweep_sessions(now, limit)).await
    }
}

#[async_trait]
impl StateStore for FaultyStore {
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()> {
        self.call(Operation::MergeState, self.inner().merge_state(updates)).await
    }

    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot> {
        self.call(Operation::State, self.inner().state(room)).await
    }

    async fn begin_state(&self, node: NodeId) -> StoreResult<u64> {
        self.call(Operation::BeginState, self.inner().begin_state(node)).await
    }

    async fn state_generation(&self) -> StoreResult<u64> {
        self.call(Operation::StateGeneration, self.inner().state_generation()).await
    }

    async fn end_state(&self, node: NodeId) -> StoreResult<()> {
        self.call(Operation::EndState, self.inner().end_state(node)).await
    }
}

#[async_trait]
impl Upkeep for FaultyStore {
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool> {
        self.call(Operation::DeleteRoom, self.inner().delete_room(room)).await
    }

    async fn purge(&self, limit: usize) -> StoreResult<bool> {
        self.call(Operation::Purge, self.inner().purge(limit)).await
    }

    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        self.call(Operation::EraseUser, self.inner().erase_user(user, limit)).await
    }

    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch> {
        self.call(Operation::BeginImport, self.inner().begin_import(room)).await
    }

    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()> {
        self.call(Operation::Import, self.inner().import(room, epoch, part)).await
    }

    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        self.call(Operation::FinishImport, self.inner().finish_import(room, epoch)).await
    }
}

#[async_trait]
impl Store for FaultyStore {
    fn name(&self) -> &'static str {
        self.inner().name()
    }

    fn durability(&self) -> Durability {
        self.inner().durability()
    }

    async fn close(&self) -> StoreResult<()> {
        self.call(Operation::Close, self.inner().close()).await
    }
}

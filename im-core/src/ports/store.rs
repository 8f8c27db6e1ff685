//! The store: all durable data. It is the truth: it alone assigns seqs, inside its commits.
//!
//! `im-testkit` has a suite that an implementation must pass; the memory store of this crate is the
//! reference. For a database with ordered keys, [`keyed`](crate::keyed) contains most of the work.
//! `docs/store.md` in the repository walks through a store outside this repository, in under 300
//! lines.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::code::Code;
use crate::error::Error;
use crate::id::{Cursor, Epoch, MessageId, NodeId, RoomId, Seq, SessionId, UserId};
use crate::state::{
    Append, Checkpoint, CheckpointChange, Erased, IdempotencyRecord, ImportedPart, ImportedRoom,
    Keep, Membership, Refusal, RoomRecord, SecretHash, SessionHead, SessionRecord, Ticket, Trimmed,
    Unchanged,
};
use crate::time::{Stamp, Timestamp};
use crate::wire::{Event, PageFrom, Role, RoomKind, StateUpdate};

/// The meaning of "committed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Lost with the process.
    Volatile,
    /// Survives a kill of the process; a power loss may lose the last commits.
    ProcessCrash,
    /// Survives a power loss, if the disk honours flushes.
    PowerLoss,
}

/// The kind of a failure. It decides how the caller reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The rules refused an append: see the [`Refusal`]. Nothing was written.
    Refused(Refusal),
    /// The device is full. Nothing was written; the call may succeed once there is space.
    Full,
    /// The store is unreachable or failing. Nothing was written; the call may succeed later.
    Unavailable,
    /// The write may or may not have happened. Retry under the same message id.
    Unknown,
    /// A stored value cannot be decoded or breaks an invariant.
    Corrupt,
    /// The store was closed.
    Closed,
}

/// A failure of the store.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result of the store.
pub type StoreResult<T> = Result<T, StoreError>;

impl StoreError {
    /// Creates a failure with a message for the operator.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The kind of the failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Returns whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            StoreErrorKind::Full | StoreErrorKind::Unavailable | StoreErrorKind::Unknown
        )
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::new(StoreErrorKind::Refused(refusal), refusal.to_string())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StoreError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

impl From<StoreError> for Error {
    /// Converts to what the peer sees: the code and a general message. Details stay in the source,
    /// for the log.
    fn from(error: StoreError) -> Self {
        match error.kind {
            StoreErrorKind::Refused(refusal) => {
                Self::new(refusal.code(), "append", refusal.to_string())
            }
            StoreErrorKind::Unknown => Self::of(Code::Unknown, "store").because(error),
            StoreErrorKind::Full => Self::new(
                Code::StoreUnavailable,
                "store",
                "the server's storage is full; nothing was stored",
            )
            .because(error),
            StoreErrorKind::Unavailable | StoreErrorKind::Corrupt | StoreErrorKind::Closed => {
                Self::of(Code::StoreUnavailable, "store").because(error)
            }
        }
    }
}

/// The outcome of an append that was not refused.
#[derive(Debug, Clone)]
pub enum Appended {
    /// The append was committed as this event, which has its position.
    Committed(Arc<Event>),
    /// A duplicate: nothing was written, since an earlier send was stored or the membership is
    /// already as requested.
    Duplicate {
        /// The room's epoch.
        epoch: Epoch,
        /// The record of the first send; for a membership, the head.
        record: IdempotencyRecord,
    },
}

/// The end of a room's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Epoch and last seq.
    pub cursor: Cursor,
    /// The first retained event.
    pub first: Seq,
    /// Counts the merges that changed the room's state.
    pub state_revision: u64,
    /// The number of events changed by erasures, as in [`RoomRecord`].
    pub erased: u64,
}

/// The part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// The start and the direction.
    pub from: PageFrom,
    /// Maximum number of events; at least 1.
    pub limit: usize,
    /// Maximum bytes of packed content; one event is always returned.
    pub max_bytes: usize,
}

/// A part of a log, with the log's bounds at the time of the read.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The room's epoch and last seq.
    pub head: Cursor,
    /// The first retained event.
    pub first: Seq,
    /// Consecutive events: ascending after a position, descending before one.
    pub events: Vec<Arc<Event>>,
}

/// The logs of the rooms, with the dedup of sends.
#[async_trait]
pub trait RoomLog: Send + Sync {
    /// Appends a batch. Returns one result per append, in the order of the batch.
    ///
    /// The appends are independent: a refusal of one does not affect the others.
    ///
    /// [`crate::state::plan`] decides each append against what is committed and against the appends
    /// before it in the batch. All that the plan holds is written in one commit: the event, the
    /// room, the memberships, the idempotency record. Appends to one room take effect in the order
    /// of the batch. If one fails other than by a refusal of the rules
    /// ([`StoreErrorKind::Unavailable`], for instance, or an unknown outcome), no later append of
    /// the batch to the same room is written without it: sender order depends on this. When
    /// `Committed` is returned, the commit has the durability that [`Store::durability`] states.
    ///
    /// Concurrent calls are allowed; a store may combine them into one commit. If the future is
    /// dropped, the appends may or may not be written.
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>>;

    /// Reads a part of a room's log; `None` if there is no such room.
    ///
    /// The page is one consistent view. It begins at `first` where older events were trimmed:
    /// compare the first event's seq with the requested one. A position at or beyond the head
    /// returns no events.
    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>>;

    /// Returns the heads of these rooms, in the order of the ids; `None` where there is no such
    /// room.
    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>>;

    /// Returns the record of the send with this id, in the room's current incarnation.
    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>>;

    /// Trims the oldest events of a room's log according to `keep`: at most `limit` (0 counts as 1)
    /// per call, in one commit. `None` if there is no such room.
    ///
    /// [`RoomRecord::trim`] decides against what is committed, concurrent appends included. `first`
    /// and `bytes` change; epoch, head, the seqs of later events, members and state do not.
    /// **Idempotency records stay**: they outlive retention and are removed with their room, so a
    /// retry is recognised however late it arrives. A log may lose all of its events; the next one
    /// still has head + 1.
    ///
    /// Concurrent reads see the log before or after the trim, never a page with a gap. A page read
    /// during the trim may still contain removed events, and its `first` then says so. The content
    /// is removed from the store when this returns, as far as the medium erases anything; the
    /// removal is as durable as an append. A call whose outcome is unknown may be repeated.
    ///
    /// The cost is proportional to what is removed. If nothing is removed, it is one read of the
    /// room and of its oldest event.
    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>>;
}

/// The rooms and their members. Written by [`RoomLog::append`] and [`Upkeep`] alone.
#[async_trait]
pub trait RoomDirectory: Send + Sync {
    /// Returns the rooms after `after` in the byte order of their ids, at most `limit`.
    ///
    /// For sweeps and copies: rooms created or deleted meanwhile may or may not be included; every
    /// other room is returned once.
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>>;

    /// Returns all memberships of the room, including bans, after `after` in the byte order of the
    /// user ids, at most `limit`. Empty where there is no such room.
    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>>;

    /// Returns the room; `None` if there is no such room.
    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>>;

    /// Returns the membership of `user`; `None` without one, and where there is no such room.
    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>>;

    /// Returns the members after `after` in the byte order of their ids, at most `limit`, without
    /// banned users. Empty where there is no such room.
    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>>;

    /// Returns the rooms of which `user` is a member, after `after` in the byte order of their ids,
    /// at most `limit`.
    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>>;
}

/// The sessions that can be resumed, with their checkpoints.
///
/// An ended session is removed: only [`SessionRegistry::open_session`] creates one, so a late write
/// does not restore it.
#[async_trait]
pub trait SessionRegistry: Send + Sync {
    /// Writes the record of a new session with an unused id; its checkpoint is the default one.
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()>;

    /// Returns the session's record; `None` if there is none. Expired sessions are returned until
    /// they are swept.
    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>>;

    /// Returns the user's sessions, oldest first, at most `limit`. Expired ones are included until
    /// they are swept.
    ///
    /// A caller that ends all returned sessions and calls again reaches every session.
    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>>;

    /// Attaches a connection to the session: increments its fencing token, sets the expiry to
    /// `expires`, and returns the token. `None` if there is no such session. Not synced to disk
    /// before it returns.
    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>>;

    /// Sets the session's expiry. Does nothing if there is no such session. Not synced to disk
    /// before it returns.
    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()>;

    /// Ends the session permanently: removes it with its checkpoint and ticket. Does nothing if
    /// there is none.
    async fn end_session(&self, id: &SessionId) -> StoreResult<()>;

    /// Returns the fields that may have changed of these sessions, in the order of the ids; `None`
    /// where there is no such session.
    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>>;

    /// Returns the session's checkpoint; the default one before the first subscription, and where
    /// there is no such session.
    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint>;

    /// Applies [`Checkpoint::apply`] to the session's checkpoint atomically and returns the new
    /// revision.
    ///
    /// Not synced to disk before it returns: a power loss only makes the next resume longer.
    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>>;

    /// Stores this ticket of the session, replacing an earlier one, until the session ends. Does
    /// nothing if there is no such session.
    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()>;

    /// Marks the session's ticket as opened, atomically. `false` if it was opened before, has
    /// another secret, or does not exist.
    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool>;

    /// Returns the session's ticket; `None` if there is none, or no such session.
    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>>;

    /// Removes at most `limit` sessions that expired before `now`, with their checkpoints and
    /// tickets. Returns how many.
    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize>;
}

/// A room's state as stored.
#[derive(Debug, Clone, Default)]
pub struct StateSnapshot {
    /// Counts the merges that changed something.
    pub revision: u64,
    /// The newest update of each key, tombstones included, in the order of the keys.
    pub entries: Vec<Arc<StateUpdate>>,
    /// The greatest stamp of a purged tombstone: see [`crate::state::StateMap::purged_stamp`].
    pub purged_stamp: Option<Stamp>,
}

/// Latest-wins state. The engine writes it behind, so a restart finds a snapshot.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Merges updates by [`crate::state::StateMap`]'s rule: older ones are discarded.
    ///
    /// The updates of a room are one commit. Updates of rooms that do not exist are discarded. Not
    /// synced to disk before it returns.
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()>;

    /// Returns a room's state; empty where there is none.
    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot>;

    /// Registers a node as a writer of state. Returns the generation: a new one if an earlier
    /// writer did not end properly, since updates may have been lost.
    async fn begin_state(&self, node: NodeId) -> StoreResult<u64>;

    /// Returns the current generation: the one that the latest [`StateStore::begin_state`] of any
    /// node returned.
    async fn state_generation(&self) -> StoreResult<u64>;

    /// Records that the node has written all of its updates.
    async fn end_state(&self, node: NodeId) -> StoreResult<()>;
}

/// Removal of old data and import of rooms. For the service itself: no client command calls it.
///
/// Each call does a bounded part of the work in one commit, as durable as an append, and can be
/// repeated after any failure; after a kill the same calls continue the work. Appends and reads
/// continue meanwhile.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Deletes a room permanently. `false` if there is no such room.
    ///
    /// When this returns, no call finds the room: its record, log, members, idempotency records and
    /// state are gone, and its entry among the rooms of each user. Its data may still occupy space,
    /// which [`Upkeep::purge`] frees in bounded steps; so this costs the same for a room of any
    /// size. A room created under the same id later is another one, with another incarnation and a
    /// log from 1; it shares nothing with the old one, not even what was not purged yet. An
    /// unfinished import under this id is dropped as well.
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool>;

    /// Purges the remains of deleted rooms and dropped imports, at most about `limit` records (0
    /// counts as 1). Returns whether more remain: call again.
    async fn purge(&self, limit: usize) -> StoreResult<bool>;

    /// Erases a user, a part per call: call again while the result says that there is more.
    ///
    /// At most about `limit` records are examined in one call (0 counts as 1), so the erasure
    /// terminates if the limit is well above the number of events appended to one room between two
    /// calls.
    ///
    /// When it is complete, the store contains nothing of the user. Their inbox ([`RoomId::inbox`])
    /// is deleted; sessions, with checkpoints and tickets, are removed, and so are their
    /// memberships in every room (the member count decreases; bans are removed too), their
    /// idempotency records, and their events. The events keep their positions: each that
    /// [`Event::without`] changes is replaced in place by its result and counted in
    /// [`RoomRecord::erased`]; so are values of state, by [`StateUpdate::without`], each a change
    /// that the revision counts. Rooms, epochs, heads, `first` and the events of other users stay;
    /// other users' contents are not searched for the name.
    ///
    /// Within a room the membership is removed before, or with, the first event examined, so that
    /// the user's own authority appends nothing behind the part already erased. No event announces
    /// the removal: a service that wants one removes the user first, as the engine does. Events
    /// appended in the user's name afterwards, on the service's authority, are not erased by
    /// earlier calls.
    ///
    /// Where an event names a user as its sender or in a change of members, the store must find the
    /// room without reading the logs of other rooms: by an index of the rooms in which each user
    /// was ever a member, wrote or was named, kept when they leave; or by an index of events by
    /// sender and by user named. Reading through the logs of those rooms is then allowed, a bounded
    /// part per call, with the position recorded in the store. Rooms under import count as rooms.
    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased>;

    /// Begins to import a room, invisible until [`Upkeep::finish_import`]. Returns the new epoch of
    /// the room.
    ///
    /// An earlier unfinished import under this id is dropped. Refused with [`Refusal::Exists`] if
    /// there is such a room.
    ///
    /// One import at a time per id. It survives a restart, and stays until it is finished, begun
    /// again or dropped by [`Upkeep::delete_room`].
    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch>;

    /// Adds a part to the import with this epoch, in one commit: memberships and events with their
    /// idempotency records (each by [`RoomRecord::import`]); `members` and `bytes` are counted.
    ///
    /// The caller keeps parts small; some hundred records or KiB.
    ///
    /// Refused, with nothing written: [`Refusal::NoSuchRoom`] if there is no such import,
    /// [`Refusal::Exists`] if the room exists by now, [`Refusal::NotNext`] if an event is not the
    /// next one, or if a user or a sender's message id occurs a second time, [`Refusal::Reserved`]
    /// for a membership of [`UserId::erased`].
    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()>;

    /// Makes the imported room visible, complete, at once. Refused like [`Upkeep::import`].
    ///
    /// After an unknown outcome, a room with this epoch means success. State is merged into it
    /// afterwards like into any other room ([`StateStore::merge_state`]).
    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord>;
}

/// A complete store: all of its parts, with its guarantees.
#[async_trait]
pub trait Store: RoomLog + RoomDirectory + SessionRegistry + StateStore + Upkeep {
    /// A short name for logs: `memory`, `sled` …
    fn name(&self) -> &'static str;

    /// The meaning of "committed" in this store.
    fn durability(&self) -> Durability;

    /// Writes pending data, syncs and closes. Later calls fail with [`StoreErrorKind::Closed`]. A
    /// second call does nothing.
    async fn close(&self) -> StoreResult<()>;
}

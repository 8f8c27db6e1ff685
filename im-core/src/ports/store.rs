//! Where everything durable lives. The store is the truth: it alone gives out seqs, inside its commits.
//!
//! `im-testkit` has a suite that an implementation must pass; the memory store of this crate is the reference. Over a
//! database with ordered keys most of it is done: see [`keyed`](crate::keyed). `docs/store.md` in the repository goes
//! through a store from outside, in under 300 lines.

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

/// What "committed" means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Lost with the process.
    Volatile,
    /// Survives a kill of the process; a power loss may take what was committed last.
    ProcessCrash,
    /// Survives a power loss, if the disk keeps its promises.
    PowerLoss,
}

/// What sort of failure it is. It decides what the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The rules refused an append: see the [`Refusal`]. Nothing was written.
    Refused(Refusal),
    /// No room on the device. Nothing was written; it may work again once there is.
    Full,
    /// The store is away or failing. Nothing was written; it may work again later.
    Unavailable,
    /// It is not known whether it was written. Retry under the same message id.
    Unknown,
    /// What was read makes no sense.
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
    /// A failure with words for the operator.
    pub fn new(kind: StoreErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What sort of failure.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
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
    /// What the peer sees: the code and general words. The details stay in the source, for the log.
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

/// What became of an append that was not refused.
#[derive(Debug, Clone)]
pub enum Appended {
    /// It was committed: this is the event, with its place.
    Committed(Arc<Event>),
    /// A duplicate: nothing was written, since an earlier send did it, or membership is as wished already.
    Duplicate {
        /// The room's epoch.
        epoch: Epoch,
        /// The first send's place and time; for membership, the head.
        record: IdempotencyRecord,
    },
}

/// Where a room's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Epoch and last seq.
    pub cursor: Cursor,
    /// The first event still kept.
    pub first: Seq,
    /// Counts the merges that changed the room's state.
    pub state_revision: u64,
    /// As in [`RoomRecord`]: events that were changed by erasures.
    pub erased: u64,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRange {
    /// Where to begin, and in which direction.
    pub from: PageFrom,
    /// At most so many events; at least 1.
    pub limit: usize,
    /// At most so many bytes of packed content, but never fewer than one event.
    pub max_bytes: usize,
}

/// A part of a log, and where the log stood when it was read.
#[derive(Debug, Clone)]
pub struct LogPage {
    /// The room's epoch and last seq.
    pub head: Cursor,
    /// The first event still kept.
    pub first: Seq,
    /// Consecutive events: ascending after a position, descending before one.
    pub events: Vec<Arc<Event>>,
}

/// The logs of the rooms, with the dedup of sends.
#[async_trait]
pub trait RoomLog: Send + Sync {
    /// Appends a batch. The answers stand in the order of the batch, one each; the appends are independent of one
    /// another and one's refusal leaves the others alone.
    ///
    /// Each append is decided by [`crate::state::plan`] against what is committed (and what stands before it in the
    /// batch) and all that the plan holds is written in one commit: the event, the room, the memberships, the dedup
    /// record. Appends to one room take effect in the order of the batch, and if one fails that the rules do not refuse
    /// ([`StoreErrorKind::Unavailable`], say, or an outcome that is not known), none that stands behind it in the batch
    /// and in the same room is written without it: the order of one's own messages rests on that. When this returns `Committed`, the commit
    /// has the durability that [`Store::durability`] states.
    ///
    /// Concurrent calls are allowed; a store may gather them into one commit. If the future is dropped, the appends
    /// may or may not be written.
    async fn append(&self, batch: Vec<Append>) -> Vec<StoreResult<Appended>>;

    /// Reads a part of a room's log; `None` if there is no such room.
    ///
    /// The page is one consistent view. It begins at `first` where older events were trimmed: compare the first
    /// event's seq with what was asked for. A position at or beyond the end gives no events.
    async fn read(&self, room: &RoomId, range: LogRange) -> StoreResult<Option<LogPage>>;

    /// Where the logs of these rooms end, in the order asked; `None` where there is no such room.
    async fn heads(&self, rooms: &[RoomId]) -> StoreResult<Vec<Option<Head>>>;

    /// The send that was made under this id, in the room's present incarnation.
    async fn idempotency_record(
        &self,
        room: &RoomId,
        sender: &UserId,
        id: &MessageId,
    ) -> StoreResult<Option<IdempotencyRecord>>;

    /// Removes the oldest events of a room's log, as far as `keep` says, at most `limit` (0 counts as 1) in one call and
    /// in one commit. `None` if there is no such room.
    ///
    /// Decided by [`RoomRecord::trim`] against what is committed, appends of the same moment included. `first` and
    /// `bytes` change; epoch, head, the seqs of later events, members and state do not. **Records of sends stay**: they
    /// outlive retention and go with their room, so that a retry is known however late it comes. A log may lose all of
    /// its events; the next one still has head + 1.
    ///
    /// Readers see the log as it was before or as it is after, never a page with a hole: a page that is read meanwhile
    /// may still hold what is removed, and its `first` then says so. The content has gone from the store when this
    /// returns, as far as the medium lets go of anything; it is as durable as an append. A call whose outcome is
    /// unknown may be made again.
    ///
    /// Costs no more than what is removed, and one look at the room and at its oldest event where nothing is.
    async fn trim(&self, room: &RoomId, keep: &Keep, limit: usize) -> StoreResult<Option<Trimmed>>;
}

/// Which rooms there are and who is in them. Written by [`RoomLog::append`] and [`Upkeep`] alone.
#[async_trait]
pub trait RoomDirectory: Send + Sync {
    /// All rooms after `after` in the byte order of their ids, at most `limit`. For sweeps and copies: rooms that come
    /// and go meanwhile may be among them or not, each other room is given once.
    async fn rooms(&self, after: Option<&RoomId>, limit: usize) -> StoreResult<Vec<RoomRecord>>;

    /// How everybody stands to the room, the banned included, after `after` in the byte order of their ids, at most
    /// `limit`. Empty where there is no such room.
    async fn memberships(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Membership)>>;

    /// The room; `None` if there is no such room.
    async fn room(&self, room: &RoomId) -> StoreResult<Option<RoomRecord>>;

    /// How `user` stands to the room; `None` for a stranger, and where there is no such room.
    async fn membership(&self, room: &RoomId, user: &UserId) -> StoreResult<Option<Membership>>;

    /// The members after `after` in the byte order of their ids, at most `limit`; the banned are left out. Empty where
    /// there is no such room.
    async fn members(
        &self,
        room: &RoomId,
        after: Option<&UserId>,
        limit: usize,
    ) -> StoreResult<Vec<(UserId, Role)>>;

    /// The rooms that `user` is a member of, after `after` in the byte order of their ids, at most `limit`.
    async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>>;
}

/// The sessions that can be resumed, and what each follows.
///
/// A session that was ended is gone: nothing but [`SessionRegistry::open_session`] makes one, so no late write brings
/// it back.
#[async_trait]
pub trait SessionRegistry: Send + Sync {
    /// Writes the record of a new session, whose id nobody has used; its checkpoint is the default one.
    async fn open_session(&self, record: SessionRecord) -> StoreResult<()>;

    /// The session's record; `None` if there is none. Expired ones are returned like others until they are swept.
    async fn session(&self, id: &SessionId) -> StoreResult<Option<SessionRecord>>;

    /// The user's sessions, oldest first, at most `limit`. Expired ones are among them until they are swept. Who ends
    /// all that this gives and asks again reaches every session.
    async fn sessions_of(&self, user: &UserId, limit: usize) -> StoreResult<Vec<SessionRecord>>;

    /// A connection takes the session: counts `attached` up, moves the expiry to `expires`, and returns the number.
    /// `None` if there is no such session. Not synced to disk before it returns.
    async fn attach_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<Option<u64>>;

    /// Moves the session's expiry. Does nothing if there is no such session. Not synced to disk before it returns.
    async fn touch_session(&self, id: &SessionId, expires: Timestamp) -> StoreResult<()>;

    /// Ends the session for good: removes it with its checkpoint and ticket. Does nothing if there is none.
    async fn end_session(&self, id: &SessionId) -> StoreResult<()>;

    /// What may have changed of these sessions, in the order asked; `None` where there is no such session.
    async fn session_heads(&self, ids: &[SessionId]) -> StoreResult<Vec<Option<SessionHead>>>;

    /// The session's checkpoint; the default one if nothing was followed yet, and where there is no such session.
    async fn checkpoint(&self, id: &SessionId) -> StoreResult<Checkpoint>;

    /// Changes the session's checkpoint by [`Checkpoint::apply`], in one step, and returns its new revision. Not
    /// synced to disk before it returns: a power loss costs a longer resume and nothing else.
    async fn change_checkpoint(
        &self,
        id: &SessionId,
        change: CheckpointChange,
    ) -> StoreResult<Result<u64, Unchanged>>;

    /// Keeps this ticket of the session, in place of an earlier one, until the session ends. Does nothing if there is no
    /// such session.
    async fn put_ticket(&self, id: &SessionId, ticket: Ticket) -> StoreResult<()>;

    /// Notes that the session's ticket was opened, in one step. `false` if that was done before, if its ticket has another
    /// secret, or if there is none.
    async fn open_ticket(&self, id: &SessionId, secret: &SecretHash) -> StoreResult<bool>;

    /// The session's ticket; `None` if there is none, or no such session.
    async fn ticket(&self, id: &SessionId) -> StoreResult<Option<Ticket>>;

    /// Removes sessions that expired before `now`, with their checkpoints and tickets, at most `limit` of them. Says how many.
    async fn sweep_sessions(&self, now: Timestamp, limit: usize) -> StoreResult<usize>;
}

/// A room's state as the store has it.
#[derive(Debug, Clone, Default)]
pub struct StateSnapshot {
    /// Counts the merges that changed something.
    pub revision: u64,
    /// The newest update of each key, tombstones included, in the order of the keys.
    pub entries: Vec<Arc<StateUpdate>>,
    /// The greatest stamp of a key that was unset and forgotten: see [`crate::state::StateMap::purged_stamp`].
    pub purged_stamp: Option<Stamp>,
}

/// Latest-wins state. Written behind by the engine, so that a restart finds a snapshot.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// Merges updates, each by [`crate::state::StateMap`]'s rule: older ones are discarded. One commit per room at
    /// least. Updates of rooms that do not exist are discarded. Not synced to disk before it returns.
    async fn merge_state(&self, updates: Vec<Arc<StateUpdate>>) -> StoreResult<()>;

    /// A room's state; empty where there is none.
    async fn state(&self, room: &RoomId) -> StoreResult<StateSnapshot>;

    /// A node begins to write state. Returns the generation: a new one if an earlier writer did not end properly, so
    /// that updates may have been lost.
    async fn begin_state(&self, node: NodeId) -> StoreResult<u64>;

    /// The generation now: what the latest [`StateStore::begin_state`] gave to any node.
    async fn state_generation(&self) -> StoreResult<u64>;

    /// The node has written all it had.
    async fn end_state(&self, node: NodeId) -> StoreResult<()>;
}

/// Removing what is not to be kept, and putting in what was kept elsewhere. For the service itself: no client's command
/// leads here.
///
/// Each call does a bounded part of the work in one commit, as durable as an append, and can be made again after any
/// failure; what a killed process left half done is gone on with by the same calls. Appends and reads go on meanwhile.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Deletes a room for good. `false` if there is no such room.
    ///
    /// When this returns, the room is gone for everybody: its record, log, members, records of sends and state, and its
    /// place among the rooms of each user. What it held may still take up space, which [`Upkeep::purge`] gives back bit
    /// by bit; so this costs the same for a room of any size. A room that is made under the same id later is another
    /// one, with another incarnation and a log from 1, and shares nothing with the old one, not even what was not
    /// purged yet. An import under this id that was not finished is dropped as well.
    async fn delete_room(&self, room: &RoomId) -> StoreResult<bool>;

    /// Removes what deleted rooms and dropped imports left behind, at most about `limit` records (0 counts as 1).
    /// Whether there is more to remove: call again.
    async fn purge(&self, limit: usize) -> StoreResult<bool>;

    /// Erases a user, a part at a time: call again as long as the answer says that there is more. At most about `limit`
    /// records are looked at in one call (0 counts as 1), so a limit well above what is sent to one room between two
    /// calls comes to its end.
    ///
    /// In the end there is nothing of the user in the store: their own room ([`RoomId::inbox`]) is deleted; sessions,
    /// with checkpoints and tickets, are removed, and so are their memberships in every room (members are counted down;
    /// a ban goes as well), their records of sends, and their events. The events keep their places: each that
    /// [`Event::without`] changes is replaced by what it gives, in place, and counted in [`RoomRecord::erased`]; so are
    /// values of state, by [`StateUpdate::without`], each a change that the revision counts. Rooms, epochs, heads,
    /// `first` and what others sent stay; other users' contents are not searched for the name.
    ///
    /// Within a room the membership goes before, or with, the first event that is looked at, so that nothing new by the
    /// user's own authority comes in behind what was erased. No event is written that tells others of the leaving: a
    /// service that wants one removes the user first, as the engine does. What is appended in the user's name
    /// afterwards, on the service's authority, is not erased by earlier calls.
    ///
    /// Where an event names a user as its sender or in a change of members, the store must find the room again without
    /// reading other rooms' logs: by an index of the rooms that each user has ever been in, written to or been named
    /// in, kept when they leave; or by an index of events by sender and by user named. To read through the logs of
    /// those rooms is then allowed, a bounded part in a call, with the place noted in the store. Rooms under import
    /// count as rooms.
    async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased>;

    /// Begins to import a room, invisible until [`Upkeep::finish_import`]. Gives the epoch of its new life; an earlier
    /// import under this id that was not finished is dropped. Refused with [`Refusal::Exists`] if there is such a room.
    ///
    /// One import at a time for an id. It outlasts a restart, and stays until it is finished, begun anew or dropped by
    /// [`Upkeep::delete_room`].
    async fn begin_import(&self, room: ImportedRoom) -> StoreResult<Epoch>;

    /// Adds a part to the import that has this epoch, in one commit: memberships, events with their records of sends
    /// (each by [`RoomRecord::import`]), `members` and `bytes` counted. The caller keeps parts small; some hundred
    /// records or KiB.
    ///
    /// Refused, and nothing written: [`Refusal::NoSuchRoom`] if there is no such import, [`Refusal::Exists`] if there is
    /// a room by now, [`Refusal::NotNext`] if an event is not the next one, or a user or a sender's message id comes
    /// a second time, [`Refusal::Reserved`] for a membership of [`UserId::erased`].
    async fn import(&self, room: &RoomId, epoch: Epoch, part: ImportedPart) -> StoreResult<()>;

    /// Makes the imported room visible, whole, at once. Refused like [`Upkeep::import`]. Where the outcome is unknown, a
    /// room with this epoch says that it was done.
    ///
    /// State is merged into it afterwards like into any other ([`StateStore::merge_state`]).
    async fn finish_import(&self, room: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord>;
}

/// A store: all of its parts, and what it promises.
#[async_trait]
pub trait Store: RoomLog + RoomDirectory + SessionRegistry + StateStore + Upkeep {
    /// A short name for logs: `memory`, `sled` …
    fn name(&self) -> &'static str;

    /// What "committed" means here.
    fn durability(&self) -> Durability;

    /// Writes what is left, syncs and closes. Later calls fail with [`StoreErrorKind::Closed`]. Calling it again does
    /// nothing.
    async fn close(&self) -> StoreResult<()>;
}

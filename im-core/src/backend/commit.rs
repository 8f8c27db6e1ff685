//! What is written.

use super::datum::{Datum, Row};
use super::feed::FeedPlace;
use super::table::TableId;

/// Changes that are made all together or not at all, if all guards hold.
///
/// Order within a commit: guards are checked, then the log is changed, then the records, in the order of the list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Commit {
    /// What must hold: at most [`Commit::MAX_GUARDS`]. None is needed where all changes are [`Change::PutIfNewer`].
    pub guards: Vec<Guard>,
    /// What becomes of one log.
    pub log: Option<LogChange>,
    /// What becomes of records.
    pub changes: Vec<Change>,
    /// What the change feed says of it; empty: nothing. The rows are the reader's business.
    pub touched: Vec<Row>,
    /// When it is answered.
    pub sync: SyncLevel,
    /// The commit of the same batch, by position, on whose result this one was planned. If that one is not applied, this one
    /// is [`Answer::Skipped`].
    pub behind: Option<usize>,
}

impl Commit {
    /// The most guards of one commit.
    pub const MAX_GUARDS: usize = 8;
}

/// A record that must be as it was when the commit was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Its table, which has a column of type [`Type::Revision`](super::Type::Revision).
    pub table: TableId,
    /// Its key.
    pub key: Row,
    /// How it must be.
    pub expect: Expect,
    /// What the commit does to its revision.
    pub act: GuardAct,
}

/// How a guard must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// There is no such record.
    Absent,
    /// It has this revision.
    Revision(i64),
}

/// What a commit does to the revision of a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardAct {
    /// Raises it. The commit then puts or removes the record, or leaves it as it is but for revision and place in the feed.
    Bump,
    /// Leaves it: others may rely on the same record at the same time.
    Check,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record, in place of one with its key. Columns that the backend fills are ignored: a record that a guard of this
    /// commit bumps, or that is new, gets a revision one above that of the stored one, any other keeps its own.
    Put {
        /// The table.
        table: TableId,
        /// The record.
        row: Row,
    },
    /// The record, if there is none with its key, or one that is less in the columns named.
    PutIfNewer {
        /// The table.
        table: TableId,
        /// The record.
        row: Row,
        /// The columns that are compared, by position, the most important one first.
        by: Vec<usize>,
    },
    /// No record with this key.
    Remove {
        /// The table.
        table: TableId,
        /// The key.
        key: Row,
    },
    /// No record of this range of keys, bounds included. The caller keeps it small: a backend may hold all of it in memory.
    RemoveRange {
        /// The table.
        table: TableId,
        /// What the first columns of their keys are.
        prefix: Row,
        /// The least key, without the prefix; without it, from the first one.
        from: Option<Row>,
        /// The greatest key, without the prefix; without it, to the last one.
        to: Option<Row>,
    },
}

/// What becomes of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChange {
    /// The log.
    pub log: i64,
    /// What becomes of it.
    pub act: LogAct,
}

/// What becomes of a log.
///
/// A log may begin at any seq. That entries follow one another without a gap is for the guard to see to: the backend does not
/// look at the entry before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogAct {
    /// Entries behind its last one, with consecutive seqs. If one has the sender and the message id of an earlier send, the
    /// commit is [`Answer::Duplicate`].
    Append(Vec<Row>),
    /// Entries in place of those with their seqs. Where sender or message id are others now, or the id is `Null`, the send that
    /// the old entry was is forgotten.
    Replace(Vec<Row>),
    /// Removes the entries of these seqs, bounds included. Their sends are remembered.
    Trim {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// Removes the entries of these seqs, bounds included, and their sends.
    Clear {
        /// The first.
        from: i64,
        /// The last.
        to: i64,
    },
    /// Forgets these sends, each a sender and a message id, of entries that were trimmed.
    Forget(Vec<(Datum, Datum)>),
}

/// What a commit has survived when it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SyncLevel {
    /// The end of the process, not a loss of power. A backend that cannot promise that syncs it with others; one that cannot
    /// choose syncs it at once.
    Unsynced,
    /// Whatever [`BackendInfo::durability`](super::BackendInfo) says.
    #[default]
    Synced,
}

/// What became of a commit that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was made.
    Applied(Applied),
    /// A guard did not hold, or a unique index has such a record. Nothing was written. Where a commit itself would make
    /// two such records, there is none.
    Conflict {
        /// The guard, by position; `None` for an index.
        guard: Option<usize>,
        /// The record as it is now, if there is one.
        fresh: Option<Row>,
    },
    /// An entry has the sender and the message id of an earlier send. Nothing was written.
    Duplicate {
        /// The entry, by position.
        entry: usize,
        /// The earlier send, as [`Read::Send`](super::Read::Send) answers.
        send: Row,
    },
    /// The commit that it was planned on was not applied. Nothing was written.
    Skipped,
}

/// What the backend filled in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// The place in the change feed, if the commit touches anything.
    pub place: Option<FeedPlace>,
    /// The revision of each guard now, in their order.
    pub revisions: Vec<i64>,
}

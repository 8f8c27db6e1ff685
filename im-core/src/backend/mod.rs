//! What a database implements: five methods that do not grow with features.
//!
//! The store holds every rule of chat once, and stands on a backend that knows none of them. A backend has three
//! primitives, all declared in a [`Schema`]:
//!
//! - **Tables**: records of typed columns under a key, with indexes.
//! - **Logs**: entries under seqs, appended at the end, unique by sender and message id.
//! - The **change feed**: which records the commits have touched, readable without a gap.
//!
//! A [`Commit`] changes them all or not at all, on condition that its guards hold: records that have the revision which the
//! commit was planned on. There is no transaction to hold open and no lock to forget.
//!
//! A database with ordered keys implements [`kv::Database`](crate::kv::Database) instead, and gets the backend from
//! [`kv`](crate::kv).
//!
//! | module | what it holds |
//! |---|---|
//! | `datum` | values of columns, rows |
//! | `table` | declarations |
//! | `read` | questions and answers |
//! | `commit` | what is written |
//! | `feed` | the change feed |
//! | `error` | how a backend fails |

use async_trait::async_trait;

use crate::ports::Durability;

mod commit;
mod datum;
mod error;
mod feed;
mod read;
mod table;

pub use commit::{
    Answer, Applied, Change, Commit, Expect, Guard, GuardAct, LogAct, LogChange, SyncLevel,
};
pub use datum::{Datum, Row};
pub use error::{BackendError, BackendErrorKind, BackendResult};
pub use feed::{ChangeRecord, FeedPlace, FeedPosition};
pub use read::{Found, LogRead, Range, Read, Sends, Way};
pub use table::{Column, Index, LogTable, Schema, Table, TableId, Type};

/// What a backend is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// A short name for logs: `memory`, `sled`, `sqlite`.
    pub name: &'static str,
    /// What a synced commit survives.
    pub durability: Durability,
    /// Whether no other process and no other backend writes to the same database while this one is open: then what was read
    /// holds until this backend commits something else.
    pub exclusive: bool,
    /// How many calls of [`Backend::commit`] it makes progress with at once; at least 1. The store has so many under way, and
    /// gathers what comes meanwhile. `usize::MAX`: a commit costs the same alone, so nothing is gathered.
    pub writers: usize,
}

/// A database, as the store sees it.
///
/// All methods may be called at any time and side by side. A call whose future is dropped may still be done. Nothing
/// waits without bound: a database that is away is an error after a time.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// What it is. What a server's settings decide is known once [`Backend::open`] has returned.
    fn info(&self) -> BackendInfo;

    /// Creates the declared tables, or adds the columns and indexes that are new in them, and returns the generation: a number
    /// that a database has from its creation, and that changes when synced commits may have been lost. Called once, before
    /// anything else.
    ///
    /// # Errors
    ///
    /// [`Misuse`](BackendErrorKind::Misuse): the schema breaks a rule, or a table in the database has a later version, or lost
    /// or changed a column. Nothing was changed then.
    async fn open(&self, schema: &Schema) -> BackendResult<u64>;

    /// Answers questions, all from one snapshot that has every commit answered before the call, in their order.
    ///
    /// # Errors
    ///
    /// None was answered. [`Corrupt`](BackendErrorKind::Corrupt) if one of the records read is damaged.
    async fn read(&self, reads: Vec<Read>) -> BackendResult<Vec<Found>>;

    /// Makes commits, in their order where it matters, each by itself all or nothing; answers in their order. They may share a
    /// transaction of the database; what fails one alone leaves the others as they are.
    ///
    /// An answer comes when the commit has what its [`SyncLevel`] asks for. No reader sees a commit before that.
    async fn commit(&self, commits: Vec<Commit>) -> Vec<BackendResult<Answer>>;

    /// Writes what is left, and closes. Later calls fail with [`Closed`](BackendErrorKind::Closed). Calling it again does
    /// nothing.
    ///
    /// # Errors
    ///
    /// It could not be closed well; it is closed all the same.
    async fn close(&self) -> BackendResult<()>;
}

//! What a database with ordered keys implements.

use std::ops::{ControlFlow, Range};

use crate::backend::{BackendResult, Way};
use crate::ports::Durability;

/// A key: up to 2 KiB.
pub type Key = Vec<u8>;
/// A value: as large as the largest content, and some more.
pub type Value = Vec<u8>;

/// Receives rows one by one; breaks off when it has enough.
pub type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// What a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// A short name for logs.
    pub name: &'static str,
    /// What a batch survives after [`Database::flush`].
    pub durability: Durability,
    /// Whether nobody else writes to it while it is open. If others may, [`Database::snapshot`] must give snapshots.
    pub exclusive: bool,
    /// Whether [`Database::snapshot`] gives snapshots.
    pub snapshots: bool,
    /// Whether its methods return at once: they are then called where they must not block.
    pub immediate: bool,
}

/// Reading: rows of bytes in the order of their keys' bytes.
pub trait Rows {
    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// The database's.
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>>;

    /// Shows `each` the rows with keys in `range`, which may be empty, until it breaks off.
    ///
    /// # Errors
    ///
    /// The database's.
    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()>;
}

/// Changes that are made all together, on condition that nothing checked has changed.
#[derive(Debug, Clone, Default)]
pub struct WriteBatch {
    /// Keys that must have these values, or none. Empty where nobody else writes.
    pub checks: Vec<(Key, Option<Value>)>,
    /// Values to put under keys, and keys to remove, each key once, in the order of the keys.
    pub changes: Vec<(Key, Option<Value>)>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// All changes were made.
    Applied,
    /// A check did not hold. Nothing was written.
    Changed,
}

/// A database with ordered keys. Its methods may block, and may be called from several threads at once, but for
/// [`Database::write`], which is called from one at a time.
///
/// [`Rows`] read what has been written; they need not be of one moment, and may see a batch half made. Whoever has
/// snapshots of their own offers them by [`Database::snapshot`]; for others the backend keeps the old values of what
/// changes, as long as a reader needs them.
pub trait Database: Rows + Send + Sync + 'static {
    /// What it is.
    fn info(&self) -> DatabaseInfo;

    /// Everything that is written by now, at one moment, for as long as it is held. `None`: it has no snapshots. What is
    /// written and not flushed must not be among it.
    ///
    /// # Errors
    ///
    /// The database's.
    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        Ok(None)
    }

    /// Makes a batch, all or nothing. When it returns, the changes survive the end of the process, if the database is one
    /// that survives it.
    ///
    /// # Errors
    ///
    /// Nothing was written, or, for [`InDoubt`](crate::backend::BackendErrorKind::InDoubt), that is not known. After any of
    /// them the next call starts again: what an error has spoilt, a handle that will do no more, say, is mended first.
    fn write(&self, batch: &WriteBatch) -> BackendResult<Written>;

    /// Returns when everything written before the call has the durability that [`Database::info`] states. Called beside
    /// other methods. A database whose `write` does that already has nothing to do.
    ///
    /// # Errors
    ///
    /// What was not flushed yet is in doubt.
    fn flush(&self) -> BackendResult<()> {
        Ok(())
    }

    /// Closes it, when nobody reads or writes any more. Called once.
    ///
    /// # Errors
    ///
    /// It could not be closed well.
    fn close(&self) -> BackendResult<()>;
}

//! What an adapter implements.

use std::ops::{ControlFlow, Range};

use crate::ports::{Durability, StoreResult};

/// From which end a range is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In the order of the keys.
    Forwards,
    /// From the last key to the first.
    Backwards,
}

/// Whether a walk through rows goes on.
pub type Step = StoreResult<ControlFlow<()>>;

/// What one transaction sees: rows of bytes in the order of their keys' bytes, all of one moment.
pub trait Rows {
    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// The database could not say.
    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>>;

    /// Shows `each` the rows with keys in `range`, which may be empty, until it breaks off.
    ///
    /// # Errors
    ///
    /// The database's, and those of `each`.
    fn walk(
        &self,
        range: Range<&[u8]>,
        way: Way,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> StoreResult<()>;
}

/// What one transaction writes. It reads what it has written.
pub trait RowsMut: Rows {
    /// Puts `value` under `key`, in place of what stood there.
    ///
    /// # Errors
    ///
    /// The database could not do it; the transaction is then given up.
    fn put(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()>;

    /// Removes what stands under `key`, if anything does.
    ///
    /// # Errors
    ///
    /// As in [`RowsMut::put`].
    fn remove(&mut self, key: &[u8]) -> StoreResult<()>;
}

/// A database with ordered keys and transactions.
///
/// All of its methods may block: they are called on threads that may wait. Keys have up to a few hundred bytes, values as
/// many as the largest content and some more.
pub trait Database: Send + Sync + 'static {
    /// See [`Store::name`](crate::ports::Store::name).
    fn name(&self) -> &'static str;

    /// What a commit has survived when it returns: see [`Store::durability`](crate::ports::Store::durability).
    fn durability(&self) -> Durability;

    /// Shows `look` everything that is committed by now, at one moment. Any number at the same time, and beside a commit.
    ///
    /// # Errors
    ///
    /// The database's; `look` was not called then. [`Closed`](crate::ports::StoreErrorKind::Closed) after
    /// [`Database::close`].
    fn read(&self, look: &mut dyn FnMut(&dyn Rows)) -> StoreResult<()>;

    /// Has `work` write into a transaction, and commits it. If `work` fails nothing is written and its error is
    /// returned. One at a time, from a thread of its own.
    ///
    /// # Errors
    ///
    /// Those of `work` and the database's: of the kind [`Unknown`](crate::ports::StoreErrorKind::Unknown) if it may have
    /// been committed all the same. After any of them the next call begins anew: what an error has spoilt, a handle
    /// that will do no more, say, is mended first.
    fn write(&self, work: &mut dyn FnMut(&mut dyn RowsMut) -> StoreResult<()>) -> StoreResult<()>;

    /// Closes it, once those who read have ended; nobody writes any more. Called once.
    ///
    /// # Errors
    ///
    /// It could not be closed well.
    fn close(&self) -> StoreResult<()>;
}

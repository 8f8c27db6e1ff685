//! Transactions, and what redb's errors mean.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::keyed::{Database, Rows, RowsMut};
use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::ReadableDatabase;

use crate::file;
use crate::rows::{ROWS, Seen};

/// A file of redb's, held open until it is closed.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    /// Shared by whoever has a transaction open. `None` once it was closed, and while it cannot be opened.
    open: RwLock<Option<redb::Database>>,
    closed: AtomicBool,
    /// There was an error of the disk. redb does nothing more then: whoever comes next opens it anew.
    failed: AtomicBool,
    /// It may have been a sync's: the file is mended before.
    doubtful: AtomicBool,
}

impl Redb {
    pub(crate) fn open(path: PathBuf) -> StoreResult<Self> {
        let (closed, failed, doubtful) = (false.into(), true.into(), false.into());
        let redb = Self { path, open: RwLock::new(None), closed, failed, doubtful };
        drop(redb.database()?);
        Ok(redb)
    }

    /// redb's database, for one transaction.
    fn database(&self) -> StoreResult<MappedRwLockReadGuard<'_, redb::Database>> {
        if self.failed.load(Ordering::Acquire) {
            // Waits for the transactions that are still open.
            let mut open = self.open.write();
            if self.failed.load(Ordering::Acquire) && !self.closed.load(Ordering::Acquire) {
                // Only once the one before is gone can there be another.
                *open = None;
                if self.doubtful.load(Ordering::Acquire) {
                    file::doubt(&self.path).map_err(|e| self.failed(redb::Error::Io(e)))?;
                }
                *open = Some(file::open(&self.path).map_err(|e| self.doubtful(e))?);
                self.doubtful.store(false, Ordering::Release);
                self.failed.store(false, Ordering::Release);
            }
        }
        RwLockReadGuard::try_map(self.open.read(), Option::as_ref)
            .map_err(|_| StoreError::new(StoreErrorKind::Closed, "the store was closed"))
    }

    /// An error before the commit: nothing was written, and nothing has to be known of the file.
    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        self.failed.store(true, Ordering::Release);
        let kind = match &error {
            redb::Error::Corrupted(_) => StoreErrorKind::Corrupt,
            redb::Error::Io(e) if e.kind() == ErrorKind::StorageFull => StoreErrorKind::Full,
            _ => StoreErrorKind::Unavailable,
        };
        tracing::warn!(path = %self.path.display(), %error, ?kind, "the store's file has failed");
        StoreError::new(kind, format!("{}: {error}", self.path.display())).because(error)
    }

    /// An error that may be a sync's.
    fn doubtful(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        // What is open elsewhere is not ours to judge.
        if !matches!(error, redb::Error::DatabaseAlreadyOpen) {
            self.doubtful.store(true, Ordering::Release);
            // At once, so that another process knows it too. If that fails, this one tries it again.
            let _ = file::doubt(&self.path);
        }
        self.failed(error)
    }
}

impl Database for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn durability(&self) -> Durability {
        Durability::PowerLoss
    }

    fn read(&self, look: &mut dyn FnMut(&dyn Rows)) -> StoreResult<()> {
        let database = self.database()?;
        let txn = database.begin_read().map_err(|e| self.failed(e))?;
        let table = txn.open_table(ROWS).map_err(|e| self.failed(e))?;
        look(&Seen { table, redb: self });
        Ok(())
    }

    fn write(&self, work: &mut dyn FnMut(&mut dyn RowsMut) -> StoreResult<()>) -> StoreResult<()> {
        let database = self.database()?;
        let mut txn = database.begin_write().map_err(|e| self.failed(e))?;
        // The default, said here because everything rests on it.
        txn.set_durability(redb::Durability::Immediate).map_err(|e| self.failed(e))?;
        let table = txn.open_table(ROWS).map_err(|e| self.failed(e))?;
        // What fails here drops the transaction, and with it all that was written.
        work(&mut Seen { table, redb: self })?;
        txn.commit().map_err(|error| {
            let error = self.doubtful(error);
            StoreError::new(StoreErrorKind::Unknown, error.to_string()).because(error)
        })
    }

    fn close(&self) -> StoreResult<()> {
        let mut open = self.open.write();
        self.closed.store(true, Ordering::Release);
        open.take().map_or(Ok(()), |database| database.close().map_err(|e| self.doubtful(e)))
    }
}

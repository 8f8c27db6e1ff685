//! Snapshots and batches, and what redb's errors mean.

use std::io::ErrorKind;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::backend::{BackendError, BackendErrorKind, BackendResult, Way};
use im_core::kv::{Database, DatabaseInfo, Each, Rows, Value, WriteBatch, Written};
use im_core::ports::Durability;
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::ReadableDatabase;

use crate::file;
use crate::rows::{ROWS, Snapshot};

/// A file of redb's, held open until it is closed.
#[derive(Debug)]
pub struct Redb {
    path: PathBuf,
    /// Locked for reading by each transaction. `None` once it was closed, and while it cannot be opened.
    open: RwLock<Option<redb::Database>>,
    /// There was an error of the disk. redb refuses everything then: the next transaction opens the file again.
    failed: AtomicBool,
    /// The error may have been a sync's: the file is mended before.
    doubtful: AtomicBool,
}

impl Redb {
    pub(crate) fn open(path: PathBuf) -> BackendResult<Self> {
        let (failed, doubtful) = (true.into(), false.into());
        let redb = Self { path, open: RwLock::new(None), failed, doubtful };
        drop(redb.database()?);
        Ok(redb)
    }

    /// redb's database, for one transaction.
    fn database(&self) -> BackendResult<MappedRwLockReadGuard<'_, redb::Database>> {
        if self.failed.load(Ordering::Acquire) {
            // Waits for the transactions that are still open.
            let mut open = self.open.write();
            if self.failed.load(Ordering::Acquire) {
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
            .map_err(|_| BackendError::closed())
    }

    /// All rows of this moment.
    fn now(&self) -> BackendResult<Snapshot<'_>> {
        let database = self.database()?;
        let txn = database.begin_read().map_err(|e| self.failed(e))?;
        let table = txn.open_table(ROWS).map_err(|e| self.failed(e))?;
        Ok(Snapshot { table, redb: self, _open: database })
    }

    /// An error before the commit: nothing was written, and nothing has to be known of the file.
    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> BackendError {
        let error = error.into();
        self.failed.store(true, Ordering::Release);
        let kind = match &error {
            redb::Error::Corrupted(_) => BackendErrorKind::Corrupt,
            redb::Error::Io(e) if e.kind() == ErrorKind::StorageFull => BackendErrorKind::Full,
            _ => BackendErrorKind::Unavailable,
        };
        tracing::warn!(path = %self.path.display(), %error, ?kind, "the database file has failed");
        BackendError::new(kind, format!("{}: {error}", self.path.display())).because(error)
    }

    /// An error that may be a sync's.
    fn doubtful(&self, error: impl Into<redb::Error>) -> BackendError {
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

impl Rows for Redb {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        self.now()?.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        self.now()?.scan(range, way, each)
    }
}

impl Database for Redb {
    fn info(&self) -> DatabaseInfo {
        let (name, durability) = ("redb", Durability::PowerLoss);
        DatabaseInfo { name, durability, exclusive: true, snapshots: true, immediate: false }
    }

    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        Ok(Some(Box::new(self.now()?)))
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        let database = self.database()?;
        let mut txn = database.begin_write().map_err(|e| self.failed(e))?;
        // The default, said here because everything rests on it.
        txn.set_durability(redb::Durability::Immediate).map_err(|e| self.failed(e))?;
        let mut table = txn.open_table(ROWS).map_err(|e| self.failed(e))?;
        // An error drops the transaction, and with it all that was written.
        for (key, value) in &batch.changes {
            let changed = match value {
                Some(value) => table.insert(key.as_slice(), value.as_slice()),
                None => table.remove(key.as_slice()),
            };
            changed.map_err(|e| self.failed(e))?;
        }
        drop(table);
        txn.commit().map_err(|error| {
            let error = self.doubtful(error);
            BackendError::new(BackendErrorKind::InDoubt, error.to_string()).because(error)
        })?;
        Ok(Written::Applied)
    }

    fn close(&self) -> BackendResult<()> {
        let database = self.open.write().take();
        database.map_or(Ok(()), |database| database.close().map_err(|e| self.doubtful(e)))
    }
}

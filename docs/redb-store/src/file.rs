//! The file, opened anew after an error, and what redb's errors mean.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::keyed::Look;
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};
use redb::{Database, ReadableDatabase};

use crate::rows::{ROWS, Seen};

/// The file, held open until it is closed.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    /// Shared by whoever has a transaction open.
    state: RwLock<State>,
    /// There was an error of the disk. redb does nothing more with such a file: what it has in memory may not be what is
    /// on the disk. Whoever comes next opens it anew.
    suspect: AtomicBool,
}

#[derive(Debug)]
enum State {
    Open(Database),
    /// It could not be opened anew yet.
    Lost,
    Closed,
}

impl State {
    fn database(&self) -> Option<&Database> {
        if let Self::Open(database) = self { Some(database) } else { None }
    }
}

impl File {
    /// Opens it, or makes one.
    pub(crate) fn open(path: PathBuf) -> StoreResult<Self> {
        let suspect = AtomicBool::new(false);
        let file = Self { path, state: RwLock::new(State::Lost), suspect };
        let database = Database::create(&file.path).map_err(|e| file.failed(e))?;
        sync_name(&file.path).map_err(|e| file.failed(redb::Error::Io(e)))?;
        *file.state.write() = State::Open(database);
        Ok(file)
    }

    /// The database, for one transaction. May block: not to be called by a task.
    pub(crate) fn database(&self) -> StoreResult<MappedRwLockReadGuard<'_, Database>> {
        if self.suspect.load(Ordering::Acquire) {
            self.open_anew()?;
        }
        RwLockReadGuard::try_map(self.state.read(), State::database)
            .map_err(|_| StoreError::new(StoreErrorKind::Closed, "the store was closed"))
    }

    fn open_anew(&self) -> StoreResult<()> {
        // Waits for the transactions that are still open.
        let mut state = self.state.write();
        if matches!(*state, State::Closed) || !self.suspect.load(Ordering::Acquire) {
            return Ok(());
        }
        // Only once this one is gone can there be another.
        *state = State::Lost;
        *state = State::Open(Database::create(&self.path).map_err(|e| self.failed(e))?);
        self.suspect.store(false, Ordering::Release);
        tracing::info!(path = %self.path.display(), "opened anew after an error");
        Ok(())
    }

    /// Has a look at everything that is committed by now. May block.
    pub(crate) fn look(&self, look: Look) {
        let seen = self.database().and_then(|database| {
            let txn = database.begin_read().map_err(|e| self.failed(e))?;
            let table = txn.open_table(ROWS).map_err(|e| self.failed(e))?;
            Ok((Seen { table, file: self }, database))
        });
        match seen {
            Ok((ref rows, _)) => look.at(Ok(rows)),
            Err(error) => look.at(Err(error)),
        }
    }

    /// Waits for the transactions that are open, and closes it.
    pub(crate) fn close(&self) -> StoreResult<()> {
        match std::mem::replace(&mut *self.state.write(), State::Closed) {
            State::Open(database) => database.close().map_err(|e| self.failed(e)),
            State::Lost | State::Closed => Ok(()),
        }
    }

    /// What an error means that comes before the commit: nothing was written.
    pub(crate) fn failed(&self, error: impl Into<redb::Error>) -> StoreError {
        let error = error.into();
        let kind = match &error {
            redb::Error::Corrupted(_) => StoreErrorKind::Corrupt,
            redb::Error::Io(e) if e.kind() == io::ErrorKind::StorageFull => StoreErrorKind::Full,
            _ => StoreErrorKind::Unavailable,
        };
        self.failed_as(kind, error)
    }

    pub(crate) fn failed_as(&self, kind: StoreErrorKind, error: redb::Error) -> StoreError {
        self.suspect.store(true, Ordering::Release);
        tracing::warn!(path = %self.path.display(), %error, ?kind, "the store's file has failed");
        StoreError::new(kind, format!("{}: {error}", self.path.display())).because(error)
    }
}

/// A new file's name is kept by its folder, which redb does not sync.
fn sync_name(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

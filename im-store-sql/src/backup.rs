//! A copy of an SQLite store that is in use.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::id::new_generation;
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, Sqlite, SqliteConnection};

use crate::error::{Fault, Outcome, closed};
use crate::link::Link;
use crate::migrate::{GENERATION, STATE_GENERATION};
use crate::statement::Statement;
use crate::store::SqlStore;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The file: open it like any other store.
    pub path: PathBuf,
    /// Rooms in it.
    pub rooms: u64,
    /// What it takes on the disk.
    pub bytes: u64,
}

impl SqlStore<Sqlite> {
    /// Copies the whole database, tables of the embedder's own included, into the file `to`, which must not be there,
    /// while the store is in use. The copy is the database as it was at one moment, after the call and before it returns. It
    /// was checked (`PRAGMA integrity_check`), and it is on the disk: `to` is there when all of that is done, and not before.
    ///
    /// To restore it, put the file in the place of the old one (and remove that one's `-wal` and `-shm` beside it), or open
    /// it where it is. Rooms and state have a generation of their own in it, since the store that it was copied from has gone
    /// on, and clients start their rooms anew.
    ///
    /// Writes go on meanwhile. They gather in the `-wal` file, which cannot be begun anew before the copy is made: there
    /// should be room on the disk for the copy, and for what is written meanwhile.
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is something at `to`, if the copy cannot be written, or if a commit fails meanwhile; `Full` if the device has no room for
    /// it; `Corrupt` if the copy, and so most likely the database, is damaged. What was written of it is removed. A process
    /// that is killed meanwhile leaves a file beside `to` whose name ends in `.partial`.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> StoreResult<Backup> {
        if self.is_closed() {
            return Err(closed());
        }
        let to = to.into();
        // SQLite makes something else of some names, such as `file:…`, unless they are absolute.
        let to = std::path::absolute(&to).map_err(|e| file("write to", &to, e))?;
        if to.try_exists().map_err(|e| file("look for", &to, e))? {
            let message = format!("{} is there already: choose another name", to.display());
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
        // No two of them meet in one file.
        let mut partial = to.clone().into_os_string();
        partial.push(format!(".{:x}.partial", new_generation()));
        let partial = PathBuf::from(partial);
        let done = self.copy(&partial, &to).await;
        if done.is_err() {
            // It may not be there, and the failure is what matters.
            let _ = std::fs::remove_file(&partial);
        }
        done
    }

    async fn copy(&self, partial: &Path, to: &Path) -> StoreResult<Backup> {
        let failed = |fault: Fault| fault.into_error::<Sqlite>();
        // A connection of its own, so that it takes no reader's place.
        let source = self.readers.connect_options();
        vacuum(&source, partial, Arc::clone(&self.urgent)).await.map_err(failed)?;
        let rooms = renew(partial).await.map_err(failed)?;
        let (from, path) = (partial.to_owned(), to.to_owned());
        let moved = tokio::task::spawn_blocking(move || {
            keep(&from, &path).map_err(|e| file("finish the copy", &path, e))
        });
        let bytes = moved.await.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "the backup was stopped").because(error)
        })??;
        Ok(Backup { path: to.to_owned(), rooms, bytes })
    }
}

/// Copies the database as it is at one moment.
async fn vacuum(source: &SqliteConnectOptions, to: &Path, urgent: Arc<AtomicBool>) -> Outcome<()> {
    let name = to.to_str().ok_or_else(|| {
        Fault::Unfit("the backup's name is not UTF-8, which SQLite needs".to_owned())
    })?;
    let mut conn = SqliteConnection::connect_with(source).await?;
    // The writer may not go on while it reads, if a commit has failed.
    let goes_on = {
        let urgent = Arc::clone(&urgent);
        move || !urgent.load(Ordering::Relaxed)
    };
    conn.lock_handle().await?.set_progress_handler(STEPS, goes_on);
    let vacuum = Statement::<Sqlite>::new("VACUUM INTO ").text(name);
    let done = Link::<Sqlite>(&mut conn).run(vacuum).await;
    conn.close().await?;
    match done {
        Err(_) if urgent.load(Ordering::Relaxed) => {
            let why = "a commit failed meanwhile, and the database is put in order first: make the backup again";
            Err(Fault::Unfit(why.to_owned()))
        }
        done => done.map(|_| ()),
    }
}

/// Steps of SQLite's machine after which it is asked whether it may go on: well below a millisecond.
const STEPS: i32 = 10_000;

/// Checks a copy and begins new generations in it. Says how many rooms it has.
async fn renew(copy: &Path) -> Outcome<u64> {
    let options = SqliteConnectOptions::new()
        .filename(copy)
        .journal_mode(SqliteJournalMode::Delete)
        .synchronous(SqliteSynchronous::Full);
    let mut conn = SqliteConnection::connect_with(&options).await?;
    check(&mut Link(&mut conn)).await?;
    let mut tx = conn.begin().await?;
    let rooms = begin_generation(&mut Link(&mut *tx)).await?;
    tx.commit().await?;
    conn.close().await?;
    Ok(rooms)
}

async fn check(link: &mut Link<'_, Sqlite>) -> Outcome<()> {
    let check = Statement::new("PRAGMA integrity_check(10)");
    let words = link.all(check, |row| row.text()).await?;
    if words == ["ok"] {
        return Ok(());
    }
    tracing::error!(store = "sqlite", first_lines = words.join("; "), "the copy is damaged");
    Err(Fault::Damaged("database, as PRAGMA integrity_check says,"))
}

async fn begin_generation(link: &mut Link<'_, Sqlite>) -> Outcome<u64> {
    let generation = new_generation();
    for (name, value) in [(GENERATION, generation), (STATE_GENERATION, new_generation())] {
        let update = Statement::new("UPDATE im_numbers SET value = ").int(value);
        link.run(update.sql(" WHERE name = ").text(name)).await?;
    }
    for table in ["im_rooms", "im_imports"] {
        let update = Statement::new(&format!("UPDATE {table} SET generation = "));
        link.run(update.int(generation)).await?;
    }
    // It is not to be taken for the store that it was copied from, moved.
    link.run(Statement::new("DELETE FROM im_place")).await?;
    // They write to the store that it was copied from; the new generation says that they may have had more.
    link.run(Statement::new("DELETE FROM im_state_writers")).await?;
    let rooms = Statement::new("SELECT COUNT(*) FROM im_rooms");
    Ok(link.first(rooms, |row| row.int()).await?.unwrap_or(0))
}

/// Brings a copy to the disk, and gives it its name.
fn keep(partial: &Path, to: &Path) -> std::io::Result<u64> {
    let copy = File::open(partial)?;
    copy.sync_all()?;
    std::fs::rename(partial, to)?;
    #[cfg(unix)]
    {
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(copy.metadata()?.len())
}

fn file(what: &str, path: &Path, error: std::io::Error) -> StoreError {
    let full = error.kind() == std::io::ErrorKind::StorageFull;
    let kind = if full { StoreErrorKind::Full } else { StoreErrorKind::Unavailable };
    StoreError::new(kind, format!("cannot {what} {}: {error}", path.display())).because(error)
}

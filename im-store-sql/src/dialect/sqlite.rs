//! SQLite: a file, written by one connection at a time.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{SqlSafeStr, Sqlite};

use super::{Dialect, Found, Lookup, excluded, sealed};
use crate::config::SqlConfig;
use crate::error::{Class, Fault};
use crate::migrate::Migration;

impl sealed::Sealed for Sqlite {}

impl Dialect for Sqlite {
    const SHORT: &'static str = "sqlite";
    const BEGIN: &'static str = "BEGIN IMMEDIATE";
    // Without a copy of each page before the statement (<https://www.sqlite.org/lang_conflict.html>).
    const INSERT: &'static str = "INSERT OR FAIL";
    const FOR_UPDATE: &'static str = "";
    const LOOKUP: Lookup = Lookup::Join;
    const LOCK_MIGRATIONS: &'static str = "";
    const UNLOCK_MIGRATIONS: &'static str = "";
    const MIGRATIONS: &'static [Migration] = &[Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../migrations/sqlite/0001_initial.sql"),
    }];

    fn placeholder(out: &mut String, _n: usize) {
        out.push('?');
    }

    fn on_conflict(keys: &str, set: &[&str]) -> String {
        excluded(keys, set)
    }

    /// Primary result codes: <https://www.sqlite.org/rescode.html>.
    fn class(error: &dyn DatabaseError) -> Class {
        let code = error.code().and_then(|code| code.parse::<u32>().ok()).unwrap_or_default();
        match code & 0xff {
            // BUSY, LOCKED.
            5 | 6 => Class::Contended,
            // CONSTRAINT.
            19 => Class::Taken,
            13 => Class::Full,
            // CORRUPT, NOTADB.
            11 | 26 => Class::Corrupt,
            // READONLY, IOERR, CANTOPEN.
            8 | 10 | 14 => Class::Away,
            _ => Class::Failed,
        }
    }

    const ONE_WRITER: bool = true;

    /// WAL with `synchronous=FULL`: the log is synced at every commit, and before it is written back. NORMAL would lose
    /// what was committed last when the power goes (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
    fn options(config: &SqlConfig) -> Result<SqliteConnectOptions, sqlx::Error> {
        Ok(SqliteConnectOptions::from_str(&config.url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(512)
            .pragma("cache_size", format!("-{}", config.cache_bytes / 1024))
            .pragma("mmap_size", "0")
            .pragma("temp_store", "MEMORY")
            .pragma("wal_autocheckpoint", "8000")
            .pragma("journal_size_limit", (64_u64 << 20).to_string()))
    }

    /// A file beside the database is locked as long as the store is open: two engines on one file would not hear of each
    /// other. Other programs may read the database, and write their own tables in it.
    fn take(config: &SqlConfig) -> StoreResult<Option<File>> {
        let options = Self::options(config).map_err(|e| Fault::from(e).into_error::<Self>())?;
        lock(options.get_filename()).map(Some)
    }

    /// A sync that failed says nothing when it is tried again: the system may hold pages that it takes for written and that
    /// are not. So all that is in the log is copied to the database itself, which is then synced for the first time.
    async fn recover(conn: &mut Self::Connection) -> Result<(), sqlx::Error> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)".into_sql_str();
        let (busy, ..): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(conn).await?;
        if busy == 0 {
            Ok(())
        } else {
            let why =
                "the database could not be checkpointed after a failed commit: it is being read";
            Err(sqlx::Error::Io(std::io::Error::other(why)))
        }
    }

    /// <https://www.sqlite.org/pragma.html#pragma_data_version>. A transaction that writes keeps others from committing.
    async fn others_writes(conn: &mut Self::Connection) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version".into_sql_str()).fetch_one(conn).await.map(Some)
    }

    async fn inspect(_conn: &mut Self::Connection) -> Result<Found, sqlx::Error> {
        Ok(Found { durability: Durability::PowerLoss, weak: Vec::new() })
    }

    super::driver!();
}

fn lock(path: &Path) -> StoreResult<File> {
    let fail = |what: &str, error: std::io::Error| {
        let message = format!("cannot {what} {}: {error}", path.display());
        StoreError::new(StoreErrorKind::Unavailable, message).because(error)
    };
    make_folder(path).map_err(|e| fail("make the folder of", e))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(name).map_err(|e| fail("open the lock of", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let message = format!(
                "the database {} is in use by another process, or opened twice: stop the other one, or choose another \
                 file",
                path.display()
            );
            Err(StoreError::new(StoreErrorKind::Unavailable, message))
        }
        Err(TryLockError::Error(error)) => Err(fail("lock", error)),
    }
}

/// Makes the folder of a file, and those above it that are not there, so that their names last: SQLite syncs the names in
/// the database's own folder and no others.
fn make_folder(file: &Path) -> std::io::Result<()> {
    let file = std::path::absolute(file)?;
    let Some(folder) = file.parent() else { return Ok(()) };
    // The names of those that were there are no matter of ours, but for the last: it may have been made by a process
    // that was killed before it came to sync its name.
    let made = folder.ancestors().skip(1).take_while(|above| !above.exists()).count();
    std::fs::create_dir_all(folder)?;
    for above in folder.ancestors().skip(1).take(made + 1) {
        match File::open(above).and_then(|above| above.sync_all()) {
            // It cannot be opened for reading. A name that was there before us has long been kept.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

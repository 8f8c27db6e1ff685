//! SQLite: a file, written by one connection at a time.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, Sqlite};

use super::{Dialect, Found, Lock, Lookup, excluded, sealed};
use crate::config::{Place, SqlConfig};
use crate::error::{Class, Fault, Outcome};
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
            // BUSY, after the time that it waits.
            5 if code == 5 => Class::Locked,
            // BUSY at once, LOCKED.
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
    const RUNS: bool = true;

    /// WAL with `synchronous=FULL`: the log is synced at every commit, and before it is written back. NORMAL would lose
    /// what was committed last when the power goes (<https://www.sqlite.org/pragma.html#pragma_synchronous>).
    fn options(config: &SqlConfig) -> Outcome<SqliteConnectOptions> {
        Ok(named(config)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(config.lock_wait)
            .statement_cache_capacity(512)
            .pragma("cache_size", format!("-{}", config.cache_bytes / 1024))
            .pragma("mmap_size", "0")
            .pragma("temp_store", "MEMORY")
            .pragma("wal_autocheckpoint", "8000")
            .pragma("journal_size_limit", (64_u64 << 20).to_string()))
    }

    /// A file beside the database is locked as long as the store is open: two engines on one file would not hear of each
    /// other. Other programs may read the database, and write their own tables in it.
    fn take(config: &SqlConfig) -> StoreResult<Option<Lock>> {
        let options = named(config).map_err(Fault::into_error::<Self>)?;
        lock(options.get_filename()).map(Some)
    }

    /// A log with something in it: whoever closed the database last in good order has taken its log away.
    fn is_left_behind(config: &SqlConfig) -> bool {
        let Ok(options) = named(config) else { return false };
        let mut log = options.get_filename().as_os_str().to_owned();
        log.push("-wal");
        std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
    }

    /// Of frames whose sync failed, the system may hold pages that it takes for written and that are not: to sync the log again
    /// says nothing. As long as any connection is open they lie beyond the log's end (`mxFrame` in SQLite's `wal.c`), and the
    /// next commit overwrites them. But whoever opens the database next reads the log anew, from the system's memory, and takes
    /// them for committed. What is committed behind them is synced, and yet lost with the power: a log is read up to the first
    /// frame that is not whole. So none of them may stay in the log, and nothing may be added to it.
    ///
    /// A checkpoint copies all that is in the log to the database itself and syncs that, for the first time. Only `RESTART` and
    /// `TRUNCATE` say whether it was all, and that nobody reads the log any more; else the next commit would be added behind
    /// its end (`walRestartLog`). That is why readers are in the way. `TRUNCATE` does not sync what it cuts off, and an old log
    /// that came back with the power would hide newer pages: a commit of no content follows, which syncs the new one.
    async fn recover(conn: &mut Self::Connection) -> Outcome<()> {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)".into_sql_str();
        let (busy, ..): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&mut *conn).await?;
        if busy != 0 {
            let why = "the log that a failed commit or an earlier process has left must be written to the database first, \
                       and somebody is reading from it: end what reads or copies the database for long, and try again";
            return Err(Fault::Database(sqlx::Error::Io(std::io::Error::other(why))));
        }
        let mut tx = conn.begin_with(Self::BEGIN.into_sql_str()).await?;
        // The embedder's, and left as it is.
        let sql = "PRAGMA user_version".into_sql_str();
        let version: i64 = sqlx::query_scalar(sql).fetch_one(&mut *tx).await?;
        let sql = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
        Self::execute_text(&mut tx, sql.into_sql_str()).await?;
        Ok(tx.commit().await?)
    }

    /// <https://www.sqlite.org/pragma.html#pragma_data_version>. A transaction that writes keeps others from committing.
    async fn others_writes(conn: &mut Self::Connection) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar("PRAGMA data_version".into_sql_str()).fetch_one(conn).await.map(Some)
    }

    /// What was asked for may not be what there is: WAL needs memory that processes share, which not every file system has.
    async fn inspect(conn: &mut Self::Connection) -> Outcome<Found> {
        let sql = "PRAGMA journal_mode".into_sql_str();
        let journal: String = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        let sql = "PRAGMA synchronous".into_sql_str();
        let sync: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        if journal == "memory" {
            return Err(Fault::Unfit(NO_FILE.to_owned()));
        }
        let (mut durability, mut weak) = (Durability::PowerLoss, Vec::new());
        if journal != "wal" {
            durability = Durability::ProcessCrash;
            weak.push(format!(
                "journal_mode is {journal}, since the file system has no place for a WAL: what was committed last may be \
                 rolled back when the power goes, and readers and the writer wait for each other. Move the database to a \
                 local file system"
            ));
        }
        if sync < FULL {
            durability = durability.min(Durability::ProcessCrash);
            weak.push(format!(
                "synchronous is {sync}: what was committed last may be lost when the power goes. It should be {FULL} (FULL)"
            ));
        }
        Ok(Found { durability, weak })
    }

    super::driver!();
}

/// `synchronous`, as the pragma gives it.
const FULL: i64 = 2;

const NO_FILE: &str = "a store needs a file: it has several connections, and each would see a database of its own in memory. Give a path";

/// The file that `config` names, and how to open it.
fn named(config: &SqlConfig) -> Outcome<SqliteConnectOptions> {
    let options = match &config.place {
        Place::Url(url) => SqliteConnectOptions::from_str(url)?,
        Place::File(path) => SqliteConnectOptions::new().filename(literal(path)?),
    };
    let name = options.get_filename();
    // SQLite makes an address of a name that begins like this, and the driver one of `:memory:`.
    if name.as_os_str().is_empty() || name.as_os_str().as_encoded_bytes().starts_with(b"file:") {
        return Err(Fault::Unfit(format!("{NO_FILE}, without `file:` before it")));
    }
    Ok(options)
}

/// A path that means nothing but itself: an absolute one.
fn literal(path: &Path) -> Outcome<PathBuf> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(Fault::Unfit(NO_FILE.to_owned()));
    }
    if path.to_str().is_none() {
        let path = path.display();
        let words = format!("the path {path} is not UTF-8, which the driver of SQLite needs");
        return Err(Fault::Unfit(words));
    }
    std::path::absolute(path).map_err(|error| Fault::Database(error.into()))
}

fn lock(path: &Path) -> StoreResult<Lock> {
    let fail = |what: &str, error: std::io::Error| {
        let message = format!("cannot {what} {}: {error}", path.display());
        StoreError::new(StoreErrorKind::Unavailable, message).because(error)
    };
    make_folder(path).map_err(|e| fail("make the folder of", e))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = File::create(name).map_err(|e| fail("open the lock of", e))?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
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

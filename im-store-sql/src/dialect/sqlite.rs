//! SQLite: a file, written by one connection at a time.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use im_core::ports::{Durability, StoreResult};
use sqlx::error::DatabaseError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection, SqlSafeStr, Sqlite, SqliteConnection};

use super::{Dialect, Found, Lookup, excluded, sealed};
use crate::config::{DatabaseAddress, SqlConfig};
use crate::error::{Class, Fault, Outcome};
use crate::file::{Lock, beside, resolve};
use crate::link::Link;
use crate::migrate::Migration;
use crate::statement::Statement;

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
    const MIGRATIONS: &'static [Migration] = &[
        Migration {
            version: 1,
            name: "initial",
            sql: include_str!("../migrations/sqlite/0001_initial.sql"),
        },
        Migration {
            version: 2,
            name: "place",
            sql: include_str!("../migrations/sqlite/0002_place.sql"),
        },
    ];

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

    /// Whoever has moved the file away must not find an empty one in its place.
    fn again(options: SqliteConnectOptions) -> SqliteConnectOptions {
        options.create_if_missing(false)
    }

    /// A file beside the database is locked as long as the store is open: two engines on one file would not hear of each
    /// other. Other programs may read the database, and write their own tables in it.
    fn take(config: &SqlConfig) -> StoreResult<Option<Lock>> {
        let options = named(config).map_err(Fault::into_error::<Self>)?;
        Lock::take(options.get_filename()).map(Some)
    }

    async fn recognise(conn: &mut Self::Connection, lock: Option<&Lock>) -> Outcome<()> {
        match (lock, place(conn).await?) {
            (Some(lock), Some(last)) => lock.may_follow(Path::new(&last)),
            _ => Ok(()),
        }
    }

    /// In the database's own file, and not in its log: that one has another name.
    async fn remember(conn: &mut Self::Connection, lock: Option<&Lock>) -> Outcome<()> {
        let Some(lock) = lock else { return Ok(()) };
        lock.opened();
        let now = lock.database().to_string_lossy();
        if place(conn).await?.as_deref() == Some(&*now) {
            return Ok(());
        }
        let note = Statement::new("INSERT OR REPLACE INTO im_place (id, path) VALUES ");
        Link::<Self>(conn).run(note.group(|row| row.int(1).text(&now))).await?;
        Ok(Self::execute_text(conn, "PRAGMA wal_checkpoint(PASSIVE)".into_sql_str()).await?)
    }

    /// A log with something in it: whoever closed the database last in good order has taken its log away.
    fn is_left_behind(config: &SqlConfig) -> bool {
        let Ok(options) = named(config) else { return false };
        let log = beside(options.get_filename(), "-wal");
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
        let sql = "SELECT sqlite_version()".into_sql_str();
        let version: String = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
        is_mended(&version)?;
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
    let options = match &config.address {
        DatabaseAddress::Url(url) => SqliteConnectOptions::from_str(url)?,
        DatabaseAddress::File(path) => SqliteConnectOptions::new().filename(literal(path)?),
    };
    let name = options.get_filename();
    // SQLite makes an address of a name that begins like this, and the driver one of `:memory:`.
    if name.as_os_str().is_empty() || name.as_os_str().as_encoded_bytes().starts_with(b"file:") {
        return Err(Fault::Unfit(format!("{NO_FILE}, without `file:` before it")));
    }
    // SQLite follows symbolic links by itself. What lies beside the file has to be looked for where it does.
    let path = resolve(name).map_err(|error| Fault::Database(error.into()))?;
    is_utf_8(&path)?;
    Ok(options.filename(path))
}

fn is_utf_8(path: &Path) -> Outcome<()> {
    match path.to_str() {
        Some(_) => Ok(()),
        None => {
            let path = path.display();
            let words = format!("the path {path} is not UTF-8, which the driver of SQLite needs");
            Err(Fault::Unfit(words))
        }
    }
}

/// A path that means nothing but itself: an absolute one.
fn literal(path: &Path) -> Outcome<PathBuf> {
    if path.as_os_str().is_empty() || path == Path::new(":memory:") {
        return Err(Fault::Unfit(NO_FILE.to_owned()));
    }
    is_utf_8(path)?;
    std::path::absolute(path).map_err(|error| Fault::Database(error.into()))
}

/// Where the database was used last, if it says so.
async fn place(conn: &mut SqliteConnection) -> Outcome<Option<String>> {
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = 'im_place'";
    let there: i64 = sqlx::query_scalar(table.into_sql_str()).fetch_one(&mut *conn).await?;
    if there == 0 {
        return Ok(None);
    }
    let path = "SELECT path FROM im_place".into_sql_str();
    Ok(sqlx::query_scalar(path).fetch_optional(conn).await?)
}

/// The first version of SQLite without the WAL-reset bug (<https://www.sqlite.org/wal.html#walresetbug>): a commit beside
/// two checkpoints could damage the database.
const MENDED: [u32; 3] = [3, 51, 3];

/// Whether this version of SQLite may be written with.
fn is_mended(version: &str) -> Outcome<()> {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    let found: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
    if found >= MENDED {
        return Ok(());
    }
    let [a, b, c] = MENDED;
    Err(Fault::Unfit(format!(
        "this program is linked with SQLite {version}, which may damage a database in WAL mode (the WAL-reset bug, mended in \
         {a}.{b}.{c}): at least {a}.{b}.{c} is needed. A program has one SQLite, and Cargo takes the one that all crates agree on: \
         sqlx 0.8, or another crate beside this one, asks for an old one (`cargo tree -i libsqlite3-sys` shows which). Use \
         sqlx 0.9, which is `im_store_sql::sqlx`, and `cargo update -p libsqlite3-sys`; or update the system's library if the \
         feature `sqlite-unbundled` of sqlx is on"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_sqlite_is_refused() {
        for old in ["3.46.0", "3.51.2", "3.7.17", "2.99.99", "", "three"] {
            let told = is_mended(old).unwrap_err().to_string();
            assert!(told.contains("3.51.3") && told.contains("sqlx 0.9"), "{told}");
        }
        for good in ["3.51.3", "3.52.0", "3.100.1", "4.0", "3.51.10"] {
            is_mended(good).unwrap();
        }
    }
}

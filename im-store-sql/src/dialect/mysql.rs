//! MySQL and MariaDB.

use std::str::FromStr;

use im_core::ports::Durability;
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError};
use sqlx::{MySql, Row, SqlSafeStr};

use super::{Dialect, Found, Lookup, sealed};
use crate::config::SqlConfig;
use crate::error::{Class, Outcome};
use crate::migrate::Migration;

impl sealed::Sealed for MySql {}

impl Dialect for MySql {
    const SHORT: &'static str = "mysql";
    // After the lock on a room, reads see what those before have committed; and no locks on gaps, which end in deadlocks.
    const BEGIN: &'static str =
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION READ WRITE";
    const FOR_UPDATE: &'static str = " FOR UPDATE";
    const LOOKUP: Lookup = Lookup::RowIn;
    // DDL commits by itself, so the lock belongs to the connection; and a migration that was killed is made from its beginning
    // again, so each of its statements does nothing where it was done before.
    const LOCK_MIGRATIONS: &'static str = "SELECT CAST(GET_LOCK('im_migrations', 60) AS SIGNED)";
    const UNLOCK_MIGRATIONS: &'static str = "SELECT RELEASE_LOCK('im_migrations')";
    const MIGRATIONS: &'static [Migration] = &[Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../migrations/mysql/0001_initial.sql"),
    }];

    fn placeholder(out: &mut String, _n: usize) {
        out.push('?');
    }

    fn on_conflict(_keys: &str, set: &[&str]) -> String {
        let set: Vec<_> = set.iter().map(|column| format!("{column} = VALUES({column})")).collect();
        format!(" ON DUPLICATE KEY UPDATE {}", set.join(", "))
    }

    /// Server error numbers: <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>.
    fn class(error: &dyn DatabaseError) -> Class {
        let number =
            error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
        match number {
            // Deadlock; a record that was changed (MariaDB, innodb_snapshot_isolation).
            1213 | 1020 => Class::Contended,
            // Duplicate entry.
            1062 => Class::Taken,
            // Lock wait time-out.
            1205 => Class::Locked,
            // Disk full, table full, file too large; errno 28 while writing.
            1021 | 1114 | 3 => Class::Full,
            // Corrupt index, crashed table.
            1034 | 1194 | 1712 => Class::Corrupt,
            // Too many connections, access denied, unknown database, shutting down, killed, read-only, too long silent.
            1040
            | 1044
            | 1045
            | 1049
            | 1053
            | 1077
            | 1079
            | 1105
            | 1152
            | 1158..=1161
            | 1203
            | 1290
            | 1317
            | 1836
            | 1927 => Class::Away,
            _ => Class::Failed,
        }
    }

    const ONE_WRITER: bool = false;

    fn options(config: &SqlConfig) -> Outcome<MySqlConnectOptions> {
        Ok(MySqlConnectOptions::from_str(config.server()?)?
            .charset("utf8mb4")
            .statement_cache_capacity(512))
    }

    /// Rows, and tables (which the server's default waits for a day, or a year).
    fn greeting(config: &SqlConfig) -> Option<String> {
        let seconds = config.lock_wait.as_millis().div_ceil(1_000).clamp(1, 1 << 20);
        Some(format!("SET innodb_lock_wait_timeout = {seconds}, lock_wait_timeout = {seconds}"))
    }

    async fn inspect(conn: &mut Self::Connection) -> Outcome<Found> {
        let sql = "SELECT CAST(@@innodb_flush_log_at_trx_commit AS SIGNED), CAST(@@sync_binlog AS SIGNED), \
                   CAST(@@log_bin AS SIGNED), CAST(@@innodb_doublewrite AS CHAR)";
        let row = sqlx::query::<Self>(sql.into_sql_str()).fetch_one(&mut *conn).await?;
        let (flush, sync_binlog, binlog): (i64, i64, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let doublewrite: String = row.try_get(3)?;
        let mut weak = Vec::new();
        let mut durability = Durability::PowerLoss;
        if flush != 1 {
            durability = if flush == 0 { Durability::Volatile } else { Durability::ProcessCrash };
            weak.push(format!(
                "innodb_flush_log_at_trx_commit is {flush}: what was committed in the last second may be lost when \
                 the server or the machine stops. Set it to 1"
            ));
        }
        if binlog != 0 && sync_binlog != 1 {
            durability = durability.min(Durability::ProcessCrash);
            weak.push(format!(
                "sync_binlog is {sync_binlog} while the binary log is on: a recovery may roll back what was \
                 committed. Set it to 1"
            ));
        }
        if matches!(doublewrite.to_ascii_lowercase().as_str(), "0" | "off") {
            durability = durability.min(Durability::ProcessCrash);
            weak.push(
                "innodb_doublewrite is off: torn pages damage the database when the power goes, unless the file \
                 system writes pages whole. Set it to ON"
                    .to_owned(),
            );
        }
        Ok(Found { durability, weak })
    }

    super::driver!();
}

//! PostgreSQL.

use std::str::FromStr;

use im_core::ports::Durability;
use sqlx::error::DatabaseError;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Postgres, SqlSafeStr};

use super::{Dialect, Found, Lookup, excluded, sealed};
use crate::config::SqlConfig;
use crate::error::{Class, Outcome};
use crate::migrate::Migration;

impl sealed::Sealed for Postgres {}

impl Dialect for Postgres {
    const SHORT: &'static str = "postgres";
    const BEGIN: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
    const FOR_UPDATE: &'static str = " FOR UPDATE";
    const LOOKUP: Lookup = Lookup::Lateral;
    // The number is arbitrary, and the same for everybody who migrates.
    const LOCK_MIGRATIONS: &'static str = "SELECT pg_advisory_xact_lock(6861722611)";
    const UNLOCK_MIGRATIONS: &'static str = "";
    const MIGRATIONS: &'static [Migration] = &[Migration {
        version: 1,
        name: "initial",
        sql: include_str!("../migrations/postgres/0001_initial.sql"),
    }];

    fn placeholder(out: &mut String, n: usize) {
        out.push('$');
        out.push_str(&n.to_string());
    }

    fn on_conflict(keys: &str, set: &[&str]) -> String {
        excluded(keys, set)
    }

    /// SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    fn class(error: &dyn DatabaseError) -> Class {
        let code = error.code().unwrap_or_default();
        match code.as_ref() {
            // Serialization failure, deadlock.
            "40001" | "40P01" => Class::Contended,
            // Unique violation.
            "23505" => Class::Taken,
            // Lock not available.
            "55P03" => Class::Locked,
            // Disk full.
            "53100" => Class::Full,
            // Data corrupted, index corrupted.
            "XX001" | "XX002" => Class::Corrupt,
            // Connection exceptions, insufficient resources, operator intervention, system errors, wrong credentials.
            code if ["08", "53", "57", "58", "28"].iter().any(|c| code.starts_with(c)) => {
                Class::Away
            }
            _ => Class::Failed,
        }
    }

    const ONE_WRITER: bool = false;

    fn options(config: &SqlConfig) -> Outcome<PgConnectOptions> {
        Ok(PgConnectOptions::from_str(config.server()?)?.statement_cache_capacity(512))
    }

    fn greeting(config: &SqlConfig) -> Option<String> {
        // 0 would be without end.
        let millis = config.lock_wait.as_millis().clamp(1, 1 << 30);
        Some(format!("SET lock_timeout = {millis}"))
    }

    async fn inspect(conn: &mut Self::Connection) -> Outcome<Found> {
        let wanted = [
            (
                "fsync",
                "what was committed may be lost, and the database damaged, when the power goes",
            ),
            ("full_page_writes", "the database may be damaged when the power goes"),
            ("synchronous_commit", "what was committed last may be lost when the server stops"),
        ];
        let mut weak = Vec::new();
        for (name, harm) in wanted {
            let sql = "SELECT current_setting($1)".into_sql_str();
            let value: String =
                sqlx::query_scalar::<Self, _>(sql).bind(name).fetch_one(&mut *conn).await?;
            // `remote_apply` and `remote_write` wait for more, or for as much.
            if matches!(value.as_str(), "off" | "false" | "no" | "0") {
                weak.push(format!("{name} is {value}: {harm}. Set {name} = on"));
            }
        }
        let durability = match weak.as_slice() {
            [] => Durability::PowerLoss,
            // A server that answers before it has written loses commits when it is killed.
            weak if weak.iter().any(|w| w.starts_with("synchronous_commit")) => {
                Durability::Volatile
            }
            _ => Durability::ProcessCrash,
        };
        Ok(Found { durability, weak })
    }

    super::driver!();
}

//! Bringing the tables to the version that this crate knows.

use im_core::id::new_generation;
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use sqlx::{AssertSqlSafe, Connection, SqlSafeStr};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::Link;
use crate::statement::Statement;

/// One step from a version of the tables to the next.
#[derive(Debug)]
pub struct Migration {
    /// The version that it leads to.
    pub version: u64,
    /// A short name.
    pub name: &'static str,
    /// What it does.
    pub sql: &'static str,
}

/// The name of the number that rooms get as their generation.
pub(crate) const GENERATION: &str = "generation";
/// The name of the number that state has as its generation.
pub(crate) const STATE_GENERATION: &str = "state_generation";

/// Makes the tables, or brings them up to date. Keeps a list of its own, `im_migrations`, so that it leaves the embedder's
/// alone.
pub(crate) async fn migrate<D: Dialect>(conn: &mut D::Connection) -> StoreResult<()> {
    let held = lock::<D>(conn).await;
    let done = match held {
        Ok(()) => all::<D>(conn).await,
        Err(fault) => Err(fault.into_error::<D>()),
    };
    if !D::UNLOCK_MIGRATIONS.is_empty() {
        // The connection's end would unlock it as well.
        let _ = D::execute_text(conn, D::UNLOCK_MIGRATIONS.into_sql_str()).await;
    }
    done
}

async fn lock<D: Dialect>(conn: &mut D::Connection) -> Outcome<()> {
    // Where the lock outlives transactions it is taken before one.
    if D::UNLOCK_MIGRATIONS.is_empty() {
        return Ok(());
    }
    let taken = Statement::new(D::LOCK_MIGRATIONS);
    match Link::<D>(conn).first(taken, |row| row.opt_int()).await?.flatten() {
        Some(1) => Ok(()),
        _ => {
            let why = "another process has been at the tables for a minute: start again when it is through, or end it";
            Err(Fault::Unfit(why.to_owned()))
        }
    }
}

async fn all<D: Dialect>(conn: &mut D::Connection) -> StoreResult<()> {
    let fail = |fault: Fault| fault.into_error::<D>();
    let begun = conn.begin_with(D::BEGIN.into_sql_str()).await;
    let mut tx = begun.map_err(|e| fail(e.into()))?;
    if D::UNLOCK_MIGRATIONS.is_empty() && !D::LOCK_MIGRATIONS.is_empty() {
        let locked = D::execute_text(&mut tx, D::LOCK_MIGRATIONS.into_sql_str()).await;
        locked.map_err(|e| fail(e.into()))?;
    }
    let held = version::<D>(&mut tx).await.map_err(fail)?;
    let newest = D::MIGRATIONS.last().map_or(0, |migration| migration.version);
    if held > newest {
        let message = format!(
            "the tables were made by a newer version (schema {held}; this version knows schemas up to {newest}): run \
             that version, or use another database"
        );
        return Err(StoreError::new(StoreErrorKind::Unavailable, message));
    }
    for migration in D::MIGRATIONS.iter().filter(|migration| migration.version > held) {
        apply::<D>(&mut tx, migration).await.map_err(fail)?;
        tracing::info!(
            store = D::SHORT,
            version = migration.version,
            name = migration.name,
            "migrated"
        );
    }
    number::<D>(&mut tx, GENERATION).await.map_err(fail)?;
    number::<D>(&mut tx, STATE_GENERATION).await.map_err(fail)?;
    tx.commit().await.map_err(|e| fail(e.into()))
}

async fn version<D: Dialect>(conn: &mut D::Connection) -> Outcome<u64> {
    let table = "CREATE TABLE IF NOT EXISTS im_migrations (version BIGINT NOT NULL PRIMARY KEY, \
                 name VARCHAR(64) NOT NULL)";
    D::execute_text(conn, table.into_sql_str()).await?;
    let newest = Statement::new("SELECT MAX(version) FROM im_migrations");
    let newest = Link::<D>(conn).first(newest, |row| row.opt_int()).await?;
    Ok(newest.flatten().unwrap_or(0))
}

async fn apply<D: Dialect>(conn: &mut D::Connection, migration: &Migration) -> Outcome<()> {
    D::execute_text(conn, AssertSqlSafe(migration.sql).into_sql_str()).await?;
    let done = Statement::new("INSERT INTO im_migrations (version, name) VALUES ")
        .group(|row| row.int(migration.version).text(migration.name));
    Link::<D>(conn).run(done).await.map(|_| ())
}

/// One of the store's own numbers; a random one the first time.
async fn number<D: Dialect>(conn: &mut D::Connection, name: &str) -> Outcome<u64> {
    if let Some(number) = read_number::<D>(conn, name).await? {
        return Ok(number);
    }
    let fresh = new_generation();
    let insert = Statement::new("INSERT INTO im_numbers (name, value) VALUES ")
        .group(|row| row.text(name).int(fresh));
    Link::<D>(conn).run(insert).await?;
    Ok(fresh)
}

pub(crate) async fn read_number<D: Dialect>(
    conn: &mut D::Connection,
    name: &str,
) -> Outcome<Option<u64>> {
    let select = Statement::new("SELECT value FROM im_numbers WHERE name = ").text(name);
    Link::<D>(conn).first(select, |row| row.int()).await
}

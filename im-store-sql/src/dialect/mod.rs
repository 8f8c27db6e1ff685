//! What differs from one database to the next. Everything else is written once, in SQL that all of them speak.

use std::future::Future;
use std::ops::ControlFlow;

use im_core::ports::{Durability, StoreResult};
use sqlx::error::DatabaseError;
use sqlx::{Database, Error, SqlStr};

use crate::config::SqlConfig;
use crate::error::{Class, Outcome};
use crate::file::Lock;
use crate::migrate::Migration;

#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
pub(crate) mod sqlite;

/// Receives rows one by one, and says when it has enough.
pub type Each<'a, D> = &'a mut (dyn FnMut(<D as Database>::Row) -> Outcome<ControlFlow<()>> + Send);

/// How rows are looked up by several columns at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// `WITH w(a, b) AS (VALUES …) … JOIN`.
    Join,
    /// `WITH w(a, b) AS (VALUES …) … JOIN LATERAL (… LIMIT 1)`: one after the other by the index, whatever the planner has heard
    /// of the table. It keeps a plan for long, and might have made it when the table was small.
    Lateral,
    /// `WHERE (a, b) IN ((…), …)`.
    RowIn,
}

/// What the settings of a server make of a commit.
#[derive(Debug)]
pub struct Found {
    /// What "committed" means with them.
    pub durability: Durability,
    /// Those that weaken it, each in words that say what to do.
    pub weak: Vec<String>,
}

/// A database that the store can stand on. Sealed: [`sqlx::Sqlite`], [`sqlx::Postgres`] and [`sqlx::MySql`] have it.
pub trait Dialect: Database + Sized + sealed::Sealed {
    /// The store's name for logs.
    #[doc(hidden)]
    const SHORT: &'static str;
    /// Begins a transaction that is going to write.
    #[doc(hidden)]
    const BEGIN: &'static str;
    /// Inserts. A failure undoes no more than it must: the transaction is rolled back anyway.
    #[doc(hidden)]
    const INSERT: &'static str = "INSERT";
    /// Locks the rows that a `SELECT` gives until the transaction ends; empty where a transaction locks everything.
    #[doc(hidden)]
    const FOR_UPDATE: &'static str;
    /// How rows are looked up by several columns at once.
    #[doc(hidden)]
    const LOOKUP: Lookup;
    /// Keeps two processes from migrating at once; empty where `BEGIN` does.
    #[doc(hidden)]
    const LOCK_MIGRATIONS: &'static str;
    /// Undoes `LOCK_MIGRATIONS`, where it outlives the transaction.
    #[doc(hidden)]
    const UNLOCK_MIGRATIONS: &'static str;
    #[doc(hidden)]
    const MIGRATIONS: &'static [Migration];

    /// The n-th placeholder, counted from 1.
    #[doc(hidden)]
    fn placeholder(out: &mut String, n: usize);
    /// What an `INSERT` does where the key is taken: sets these columns to what was to be inserted.
    #[doc(hidden)]
    fn on_conflict(keys: &str, set: &[&str]) -> String;
    #[doc(hidden)]
    fn class(error: &dyn DatabaseError) -> Class;
    /// Whether it takes one writer at a time.
    #[doc(hidden)]
    const ONE_WRITER: bool;
    /// Whether messages lie in the order of a column `place`, which the store gives them.
    #[doc(hidden)]
    const RUNS: bool = false;
    /// How to connect.
    #[doc(hidden)]
    fn options(config: &SqlConfig) -> Outcome<<Self::Connection as sqlx::Connection>::Options>;
    /// The same, to a database that is there.
    #[doc(hidden)]
    fn again(
        options: <Self::Connection as sqlx::Connection>::Options,
    ) -> <Self::Connection as sqlx::Connection>::Options {
        options
    }
    /// What is said to the database once on each connection.
    #[doc(hidden)]
    fn greeting(_config: &SqlConfig) -> Option<String> {
        None
    }
    /// Takes the database for this process alone, where that is needed.
    #[doc(hidden)]
    fn take(_config: &SqlConfig) -> StoreResult<Option<Lock>> {
        Ok(None)
    }
    /// Whether this is where the database was used last, and nothing of it was left behind there.
    #[doc(hidden)]
    fn recognise(
        _conn: &mut Self::Connection,
        _lock: Option<&Lock>,
    ) -> impl Future<Output = Outcome<()>> + Send {
        std::future::ready(Ok(()))
    }
    /// Notes where the database is used now.
    #[doc(hidden)]
    fn remember(
        _conn: &mut Self::Connection,
        _lock: Option<&Lock>,
    ) -> impl Future<Output = Outcome<()>> + Send {
        std::future::ready(Ok(()))
    }
    /// Whether an earlier process has left something that [`Dialect::recover`] is to look after. Asked before the first
    /// connection.
    #[doc(hidden)]
    fn is_left_behind(_config: &SqlConfig) -> bool {
        false
    }
    /// Makes sure, on a fresh connection, that what a failed commit has left behind is on disk or gone, before anything else is
    /// acknowledged. Readers are in its way.
    #[doc(hidden)]
    fn recover(_conn: &mut Self::Connection) -> impl Future<Output = Outcome<()>> + Send {
        std::future::ready(Ok(()))
    }
    /// A number that changes whenever somebody else's commit was seen on this connection; `None` where there is none, or where
    /// others may commit while a transaction lasts.
    #[doc(hidden)]
    fn others_writes(
        _conn: &mut Self::Connection,
    ) -> impl Future<Output = Result<Option<i64>, Error>> + Send {
        std::future::ready(Ok(None))
    }
    /// Looks at the server's settings.
    #[doc(hidden)]
    fn inspect(conn: &mut Self::Connection) -> impl Future<Output = Outcome<Found>> + Send;

    #[doc(hidden)]
    fn bind_int(args: &mut Self::Arguments, value: Option<i64>) -> Bound;
    #[doc(hidden)]
    fn bind_text(args: &mut Self::Arguments, value: Option<&str>) -> Bound;
    #[doc(hidden)]
    fn bind_bytes(args: &mut Self::Arguments, value: Option<&[u8]>) -> Bound;
    #[doc(hidden)]
    fn int(row: &Self::Row, at: usize) -> Result<Option<i64>, Error>;
    #[doc(hidden)]
    fn text(row: &Self::Row, at: usize) -> Result<Option<String>, Error>;
    #[doc(hidden)]
    fn bytes(row: &Self::Row, at: usize) -> Result<Option<Vec<u8>>, Error>;
    /// Runs a statement; says how many rows it touched.
    #[doc(hidden)]
    fn execute(
        conn: &mut Self::Connection,
        sql: SqlStr,
        args: Self::Arguments,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
    /// Runs statements that take no arguments, as one text.
    #[doc(hidden)]
    fn execute_text(
        conn: &mut Self::Connection,
        sql: SqlStr,
    ) -> impl Future<Output = Result<(), Error>> + Send;
    /// Runs a query and hands each row over.
    #[doc(hidden)]
    fn query(
        conn: &mut Self::Connection,
        sql: SqlStr,
        args: Self::Arguments,
        each: Each<'_, Self>,
    ) -> impl Future<Output = Outcome<()>> + Send;
}

/// Whether an argument could be encoded.
pub type Bound = Result<(), Box<dyn std::error::Error + Send + Sync>>;

mod sealed {
    pub trait Sealed {}
}

/// `ON CONFLICT`, as SQLite and PostgreSQL have it.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn excluded(keys: &str, set: &[&str]) -> String {
    let set: Vec<_> = set.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    format!(" ON CONFLICT ({keys}) DO UPDATE SET {}", set.join(", "))
}

/// The methods of [`Dialect`] whose text is the same for each driver, and whose types are not.
macro_rules! driver {
    () => {
        fn bind_int(args: &mut Self::Arguments, value: Option<i64>) -> $crate::dialect::Bound {
            sqlx::Arguments::add(args, value)
        }

        fn bind_text(args: &mut Self::Arguments, value: Option<&str>) -> $crate::dialect::Bound {
            sqlx::Arguments::add(args, value)
        }

        fn bind_bytes(args: &mut Self::Arguments, value: Option<&[u8]>) -> $crate::dialect::Bound {
            sqlx::Arguments::add(args, value)
        }

        fn int(row: &Self::Row, at: usize) -> Result<Option<i64>, sqlx::Error> {
            sqlx::Row::try_get(row, at)
        }

        fn text(row: &Self::Row, at: usize) -> Result<Option<String>, sqlx::Error> {
            sqlx::Row::try_get(row, at)
        }

        fn bytes(row: &Self::Row, at: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
            sqlx::Row::try_get(row, at)
        }

        async fn execute(
            conn: &mut Self::Connection,
            sql: sqlx::SqlStr,
            args: Self::Arguments,
        ) -> Result<u64, sqlx::Error> {
            let query = sqlx::query_with::<Self, _>(sql, args);
            Ok(query.execute(conn).await?.rows_affected())
        }

        async fn execute_text(
            conn: &mut Self::Connection,
            sql: sqlx::SqlStr,
        ) -> Result<(), sqlx::Error> {
            sqlx::Executor::execute(conn, sqlx::raw_sql(sql)).await.map(|_| ())
        }

        async fn query(
            conn: &mut Self::Connection,
            sql: sqlx::SqlStr,
            args: Self::Arguments,
            each: $crate::dialect::Each<'_, Self>,
        ) -> $crate::error::Outcome<()> {
            let mut rows = sqlx::query_with::<Self, _>(sql, args).fetch(conn);
            while let Some(row) = futures::TryStreamExt::try_next(&mut rows).await? {
                if each(row)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
    };
}
use driver;

//! Publishing in a transaction of the embedder's own.

use std::ops::DerefMut;

use im_core::ports::{Appended, StoreResult};
use im_core::state::Append;
use sqlx::Transaction;
use sqlx::pool::PoolConnection;

use crate::append::{Repeats, append};
use crate::dialect::Dialect;
use crate::known::Known;
use crate::link::Link;
use crate::store::SqlStore;

/// A connection or transaction of **sqlx 0.9** ([`im_store_sql::sqlx`](crate::sqlx)) to a database of this kind.
///
/// Transactions, pooled and plain connections are. Those of another version of sqlx are other types: a crate that names sqlx
/// itself names version 0.9, or uses this crate's.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no connection or transaction of sqlx 0.9 to the store's database",
    label = "a transaction, pooled or plain connection of `im_store_sql::sqlx` is expected here",
    note = "types of another version of sqlx (0.8, say) look alike and are others: use `im_store_sql::sqlx`, or `sqlx = \"0.9\"`"
)]
pub trait Within<D: Dialect>: within::Sealed {
    #[doc(hidden)]
    fn connection(&mut self) -> &mut D::Connection;
}

mod within {
    pub trait Sealed {}
}

impl<D: Dialect> within::Sealed for Transaction<'_, D> {}
impl<D: Dialect> Within<D> for Transaction<'_, D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.deref_mut()
    }
}

impl<D: Dialect> within::Sealed for PoolConnection<D> {}
impl<D: Dialect> Within<D> for PoolConnection<D> {
    fn connection(&mut self) -> &mut D::Connection {
        self.deref_mut()
    }
}

/// Plain connections: one kind for each database.
macro_rules! plain {
    ($feature:literal, $database:ty, $connection:ty) => {
        #[cfg(feature = $feature)]
        impl within::Sealed for $connection {}
        #[cfg(feature = $feature)]
        impl Within<$database> for $connection {
            fn connection(&mut self) -> &mut $connection {
                self
            }
        }
    };
}
plain!("sqlite", sqlx::Sqlite, sqlx::SqliteConnection);
plain!("postgres", sqlx::Postgres, sqlx::PgConnection);
plain!("mysql", sqlx::MySql, sqlx::MySqlConnection);

impl<D: Dialect> SqlStore<D> {
    /// Appends messages within a transaction that the embedder has begun on this store's database: they are kept if it
    /// commits, together with the rows that the embedder writes in it, and were never there if it is rolled back. Readers see
    /// nothing of them before the commit.
    ///
    /// After the commit, hand the events to [`Engine::announce`](im_core::engine::Engine::announce); what is not announced is
    /// found by the engine's comparison with the store. [`Engine::prepare`](im_core::engine::Engine::prepare),
    /// [`prepare_room`](im_core::engine::Engine::prepare_room) and
    /// [`prepare_change`](im_core::engine::Engine::prepare_change) make the appends.
    ///
    /// `conn` is a transaction or connection of **sqlx 0.9**, which is [`im_store_sql::sqlx`](crate::sqlx): see [`Within`].
    ///
    /// The rooms are locked until the transaction ends, and other sends to them wait for it: keep it short, and append last.
    /// On SQLite all other sends wait. After [`SqlConfig::lock_wait`](crate::SqlConfig::lock_wait) they are refused with 4202,
    /// and the log and the error's source say that a transaction is in the way, and when this was called last.
    /// One call locks its rooms in the order of their ids, so that two never wait for each other; who calls it several times
    /// in one transaction should do so in that order, too.
    ///
    /// - SQLite: begin with `BEGIN IMMEDIATE` (`connection.begin_with("BEGIN IMMEDIATE")`): a transaction that has read
    ///   before it writes may otherwise be refused. While it lasts, nobody else writes.
    /// - MySQL: the isolation level must be `READ COMMITTED` (`SET TRANSACTION ISOLATION LEVEL READ COMMITTED` before the
    ///   transaction begins). Under MySQL's default, `REPEATABLE READ`, members and repeats are looked up in an old view of
    ///   the database: a repeat is then met as an error, and a change of members is decided by what was.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use im_core::{engine::{Engine, Publish}, ports::{Appended, Store}, wire::Target, UserId};
    /// # use im_store_sql::{SqlConfig, SqliteStore};
    /// use im_store_sql::sqlx::{self, Connection, SqliteConnection};
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("shop.db");
    /// # let mut connection = SqliteConnection::connect(&format!("sqlite:{}?mode=rwc", file.display())).await?;
    /// # sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY, what TEXT)").execute(&mut connection).await?;
    /// let store = Arc::new(SqliteStore::open(SqlConfig::sqlite(&file)).await?);
    /// let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await?;
    /// let (shop, ann) = (UserId::new("shop")?, UserId::new("ann")?);
    /// let message = engine.prepare(Publish::text(Target::User(ann), shop, "your order was placed"))?;
    ///
    /// let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    /// sqlx::query("INSERT INTO orders (what) VALUES ('a lamp')").execute(&mut *tx).await?;
    /// let mut events = Vec::new();
    /// for answer in store.append_in(&mut tx, &[message]).await? {
    ///     if let Appended::Committed(event) = answer? {
    ///         events.push(event);
    ///     }
    /// }
    /// tx.commit().await?;
    /// engine.announce(events).await?;
    /// # store.close().await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with one message (a refusal by the rules) is its own answer; the others stand. An error of the whole
    /// call means that the transaction is to be rolled back: retryable ones (another transaction was in the way, the
    /// database is away) may succeed with a new transaction.
    pub async fn append_in(
        &self,
        conn: &mut impl Within<D>,
        batch: &[Append],
    ) -> StoreResult<Vec<StoreResult<Appended>>> {
        self.health.appends_outside();
        let batch: Vec<&Append> = batch.iter().collect();
        let appended =
            append(&mut Link::<D>(conn.connection()), &batch, Known::default(), Repeats::LookedFor)
                .await;
        appended.map(|(answers, _)| answers).map_err(|fault| fault.into_error::<D>())
    }
}

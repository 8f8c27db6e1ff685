//! Publishing in a transaction of the embedder's own.

use im_core::ports::{Appended, StoreResult};
use im_core::state::Append;

use crate::append::{Repeats, append};
use crate::dialect::Dialect;
use crate::known::Known;
use crate::link::Link;
use crate::store::SqlStore;

impl<D: Dialect> SqlStore<D> {
    /// Appends messages within a transaction that the embedder has begun on this store's database: they are kept if it
    /// commits, together with the rows that the embedder writes in it, and were never there if it is rolled back. Readers see
    /// nothing of them before the commit.
    ///
    /// After the commit, hand the events to [`Engine::announce`](im_core::engine::Engine::announce); what is not announced is
    /// found by the engine's comparison with the store. [`Engine::prepare`](im_core::engine::Engine::prepare) makes
    /// the appends.
    ///
    /// The rooms are locked until the transaction ends, and other sends to them wait for it: keep it short, and append last.
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
    /// # use sqlx::{Connection, SqliteConnection};
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
        conn: &mut D::Connection,
        batch: &[Append],
    ) -> StoreResult<Vec<StoreResult<Appended>>> {
        let batch: Vec<&Append> = batch.iter().collect();
        let appended =
            append(&mut Link::<D>(conn), &batch, Known::default(), Repeats::LookedFor).await;
        appended.map(|(answers, _)| answers).map_err(|fault| fault.into_error::<D>())
    }
}

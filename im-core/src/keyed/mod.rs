//! A whole store over any database that keeps its keys in order and has transactions: what goes under which key, and
//! what each call of the ports does to it, is here once. The database's adapter brings [`Rows`], [`RowsMut`] and the
//! handing over of work, [`Database`]; [`KeyedStore`] makes the store of it.
//!
//! `docs/store.md` goes through an adapter that is made so, on redb. A database of another sort, one of tables and
//! queries, say, implements the [`ports`](crate::ports) themselves.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | what an adapter implements |
//! | `work` | what waits for the database, and the thread that commits |
//! | `store` | the ports, each call a look or a job |
//! | `keys` | where things stand |
//! | `record` | what stands there |
//! | `look` | reading: rooms, logs, members |
//! | `write` | appends, and what other writes have in common |
//! | `sessions` | sessions, checkpoints, tickets |
//! | `latest` | latest-wins state |
//! | `upkeep` | trimming, deleting, purging |
//! | `erase` | erasing users |
//! | `import` | rooms under import |
//!
//! Nothing is written before it is certain that the call is not refused; whatever else fails takes the whole
//! transaction with it. So an adapter needs no undoing within a transaction.

mod database;
mod erase;
mod import;
mod keys;
mod latest;
mod look;
mod record;
mod sessions;
mod store;
mod upkeep;
mod work;
mod write;

pub use database::{Database, Rows, RowsMut, Step, Way};
pub use store::{KeyedStore, OpenAs};

//! Stores in SQL databases.
mod append;
mod committer;
mod config;
mod dialect;
mod error;
mod job;
mod link;
mod migrate;
mod model;
mod open;
mod publish;
mod read;
mod sessions;
mod state;
mod statement;
mod store;

pub use config::SqlConfig;
pub use dialect::Dialect;
pub use store::SqlStore;

/// A store in a file, by SQLite.
#[cfg(feature = "sqlite")]
pub type SqliteStore = SqlStore<sqlx::Sqlite>;
/// A store in a PostgreSQL database.
#[cfg(feature = "postgres")]
pub type PostgresStore = SqlStore<sqlx::Postgres>;
/// A store in a MySQL or MariaDB database.
#[cfg(feature = "mysql")]
pub type MySqlStore = SqlStore<sqlx::MySql>;

/// What the sealed methods of [`Dialect`] are made of. Not for use.
#[doc(hidden)]
pub mod sealed {
    pub use crate::dialect::{Bound, Each, Found, Lookup};
    pub use crate::error::{Class, Fault, Outcome};
    pub use crate::migrate::Migration;
}

//! Stores in SQL databases: SQLite in a file, PostgreSQL, MySQL and MariaDB. By **sqlx 0.9**, which is [`sqlx`] here.
//!
//! ```
//! use im_core::ports::{Durability, Store};
//! use im_store_sql::{SqlConfig, SqliteStore};
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("im.db");
//! let store = SqliteStore::open(SqlConfig::sqlite(path)).await?; // or PostgresStore, MySqlStore
//! assert_eq!(store.durability(), Durability::PowerLoss);
//! store.close().await?;
//! # Ok(()) }
//! ```
//!
//! # What it promises
//!
//! An append that was answered is committed and synced, with its dedup record. On SQLite that is WAL with
//! `synchronous=FULL`, bundled at 3.51.3 or newer, if the file system can do that; on a server it is what the server's
//! settings make of it. Either is looked at when the store is opened: what weakens durability is logged in words, and
//! [`Store::durability`] states what is left.
//! Asynchronous replication that fails over may lose what was acknowledged: no setting here can see that.
//!
//! Seqs are given out under a lock on the room's row, in the message's own transaction: never by a sequence or an
//! auto-increment, which leave gaps and become visible out of order.
//!
//! # How it writes
//!
//! A few committers (one on SQLite) share the rooms. Each takes what has queued and writes it in one transaction: it
//! locks the rooms in the order of their ids, reads what the rules need to know, lets them decide, writes with statements of
//! many rows, and commits once for all. While that is synced, the next batch gathers.
//!
//! A transaction that loses against another one (a deadlock, a serialization failure) is made again. One that fails before
//! its commit was never there: while the database is away, it is made again until [`SqlConfig::patience`] is over, and then
//! fails with `Unavailable`, or with `Full` where there is no room left. One whose commit fails in a way that leaves open
//! what happened is answered `Unknown`: a retry under the same message id clears it up.
//!
//! # What it waits for
//!
//! Every call ends, whatever the network and the database do. A peer that has vanished without a word costs a caller
//! [`SqlConfig::time_limit`]; a lock that somebody else holds and does not give back costs [`SqlConfig::lock_wait`] and an
//! `Unavailable`, for its rooms only. A connection on which anything took too long, failed, or was not waited for is closed
//! and never used again. While the database is known to be away, one read at a time looks whether it is back, and the others
//! fail at once. A store that is dropped in place of being closed still commits what it was given.
//!
//! After a commit that failed on SQLite, its log is written back to the database before anything else is committed, and so is
//! a log that an earlier process has left, when the store is opened. The store's own readers are held off meanwhile, and a
//! backup that is under way fails. Another program that reads the file in one long transaction is in the way: until it
//! ends, opening and writing fail, in words that say so. Where no log was left, nobody is in the way.
//!
//! # What goes
//!
//! A deleted room goes with its row of `im_rooms`: everything is read by way of it. What stands in the other tables under its
//! number is removed by `purge`, some thousand rows in a transaction. Whoever has been in a room, wrote to it or set its state
//! keeps a row in `im_members`, with the standing `none` once they have left: so a user who is to be erased is found by
//! one index, and sending, which looks at that row anyway, need not write another.
//!
//! A row that is removed is gone for whoever reads the database, and its bytes are overwritten when their place is used
//! again. Who needs them gone from the file at once runs `VACUUM` (SQLite, PostgreSQL) or `OPTIMIZE TABLE` (MySQL) afterwards.
//!
//! [`SqliteStore::backup`](SqlStore::backup) copies a store that is in use. Servers have tools of their own (`pg_dump`,
//! `mysqldump --single-transaction`); after one of their copies was restored, give `generation` and `state_generation` in
//! `im_numbers` and `generation` in `im_rooms` and `im_imports` a new random value below 2^53, so that clients start their rooms anew.
//!
//! # How fast it is
//!
//! On a virtual machine with two cores, 256 tasks in 64 rooms had so many messages of 100 bytes a second acknowledged, each
//! as durable as the database can make it (`im-bench throughput`):
//!
//! | | | one append to a commit |
//! |---|---|---|
//! | SQLite | 53,215 | 3,456 |
//! | PostgreSQL, on the same machine | 32,248 | 2,585 |
//! | MariaDB, on the same machine | 12,325 | 1,345 |
//!
//! The machine is not always equally fast: a few minutes later SQLite had 74,478 and 4,036.
//!
//! Message ids should begin with the time, as UUIDv7 does: they come to lie side by side in their index. With random ones SQLite
//! changes about as many pages as there are messages, and is half as fast.
//!
//! What an append and a page of history cost does not grow with history (`im-bench history`, 5 million messages for 50
//! thousand): an append 1.05, 1.01 and 0.97 times as much on SQLite, PostgreSQL and MariaDB, a page of 50 anywhere 1.04, 1.63 and
//! 1.01 times. Without a cache, SQLite read 24 times for a page, and took 0.6 ms for it after a cold start: messages lie in runs of
//! 16 of a room, side by side.
//!
//! # In your own transaction
//!
//! [`SqlStore::append_in`] appends within a transaction that you have begun: your rows and the messages about them are kept
//! together or not at all. The transaction is one of **sqlx 0.9**: one of another version is another type, though it looks
//! the same. A crate that has sqlx as a dependency takes that version, or uses [`im_store_sql::sqlx`](sqlx).
//!
//! # Which SQLite
//!
//! 3.51.3 or newer: the versions before may damage a database in WAL mode
//! ([WAL-reset bug](https://www.sqlite.org/wal.html#walresetbug)). An older one is refused when the store is opened. A
//! program has one SQLite, and Cargo chooses it for all crates together: with sqlx 0.8 beside this crate it is 3.46.0.
//! `cargo tree -i libsqlite3-sys` shows who asks for what. This crate's `sqlx` with `sqlite-bundled`, as the feature `sqlite` has
//! it, brings a good one.
//!
//! # The file of SQLite
//!
//! One process at a time has it open, by whatever name: a lock file lies beside it (`NAME.lock`), symbolic links are followed
//! first, and the database notes its place in `im_place`. Refused when the store is opened, in words, are a file with a
//! second name (a hard link, or a mount of the file alone: SQLite would keep a log for each, and lose what was
//! acknowledged), one that was moved while a process has it open, and one that was moved without its log (`NAME-wal`). While it
//! is open, each commit looks whether the file is still found under its name: nothing is acknowledged into one that was
//! moved, removed or replaced. Where two containers mount the file itself, none of this sees the other: mount its folder.
//!
//! # The tables
//!
//! They may stand in a database of yours: all names begin with `im_`, and the list of migrations is `im_migrations`. Read
//! them as you like; who writes to them breaks what the engine promises. The files in `src/migrations` describe every column.
//!
//! ```text
//! im_rooms ────────┬───────────────┬────────────────┐
//!  room  (number)  │               │                │
//!  id              │ room          │ room           │ room
//!  kind, access    ▼               ▼                ▼
//!  generation    im_members      im_messages      im_state, im_state_heads
//!  head_seq       user_id         seq              name
//!  first_seq      room_id         sender, sent_at  value (JSON)
//!  bytes          standing        kind             stamp_…, sender
//!  created_at     next_seq        content (JSON)
//!  members                        bytes
//!  erased                         message_id, content_hash: the receipt
//!
//! im_runs:    SQLite only; room, part, place: where 16 messages of a room lie in im_messages
//! im_imports: rooms under import, with the columns of im_rooms; their rows stand in the same tables
//! im_place:   SQLite only; path, where the file was when it was opened last
//! im_doomed:  room, the numbers of deleted rooms and dropped imports that are to be purged
//!
//! im_sessions ─────┬───────────────┐             im_numbers        name → value
//!  id              │ session       │ session     im_state_writers  node
//!  user_id         ▼               ▼             im_migrations     version, name
//!  device_id     im_followed     im_tickets
//!  expires_at     room_id, seq    open_until
//! ```
//!
//! The last hundred messages of a room, readable, on PostgreSQL (MySQL has `json_extract` in the place of `::json`), and on
//! SQLite, which finds messages by their runs:
//!
//! ```sql
//! SELECT m.seq, m.sender, to_timestamp(m.sent_at / 1000.0), m.content::json ->> 'text'
//! FROM im_messages m JOIN im_rooms r USING (room)
//! WHERE r.id = 'lobby' ORDER BY m.seq DESC LIMIT 100;
//!
//! SELECT m.seq, m.sender, datetime(m.sent_at / 1000, 'unixepoch'), m.content ->> 'text'
//! FROM im_rooms r JOIN im_runs u USING (room) JOIN im_messages m ON m.place BETWEEN u.place AND u.place + 15
//! WHERE r.id = 'lobby' ORDER BY u.part DESC, m.place DESC LIMIT 100;
//! ```
//!
//! # Its limits
//!
//! - SQLite: one process at a time has the store open; others may read the file, and write tables of their own. All writes go through one connection, at the speed of one disk.
//! - Rows are written by some megabytes in a statement, but a content, as JSON text, goes in one: it must stay below
//!   `max_allowed_packet` on MySQL (16 MiB on MariaDB by default, 64 MiB on MySQL), which ends the connection of who
//!   sends more, and below 1 GB on PostgreSQL and SQLite. The engine takes 32 KiB by default.
//! - SQLite syncs more than it must, unless it is built with `HAVE_FDATASYNC`: put
//!   `LIBSQLITE3_FLAGS = "-DHAVE_FDATASYNC=1"` under `[env]` into the `.cargo/config.toml` of your workspace, as this one
//!   does (Linux).
//! - SQLite's file has a name in UTF-8. [`SqlConfig::sqlite`] takes it as it is; there is no store in memory.
//! - The user needs the right to make tables when the store is opened with a newer version of this crate.
//! - Memory: [`SqlConfig::queue_bytes`], [`SqlConfig::cache_bytes`] for each connection of SQLite, and what the driver
//!   buffers of a page that is being read.
//!
//! # Map
//!
//! | module | what it holds |
//! |---|---|
//! | `config`, `store`, `ports`, `publish` | the public face |
//! | `open`, `migrate` | connecting, and the tables |
//! | `job`, `committer`, `append`, `known` | from a call to a commit |
//! | `file` | SQLite's file: its one name, and who has it |
//! | `order` | putting the database in order after a failed commit |
//! | `turn`, `health` | from a call to a read, and what callers know of each other's luck |
//! | `read`, `put`, `sessions`, `state` | everything else that is read and written |
//! | `runs` | where SQLite's messages lie, and how those of a room are found |
//! | `upkeep`, `erase`, `import`, `backup` | what goes, and what comes from elsewhere |
//! | `statement`, `link`, `model` | putting statements together, reading rows, values as columns |
//! | `dialect` | what differs between the databases: all of it, and nothing else |
//! | `error` | from a database's failures to the store's |
//!
//! [`Store::durability`]: im_core::ports::Store::durability

mod append;
#[cfg(feature = "sqlite")]
mod backup;
mod committer;
mod config;
mod dialect;
mod erase;
mod error;
#[cfg_attr(not(feature = "sqlite"), allow(dead_code, reason = "only SQLite has a file"))]
mod file;
mod health;
mod import;
mod job;
mod known;
mod link;
mod migrate;
mod model;
mod open;
mod order;
mod ports;
mod publish;
mod put;
mod read;
mod runs;
mod sessions;
mod state;
mod statement;
mod store;
mod turn;
mod upkeep;

#[cfg(feature = "sqlite")]
pub use backup::Backup;
pub use config::SqlConfig;
pub use dialect::Dialect;
pub use publish::Within;
/// The version of sqlx that this crate is built on: 0.9. Its transactions are what [`SqlStore::append_in`] takes.
pub use sqlx;
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

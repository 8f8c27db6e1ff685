//! A whole backend over any database that keeps its keys in order: what is under which key, and how commits become
//! batches, is here once. The database's adapter implements [`Database`]; [`KeyValueBackend`] makes the backend of it.
//!
//! A database need have no transactions that are held open: it makes one batch of changes at a time, all or nothing. Nor
//! need it have snapshots. If other processes write to it as well, it checks values before it makes a batch.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | what an adapter implements |
//! | `backend` | the backend over it |
//! | `layout` | the declared tables, compared with what the database has |
//! | `keys` | where rows are |
//! | `row` | columns as bytes |
//! | `draft` | commits become a batch |
//! | `fill` | indexes that are declared later |
//! | `look` | answers to questions |
//! | `versions` | snapshots for databases that have none |

mod backend;
mod database;
mod draft;
mod fill;
mod keys;
mod layout;
mod look;
mod row;
#[cfg(test)]
mod tests;
mod versions;

pub use backend::{KeyValueBackend, OpenAs};
pub use database::{Database, DatabaseInfo, Each, Key, Rows, Value, WriteBatch, Written};

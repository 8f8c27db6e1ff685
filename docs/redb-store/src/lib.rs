//! A store for the im engine: one file of [redb](https://docs.rs/redb). `docs/store.md` goes through it.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | transactions, and what redb's errors mean |
//! | `rows` | what a transaction reads and writes |
//! | `file` | the file: making it, and mending it after a sync that failed |

mod database;
mod file;
mod rows;

use std::path::PathBuf;

use im_core::keyed::KeyedStore;
pub use im_core::keyed::OpenAs;
use im_core::ports::{StoreError, StoreErrorKind, StoreResult};

pub use crate::database::Redb;

/// The store.
pub type RedbStore = KeyedStore<Redb>;

/// Opens the store in this file, or begins one where there is no file; the folder must be there. One process
/// at a time can have it open. Say [`OpenAs::NewGeneration`] once after the file was put back from a copy.
///
/// # Errors
///
/// [`StoreErrorKind::Unavailable`] if it is open already, or cannot be opened; [`StoreErrorKind::Corrupt`] if
/// it is damaged, or of another layout.
pub async fn open(path: impl Into<PathBuf>, open_as: OpenAs) -> StoreResult<RedbStore> {
    let path = path.into();
    let opened =
        tokio::task::spawn_blocking(move || Redb::open(path)).await.map_err(|error| {
            StoreError::new(StoreErrorKind::Unavailable, "the opening was broken off")
                .because(error)
        })??;
    KeyedStore::open(opened, open_as).await
}

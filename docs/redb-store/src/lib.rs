//! A backend for the im engine: one file of [redb](https://docs.rs/redb). `docs/store.md` goes through it.
//!
//! | module | what it holds |
//! |---|---|
//! | `database` | snapshots and batches, and what redb's errors mean |
//! | `rows` | what a transaction reads |
//! | `file` | the file: making it, and mending it after a sync that failed |

mod database;
mod file;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;

use im_core::backend::BackendErrorKind::Unavailable;
use im_core::backend::{BackendError, BackendResult};
use im_core::kv::KeyValueBackend;
pub use im_core::kv::OpenAs;
use im_core::ports::StoreResult;
use im_core::store::BackendStore;

pub use crate::database::Redb;

/// Opens the backend in this file, or begins one where there is no file; the folder must be there. One process
/// at a time can have it open. Say [`OpenAs::NewGeneration`] once after the file was put back from a copy.
///
/// # Errors
///
/// `Unavailable` if it is open already, or cannot be opened; `Corrupt` if it is damaged.
pub async fn backend(
    path: impl Into<PathBuf>,
    open_as: OpenAs,
) -> BackendResult<KeyValueBackend<Redb>> {
    let path = path.into();
    let opened = tokio::task::spawn_blocking(move || Redb::open(path)).await;
    let broken = |e| BackendError::new(Unavailable, "opening the file broke off").because(e);
    let opened = opened.map_err(broken)?;
    Ok(KeyValueBackend::new(opened?, open_as))
}

/// Opens a store over [`backend`], and fails as that does.
pub async fn open(path: impl Into<PathBuf>, open_as: OpenAs) -> StoreResult<BackendStore> {
    BackendStore::open(Arc::new(backend(path, open_as).await?)).await
}

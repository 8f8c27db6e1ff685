//! The stores that are killed, cut off from power and made to fail. A store is added by a line in each of the two lists.

use std::path::Path;
use std::sync::Arc;

use im_core::ports::{Store, StoreError, StoreErrorKind, StoreResult};
use im_store_sled::{SledConfig, SledStore};
use im_store_sql::{SqlConfig, SqliteStore};

/// Their names.
pub const STORES: &[&str] = &["sled", "sqlite"];

/// Opens one, in a folder that may not be there yet.
///
/// # Errors
///
/// As the store's; `Unavailable` for a name that is not known.
pub async fn open(store: &str, folder: &Path) -> StoreResult<Arc<dyn Store>> {
    Ok(match store {
        "sled" => Arc::new(SledStore::open(SledConfig::new(folder).cache_bytes(16 << 20)).await?),
        "sqlite" => Arc::new(SqliteStore::open(SqlConfig::sqlite(folder.join("im.db"))).await?),
        other => {
            let message = format!("there is no store {other}; there are {STORES:?}");
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
    })
}

/// Reads a store that is closed from end to end, where it can do that by itself: both do for a backup.
///
/// # Errors
///
/// `Corrupt` with what is wrong, or as the store's.
pub async fn look_through(store: &str, folder: &Path) -> StoreResult<()> {
    let copy = folder.with_extension("copy");
    let gone = match store {
        "sled" => {
            let store = SledStore::open(SledConfig::new(folder)).await?;
            let copied = store.backup(&copy).await;
            store.close().await?;
            copied?;
            std::fs::remove_dir_all(&copy)
        }
        "sqlite" => {
            let store = SqliteStore::open(SqlConfig::sqlite(folder.join("im.db"))).await?;
            let copied = store.backup(&copy).await;
            store.close().await?;
            copied?;
            std::fs::remove_file(&copy)
        }
        _ => return Ok(()),
    };
    gone.map_err(|error| {
        StoreError::new(StoreErrorKind::Unavailable, "the copy stays").because(error)
    })
}

/// Those that the proofs are for: the one that `IM_PROVE_STORE` names, or all.
///
/// # Panics
///
/// If it names none of them.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn chosen() -> Vec<&'static str> {
    let Ok(named) = std::env::var("IM_PROVE_STORE") else { return STORES.to_vec() };
    match STORES.iter().find(|store| **store == named) {
        Some(store) => vec![store],
        None => panic!("IM_PROVE_STORE={named}: there is no such store; there are {STORES:?}"),
    }
}

/// The number that an environment variable holds.
///
/// # Panics
///
/// If it holds something else.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

//! The stores under test for kills, power cuts and disk faults. A new store needs a line in each of
//! the two lists.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use im_core::ports::{Store, StoreError, StoreErrorKind, StoreResult};
use im_store_sled::{SledConfig, SledStore};
use im_store_sql::{MySqlStore, PostgresStore, SqlConfig, SqliteStore};
use im_test_databases::Kind;

/// Stores in a folder.
pub const STORES: &[&str] = &["sled", "sqlite"];

/// Stores on a database server, which is killed too.
pub const SERVERS: &[&str] = &["postgres", "mariadb"];

/// Returns the kind of server that a store needs, if any.
pub fn server(store: &str) -> Option<Kind> {
    match store {
        "postgres" => Some(Kind::Postgres),
        "mariadb" => Some(Kind::MariaDb),
        _ => None,
    }
}

/// How long a worker waits for an unreachable server in each attempt: shorter than some outages, so
/// that some sends wait and others are refused.
const IMPATIENT: Duration = Duration::from_millis(200);

/// Opens a store, in a folder that may not exist yet, or at the address of a server.
///
/// # Errors
///
/// As the store's; `Unavailable` for an unknown name.
pub async fn open(store: &str, place: &str) -> StoreResult<Arc<dyn Store>> {
    open_with(store, place, SqlConfig::new(place)).await
}

/// The same for a worker, which does not wait long for a server.
///
/// # Errors
///
/// As [`open`].
pub async fn open_for_worker(store: &str, place: &str) -> StoreResult<Arc<dyn Store>> {
    open_with(store, place, SqlConfig::new(place).patience(IMPATIENT)).await
}

async fn open_with(store: &str, place: &str, on_server: SqlConfig) -> StoreResult<Arc<dyn Store>> {
    let folder = Path::new(place);
    Ok(match store {
        "sled" => Arc::new(SledStore::open(SledConfig::new(folder).cache_bytes(16 << 20)).await?),
        "sqlite" => Arc::new(SqliteStore::open(SqlConfig::sqlite(folder.join("im.db"))).await?),
        "postgres" => Arc::new(PostgresStore::open(on_server).await?),
        "mariadb" => Arc::new(MySqlStore::open(on_server).await?),
        other => {
            let message =
                format!("there is no store {other}; there are {STORES:?} and {SERVERS:?}");
            return Err(StoreError::new(StoreErrorKind::Unavailable, message));
        }
    })
}

/// Reads a closed store from end to end, if it can check itself: both do for a backup.
///
/// # Errors
///
/// `Corrupt` with the damage, or as the store's.
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

/// Returns those of `stores` that a proof is for: the one in `IM_PROVE_STORE`, or all.
///
/// # Panics
///
/// If `IM_PROVE_STORE` names no store.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn chosen(stores: &[&'static str]) -> Vec<&'static str> {
    let Ok(named) = std::env::var("IM_PROVE_STORE") else { return stores.to_vec() };
    if ![STORES, SERVERS].concat().contains(&named.as_str()) {
        panic!(
            "IM_PROVE_STORE={named}: there is no such store; there are {STORES:?} and {SERVERS:?}"
        );
    }
    stores.iter().copied().filter(|store| *store == named).collect()
}

/// The same of the stores in a folder, for proofs that simulate their disk.
///
/// # Panics
///
/// If `IM_PROVE_STORE` names no store, or one on a server, which manages its own disk.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn chosen_on_disk() -> Vec<&'static str> {
    let chosen = chosen(STORES);
    assert!(!chosen.is_empty(), "IM_PROVE_STORE names a server, which manages its own disk");
    chosen
}

/// Returns the number of kills and the seed: from the environment, otherwise a short run with a
/// random seed.
///
/// # Panics
///
/// If a value is not a number.
pub fn kills(store: &str, what: &str, short: u64) -> (u64, u64) {
    let kills = number("IM_PROVE_KILLS").unwrap_or(short);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{kills} kills {what} on {store}, IM_PROVE_SEED={seed}");
    (kills, seed)
}

/// Kills of one store before a new one is started: the check after each kill takes longer the more
/// the store contains.
const KILLS_PER_STORE: u64 = 1_000;

/// Divides the kills among stores: returns count and seed for each.
pub fn kill_runs(kills: u64, seed: u64) -> impl Iterator<Item = (u32, u64)> {
    let run = move |begun: u64| {
        // At most those of one store.
        let left = u32::try_from((kills - begun).min(KILLS_PER_STORE)).unwrap_or(u32::MAX);
        (left, seed.wrapping_add(begun))
    };
    (0..kills).step_by(KILLS_PER_STORE as usize).map(run)
}

/// Returns the number in an environment variable.
///
/// # Panics
///
/// If the value is not a number.
#[allow(clippy::panic, reason = "a test fails by a panic")]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

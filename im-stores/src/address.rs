//! Addresses of stores.

use std::fmt;
use std::path::Path;
#[cfg(any(feature = "sled", feature = "sqlite"))]
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_core::ports::{Store, StoreError, StoreErrorKind, StoreResult};

use crate::name::{BadAddress, DEFAULT_FOLDER, StoreName};

/// The address of a store: its kind and location.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAddress {
    /// `memory`: lost with the process.
    Memory,
    /// `sled:PATH`: in a folder, by sled.
    #[cfg(feature = "sled")]
    Sled(PathBuf),
    /// `sqlite:PATH`: in a file, by SQLite. The path is used literally: it has no escapes, and no
    /// parameters follow it.
    #[cfg(feature = "sqlite")]
    Sqlite(PathBuf),
    /// `postgres://USER:PASSWORD@HOST:PORT/NAME`: in a PostgreSQL database.
    #[cfg(feature = "postgres")]
    Postgres(String),
    /// `mysql://USER:PASSWORD@HOST:PORT/NAME`: in a MySQL or MariaDB database.
    #[cfg(feature = "mysql")]
    MySql(String),
}

/// Settings that every store has, for comparisons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tuning {
    /// Appends and other writes in one commit; `None` means the store's default.
    pub max_batch: Option<usize>,
    /// Bytes of the cache of a store in this process; `None` means its default. Raised to the
    /// store's minimum. Ignored for database servers, which have settings of their own.
    pub cache_bytes: Option<u64>,
}

/// The smallest cache that sled works with, in bytes.
#[cfg(feature = "sled")]
const LEAST_OF_SLED: u64 = 256;

impl Tuning {
    /// Sets [`Tuning::max_batch`].
    #[must_use]
    pub fn max_batch(mut self, count: usize) -> Self {
        self.max_batch = Some(count);
        self
    }

    /// Sets [`Tuning::cache_bytes`].
    #[must_use]
    pub fn cache_bytes(mut self, bytes: u64) -> Self {
        self.cache_bytes = Some(bytes);
        self
    }
}

impl FromStr for StoreAddress {
    type Err = BadAddress;

    /// Parses an address. A kind without a path is in [`DEFAULT_FOLDER`].
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Ok(text.parse::<StoreName>()?.within(Path::new(DEFAULT_FOLDER)))
    }
}

impl StoreAddress {
    /// Opens the store with its defaults. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The store's own error; its text says what to do.
    pub async fn open(&self) -> StoreResult<Arc<dyn Store>> {
        self.open_tuned(Tuning::default()).await
    }

    /// Opens the store with these settings.
    ///
    /// # Errors
    ///
    /// As [`StoreAddress::open`].
    pub async fn open_tuned(&self, tuning: Tuning) -> StoreResult<Arc<dyn Store>> {
        Ok(match self {
            Self::Memory => Arc::new(MemoryStore::new()),
            #[cfg(feature = "sled")]
            Self::Sled(path) => {
                let config = im_store_sled::SledConfig::new(path);
                let config = tuning.max_batch.iter().fold(config, |c, n| c.max_batch(*n));
                let cache = tuning.cache_bytes.map(|bytes| bytes.max(LEAST_OF_SLED));
                let config = cache.iter().fold(config, |c, bytes| c.cache_bytes(*bytes));
                Arc::new(im_store_sled::SledStore::open(config).await?)
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let config = tuned(im_store_sql::SqlConfig::sqlite(path), tuning);
                Arc::new(im_store_sql::SqliteStore::open(config).await?)
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => {
                let config = tuned(im_store_sql::SqlConfig::new(url), tuning);
                Arc::new(im_store_sql::PostgresStore::open(config).await?)
            }
            #[cfg(feature = "mysql")]
            Self::MySql(url) => {
                let config = tuned(im_store_sql::SqlConfig::new(url), tuning);
                Arc::new(im_store_sql::MySqlStore::open(config).await?)
            }
        })
    }

    /// Whether there may be a store at the address: its folder or file exists. Never for memory;
    /// always for a database server, which is not queried.
    pub fn may_exist(&self) -> bool {
        match self {
            Self::Memory => false,
            #[cfg(feature = "sled")]
            Self::Sled(path) => path.join("status").exists(),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => path.exists(),
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => true,
            #[cfg(feature = "mysql")]
            Self::MySql(_) => true,
        }
    }

    /// Copies the store to `to`, which must be empty or missing, and checks the copy. Returns how
    /// many rooms it has.
    ///
    /// # Errors
    ///
    /// The store's error; `Unavailable` for memory, and for database servers, which have backup
    /// tools of their own.
    pub async fn backup(&self, to: &Path) -> StoreResult<u64> {
        if self.is_durable() && !self.may_exist() {
            return Err(nothing_at(self));
        }
        match self {
            #[cfg(feature = "sled")]
            Self::Sled(path) => {
                let config = im_store_sled::SledConfig::new(path);
                let store = im_store_sled::SledStore::open(config).await?;
                let made = store.backup(to).await;
                store.close().await?;
                made.map(|made| made.rooms as u64)
            }
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                let config = im_store_sql::SqlConfig::sqlite(path);
                let store = im_store_sql::SqliteStore::open(config).await?;
                let made = store.backup(to).await;
                store.close().await?;
                made.map(|made| made.rooms)
            }
            _ => Err(by_other_means(self)),
        }
    }

    /// Copies a backup to this address, which must be empty. Opening the copy begins a new
    /// generation.
    ///
    /// # Errors
    ///
    /// As [`StoreAddress::backup`].
    pub async fn restore(&self, from: &Path) -> StoreResult<()> {
        match self {
            #[cfg(feature = "sled")]
            Self::Sled(path) => im_store_sled::SledStore::restore(from, path).await,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => {
                if !from.is_file() {
                    return Err(nothing_at(&Self::Sqlite(from.to_owned())));
                }
                // Restoring is a backup of the backup: checked, and with a new generation.
                let from = im_store_sql::SqlConfig::sqlite(from);
                let store = im_store_sql::SqliteStore::open(from).await?;
                let made = store.backup(path).await;
                store.close().await?;
                made.map(|_| ())
            }
            _ => Err(by_other_means(self)),
        }
    }

    /// Whether the store's data survives the process.
    pub fn is_durable(&self) -> bool {
        *self != Self::Memory
    }

    /// Returns the kind: `memory`, `sled` …
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Memory => "memory",
            #[cfg(feature = "sled")]
            Self::Sled(_) => "sled",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(_) => "sqlite",
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "postgres",
            #[cfg(feature = "mysql")]
            Self::MySql(_) => "mysql",
        }
    }

    /// Returns the address with its password: for the command line of another process, not for
    /// logs.
    pub fn reveal(&self) -> String {
        match self {
            Self::Memory => "memory".to_owned(),
            #[cfg(feature = "sled")]
            Self::Sled(path) => format!("sled:{}", path.display()),
            #[cfg(feature = "sqlite")]
            Self::Sqlite(path) => format!("sqlite:{}", path.display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => url.clone(),
            #[cfg(feature = "mysql")]
            Self::MySql(url) => url.clone(),
        }
    }
}

fn nothing_at(address: &StoreAddress) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, format!("there is no store at {address}"))
}

fn by_other_means(address: &StoreAddress) -> StoreError {
    let message = format!(
        "this program does not copy a {} store: memory has nothing to copy, a database server has backup tools of its own",
        address.kind()
    );
    StoreError::new(StoreErrorKind::Unavailable, message)
}

#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
fn tuned(config: im_store_sql::SqlConfig, tuning: Tuning) -> im_store_sql::SqlConfig {
    let config = tuning.max_batch.iter().fold(config, |config, count| config.max_batch(*count));
    tuning.cache_bytes.iter().fold(config, |config, bytes| config.cache_bytes(*bytes))
}

impl fmt::Display for StoreAddress {
    /// The address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.reveal();
        // Paths have no secrets. From a server's address, user, password and parameters are
        // removed.
        let Some((scheme, rest)) = text.split_once("://") else { return f.write_str(&text) };
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        match rest.rsplit_once('@') {
            Some((_, place)) => write!(f, "{scheme}://…@{place}"),
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(feature = "sled", feature = "postgres", feature = "mysql"))]
    #[test]
    fn addresses_parse_and_hide_passwords() {
        for (text, shown) in [
            ("memory", "memory"),
            ("sled:im-data", "sled:im-data"),
            ("sqlite:a/b.db", "sqlite:a/b.db"),
            ("sqlite://b.db", "sqlite:b.db"),
            ("postgres://ann:secret@localhost:1/chat", "postgres://…@localhost:1/chat"),
            ("mariadb://ann:secret@localhost/chat", "mysql://…@localhost/chat"),
            ("postgres://localhost/chat?user=ann&password=secret", "postgres://localhost/chat"),
        ] {
            assert_eq!(text.parse::<StoreAddress>().map(|a| a.to_string()), Ok(shown.to_owned()));
        }
    }

    /// Copying or restoring from a source that does not exist creates nothing.
    #[tokio::test]
    async fn missing_source_copies_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (nothing, copy) = (folder.path().join("nothing"), folder.path().join("copy"));
        for kind in ["sqlite", "sled"] {
            if cfg!(not(feature = "sled")) && kind == "sled" {
                continue;
            }
            let text = format!("{kind}:{}", nothing.display());
            let address: StoreAddress = text.parse().unwrap();
            address.backup(&copy).await.unwrap_err();
            let to = text.replace("nothing", "restored").parse::<StoreAddress>().unwrap();
            to.restore(&nothing).await.unwrap_err();
        }
        assert!(!nothing.exists() && !copy.exists());
    }

    #[tokio::test]
    async fn sqlite_path_is_used_literally() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["100%.db", "a%20b.db", "what?mode=memory"] {
            let path = folder.path().join(name);
            let address: StoreAddress = format!("sqlite:{}", path.display()).parse().unwrap();
            assert!(!address.may_exist());
            address.open().await.unwrap().close().await.unwrap();
            assert!(address.may_exist() && path.is_file(), "{name}");
        }
        let memory: StoreAddress = "sqlite::memory:".parse().unwrap();
        assert!(memory.open().await.err().unwrap().to_string().contains("needs a file"));
    }
}

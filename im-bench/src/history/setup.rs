//! The location of the two stores: at given addresses, or in a temporary folder of the run's own.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use im_stores::StoreAddress;
use im_test_databases::{Kind, Server};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection};
use tempfile::TempDir;
use tokio::task::block_in_place;

/// A kind of store that a run creates by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Own {
    /// In a folder, by sled.
    Sled,
    /// In a file, by SQLite.
    Sqlite,
    /// Two databases of one PostgreSQL server.
    Postgres,
    /// Two databases of one MariaDB server.
    Mariadb,
}

/// One of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Small,
    Large,
}

impl Which {
    /// Both stores.
    pub(super) const BOTH: [Self; 2] = [Self::Small, Self::Large];

    /// Returns its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

/// The caches that were empty when a store was opened cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Cold {
    /// All: its own cache was empty, and the system had dropped its files.
    FromDisk,
    /// The store's own cache. The system may have cached its files.
    OwnCacheEmpty,
    /// None for certain: an external server kept running.
    ServerWentOn,
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromDisk => "own cache empty, files dropped from the system's cache",
            Self::OwnCacheEmpty => "own cache empty, files still in the system's cache",
            Self::ServerWentOn => "new connections to a server that went on",
        })
    }
}

/// The two stores.
#[derive(Debug)]
pub(super) struct Setup {
    small: StoreAddress,
    large: StoreAddress,
    server: Option<Server>,
    _folder: Option<TempDir>,
}

impl Setup {
    /// Uses these addresses, which must name durable stores of one kind.
    ///
    /// # Errors
    ///
    /// If they do not.
    pub(super) fn at(small: StoreAddress, large: StoreAddress) -> Result<Self> {
        ensure!(small.is_durable(), "memory holds nothing that lasts; name a durable store");
        ensure!(
            small.kind() == large.kind(),
            "the small store is {} and the large one {}: only two of a kind can be compared",
            small.kind(),
            large.kind()
        );
        ensure!(small != large, "both stores are the same: {small}");
        Ok(Self { small, large, server: None, _folder: None })
    }

    /// Creates both in a temporary folder, which is removed after the run.
    ///
    /// # Errors
    ///
    /// If there is no temporary folder, or the server is not installed or does not start.
    pub(super) async fn make(own: Own) -> Result<Self> {
        let in_folder = |address: fn(PathBuf) -> StoreAddress| {
            let folder = tempfile::tempdir()?;
            let [small, large] = Which::BOTH.map(|which| address(folder.path().join(which.name())));
            Ok(Self { small, large, server: None, _folder: Some(folder) })
        };
        match own {
            Own::Sled => in_folder(StoreAddress::Sled),
            Own::Sqlite => in_folder(StoreAddress::Sqlite),
            Own::Postgres => Self::on_server(Kind::Postgres).await,
            Own::Mariadb => Self::on_server(Kind::MariaDb).await,
        }
    }

    async fn on_server(kind: Kind) -> Result<Self> {
        let server = block_in_place(|| Server::start(kind))?;
        let url = server.url();
        let (page, _) = url.rsplit_once('/').context("the server's address names no database")?;
        let mut addresses = Vec::new();
        for which in Which::BOTH {
            let name = format!("history_{}", which.name());
            create_database(kind, &url, &name).await?;
            addresses.push(format!("{page}/{name}").parse::<StoreAddress>()?);
        }
        let [small, large] = <[StoreAddress; 2]>::try_from(addresses)
            .map_err(|_| anyhow::anyhow!("a comparison has two stores"))?;
        Ok(Self { small, large, server: Some(server), _folder: None })
    }

    /// Returns the address of one of them.
    pub(super) fn address(&self, which: Which) -> &StoreAddress {
        match which {
            Which::Small => &self.small,
            Which::Large => &self.large,
        }
    }

    /// Returns their kind.
    pub(super) fn kind(&self) -> &'static str {
        self.small.kind()
    }

    /// Returns the process of the server, if the run started it.
    pub(super) fn server(&self) -> Option<u32> {
        self.server.as_ref().and_then(Server::pid)
    }

    /// Empties the caches of a closed store, as far as possible.
    ///
    /// # Errors
    ///
    /// If the server does not restart.
    pub(super) fn cool(&mut self, which: Which) -> Result<Cold> {
        let address = self.address(which).clone();
        let page = match (&mut self.server, address) {
            (Some(server), _) => {
                block_in_place(|| server.restart())?;
                server.folder().to_owned()
            }
            (None, StoreAddress::Sled(path) | StoreAddress::Sqlite(path)) => path,
            (None, _) => return Ok(Cold::ServerWentOn),
        };
        Ok(match block_in_place(|| drop_from_cache(&page)) {
            Ok(()) => Cold::FromDisk,
            Err(error) => {
                tracing::info!(%error, "the system did not drop the files from its cache");
                Cold::OwnCacheEmpty
            }
        })
    }
}

/// Creates a database on a server that the run started. The name is a constant.
async fn create_database(kind: Kind, url: &str, name: &str) -> Result<()> {
    let sql = AssertSqlSafe(format!("CREATE DATABASE {name}"));
    match kind {
        Kind::Postgres => {
            let mut server = sqlx::PgConnection::connect(url).await?;
            sqlx::raw_sql(sql).execute(&mut server).await?;
        }
        Kind::MariaDb => {
            let mut server = sqlx::MySqlConnection::connect(url).await?;
            sqlx::raw_sql(sql).execute(&mut server).await?;
        }
    }
    Ok(())
}

/// Bytes. Smaller files, of which a database server has hundreds, hold no rows of a store.
const WORTH_DROPPING: u64 = 64 << 10;

/// Asks the system to drop a file, or the files below a folder, from its cache. Files that are not
/// being written are dropped; no privileges are needed.
fn drop_from_cache(page: &Path) -> Result<()> {
    let found = fs::metadata(page)?;
    if found.is_dir() {
        for entry in fs::read_dir(page)? {
            match drop_from_cache(&entry?.path()) {
                // A server may remove files at any time.
                Err(error) if is_not_there(&error) => {}
                outcome => outcome?,
            }
        }
        return Ok(());
    }
    if !found.is_file() || found.len() < WORTH_DROPPING {
        return Ok(());
    }
    // Unwritten data is not dropped.
    File::open(page)?.sync_all()?;
    // `nocache` with a count of 0 is posix_fadvise(POSIX_FADV_DONTNEED) for the whole file (GNU
    // coreutils, `dd`).
    let mut from = std::ffi::OsString::from("if=");
    from.push(page);
    let mut dd = Command::new("dd");
    let output = dd.arg(from).args(["iflag=nocache", "count=0", "status=none"]).output()?;
    if !output.status.success() {
        bail!("dd: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn is_not_there(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comparison accepts two distinct durable stores of one kind only.
    #[test]
    fn only_durable_same_kind_stores_compare() {
        let at = |small: &str, large: &str| {
            Setup::at(small.parse().unwrap(), large.parse().unwrap()).map(|setup| setup.kind())
        };
        assert_eq!(at("sqlite:a", "sqlite:b").unwrap(), "sqlite");
        for (small, large) in
            [("memory", "memory"), ("sqlite:a", "sled:b"), ("sqlite:a", "sqlite:a")]
        {
            at(small, large).unwrap_err();
        }
    }
}

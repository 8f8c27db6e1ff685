//! The location of the store, and restarts of killed processes.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use im_stores::{BadAddress, StoreAddress};
use im_test_databases::{self as databases, Kind};
use serde::Serialize;
use tokio::sync::mpsc;

use super::ledger::Ledger;
use super::log::mix;
use crate::child::Server;
use crate::serve;
use crate::subject::StoreChoice;

/// The value of `--store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StoreTarget {
    /// On a database server that is started for the run.
    OnOwn(Kind),
    /// At an address or in a temporary folder.
    In(StoreChoice),
}

impl StoreTarget {
    /// Returns the database server that the run starts, and may kill.
    pub(super) fn database(&self) -> Option<Kind> {
        match self {
            Self::OnOwn(kind) => Some(*kind),
            Self::In(_) => None,
        }
    }

    /// Starts the database server, if there is one.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not start.
    pub(super) async fn start_database(&self) -> Result<Option<databases::Server>> {
        let Some(kind) = self.database() else { return Ok(None) };
        let started = blocking(move || databases::Server::start(kind)).await;
        started.map(Some).with_context(|| format!("start {kind} for the run"))
    }

    /// Returns whether the data survives the server.
    pub(super) fn is_durable(&self) -> bool {
        match self {
            Self::OnOwn(_) => true,
            Self::In(choice) => choice.is_durable(),
        }
    }
}

impl FromStr for StoreTarget {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        Ok(match text {
            "postgres" => Self::OnOwn(Kind::Postgres),
            "mariadb" => Self::OnOwn(Kind::MariaDb),
            _ => Self::In(text.parse()?),
        })
    }
}

impl fmt::Display for StoreTarget {
    /// Writes its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnOwn(Kind::Postgres) => f.write_str("postgres"),
            Self::OnOwn(Kind::MariaDb) => f.write_str("mariadb"),
            Self::In(choice) => choice.fmt(f),
        }
    }
}

impl Serialize for StoreTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Starts and restarts the server.
pub(super) struct ServerHost {
    pub(super) store: StoreAddress,
    pub(super) address: SocketAddr,
    /// Whether the store is on a database server of the run's own.
    pub(super) has_database: bool,
}

impl ServerHost {
    /// Creates it with a store, a folder, possibly a database of the run's own, and a port.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub(super) fn new(
        target: &StoreTarget,
        folder: &Path,
        database: Option<&databases::Server>,
        seed: u64,
    ) -> Result<Self> {
        let store = match (target, database) {
            (StoreTarget::In(choice), _) => choice.address(folder),
            (StoreTarget::OnOwn(_), Some(database)) => database.url().parse()?,
            (StoreTarget::OnOwn(kind), None) => bail!("{kind} was not started"),
        };
        let address = fixed_address(seed)?;
        Ok(Self { store, address, has_database: database.is_some() })
    }

    /// Starts the server.
    pub(super) async fn start(&self) -> Result<Server> {
        let mut args = serve::arguments(&self.store);
        args.extend(["--listen".to_owned(), self.address.to_string()]);
        Server::start(&args).await
    }

    /// Restarts the server after every kill. Ends only with an error.
    pub(super) async fn keep_running(
        self: Arc<Self>,
        ledger: Arc<Ledger>,
        mut corpses: mpsc::UnboundedReceiver<Server>,
    ) -> Result<()> {
        while let Some(server) = corpses.recv().await {
            server.gone().await?;
            let server = match self.start().await {
                // The server waits for an unavailable database, but not for long: then restart it.
                Err(_) if self.has_database => {
                    ledger.has_database().await;
                    self.start().await
                }
                started => started,
            };
            ledger.up(server.context("restart the server after a kill")?);
        }
        bail!("the ledger has ended, so the server is not restarted")
    }
}

/// Restarts the database after every kill. Ends only with an error.
pub(super) async fn keep_database_running(
    ledger: Arc<Ledger>,
    mut corpses: mpsc::UnboundedReceiver<databases::Server>,
) -> Result<()> {
    while let Some(mut database) = corpses.recv().await {
        let restarted = blocking(move || database.restart().map(|()| database)).await;
        ledger.database_up(restarted.context("restart the database after a kill")?);
    }
    bail!("the ledger has ended, so the database is not restarted")
}

/// Runs blocking work on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, databases::Error> + Send + 'static,
) -> Result<T> {
    Ok(tokio::task::spawn_blocking(act).await??)
}

/// Returns a free port that no client is assigned by chance. While the server is down, a client
/// that connects to a port of the system's ephemeral range may be assigned that port, connect to
/// itself, and block the server's restart.
pub(crate) fn fixed_address(seed: u64) -> Result<SocketAddr> {
    let mut draw = mix(seed ^ u64::from(std::process::id()));
    for _ in 0..100 {
        draw = mix(draw);
        let address =
            SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + u16::try_from(draw % 10_000)?));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no port between 20000 and 30000 is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bare database name means a server that the run starts itself.
    #[test]
    fn bare_database_name_starts_own_server() {
        for (text, shown, own) in [
            ("postgres", "postgres", Some(Kind::Postgres)),
            ("mariadb", "mariadb", Some(Kind::MariaDb)),
            ("postgres://ann:secret@host/chat", "postgres", None),
            ("mysql://ann:secret@host/chat", "mysql", None),
            ("sled", "sled", None),
            ("memory", "memory", None),
        ] {
            let target: StoreTarget = text.parse().unwrap();
            assert_eq!((target.to_string().as_str(), target.database()), (shown, own), "{text}");
            assert_eq!(target.is_durable(), text != "memory");
        }
        assert!("mysql".parse::<StoreTarget>().is_err(), "the run starts MariaDB, not MySQL");
    }
}

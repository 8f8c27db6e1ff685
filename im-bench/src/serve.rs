//! `im-bench serve`: the engine behind its WebSocket transport, as a process to measure and to kill.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::subject::StoreKind;

/// What `im-bench serve` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where to keep things.
    #[arg(long, value_enum, default_value_t = StoreKind::Memory)]
    store: StoreKind,
    /// The store's folder; it is made if it is not there. Not needed for `memory`.
    #[arg(long, required_if_eq("store", "sled"))]
    data: Option<PathBuf>,
    /// Stay on this core.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
}

/// The command line of a server that keeps what it keeps in `data`.
pub(crate) fn arguments(store: StoreKind, data: &Path) -> Vec<String> {
    ["serve", "--store", &store.to_string(), "--data", &data.display().to_string()]
        .map(str::to_owned)
        .to_vec()
}

/// Serves until standard input ends or SIGTERM comes.
pub(crate) async fn run(options: Options) -> Result<()> {
    bail!("{options:?}")
}

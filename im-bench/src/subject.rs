//! What is measured: the engine on one of its stores, or the naive server.

use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::child::Server;

/// Where the engine keeps things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    /// In memory: gone with the process.
    Memory,
    /// In sled, in a folder, synced before every acknowledgement.
    Sled,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Sled => "sled",
        })
    }
}

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The engine.
    Engine(StoreKind),
    /// The yardstick.
    Naive,
}

impl Subject {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine(StoreKind::Memory) => "engine (memory)",
            Self::Engine(StoreKind::Sled) => "engine (sled)",
            Self::Naive => "naive",
        }
    }

    /// Starts it on a core. `data` is a folder of its own for what it keeps.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) async fn start(self, data: &Path, core: Option<usize>) -> Result<Server> {
        let mut args = match self {
            Self::Naive => vec!["naive".to_owned()],
            Self::Engine(store) => crate::serve::arguments(store, data),
        };
        if let Some(core) = core {
            args.extend(["--cpu".to_owned(), core.to_string()]);
        }
        Server::start(&args).await
    }
}

/// Where server and generator run in the load scenarios.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cores {
    /// The core that the server stays on.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core that the load generator stays on.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Let both run anywhere: for machines with one core. The figures then say little.
    #[arg(long)]
    no_pinning: bool,
}

impl Cores {
    /// The server's core, if it is to be pinned.
    pub(crate) fn server(&self) -> Option<usize> {
        (!self.no_pinning).then_some(self.server_core)
    }

    /// The generator's core, if it is to be pinned.
    pub(crate) fn generator(&self) -> Option<usize> {
        (!self.no_pinning).then_some(self.generator_core)
    }
}

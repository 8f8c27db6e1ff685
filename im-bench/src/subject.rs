//! The subjects of a measurement: the engine on one of its stores, or the naive server.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use anyhow::Result;
use im_stores::{BadAddress, StoreAddress, StoreName};
use serde::Serialize;

use crate::child::Server;

/// The store of the engine: at an address, which must be empty, or in a folder of the run's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoreChoice(StoreName);

impl StoreChoice {
    /// Returns the address; `folder` is the run's own.
    pub(crate) fn address(&self, folder: &Path) -> StoreAddress {
        self.0.within(folder)
    }

    /// Returns whether its data survives the server.
    pub(crate) fn is_durable(&self) -> bool {
        self.0.is_durable()
    }

    /// Returns its kind.
    pub(crate) fn kind(&self) -> &'static str {
        self.0.kind()
    }
}

impl FromStr for StoreChoice {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        text.parse().map(Self)
    }
}

impl fmt::Display for StoreChoice {
    /// Writes its kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl Serialize for StoreChoice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.kind())
    }
}

/// A server to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The engine, on a store of this kind.
    Engine(&'static str),
    /// The baseline.
    Naive,
}

impl Subject {
    /// Returns its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Engine("memory") => "engine (memory)",
            Self::Engine("sled") => "engine (sled)",
            Self::Engine("sqlite") => "engine (sqlite)",
            Self::Engine(_) => "engine (database)",
            Self::Naive => "naive",
        }
    }

    /// Starts it on a core. `data` is a folder of its own for the store, if `store` needs one.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub(crate) async fn start(
        self,
        store: &StoreChoice,
        data: &Path,
        core: Option<usize>,
    ) -> Result<Server> {
        let mut args = match self {
            Self::Naive => vec!["naive".to_owned()],
            Self::Engine(_) => crate::serve::arguments(&store.address(data)),
        };
        if let Some(core) = core {
            args.extend(["--cpu".to_owned(), core.to_string()]);
        }
        Server::start(&args).await
    }
}

/// The cores of server and generator in the load scenarios.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Cores {
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the load generator.
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// Let both run on any core, for machines with one core. The figures are then unreliable.
    #[arg(long)]
    no_pinning: bool,
}

impl Cores {
    /// Returns the server's core, if it is pinned.
    pub(crate) fn server(&self) -> Option<usize> {
        (!self.no_pinning).then_some(self.server_core)
    }

    /// Returns the generator's core, if it is pinned.
    pub(crate) fn generator(&self) -> Option<usize> {
        (!self.no_pinning).then_some(self.generator_core)
    }
}

//! `im-bench attack`: the latency of a bystander while attackers send the most expensive commands.
//!
//! A server runs as a process of its own, with the default rate limit and without quotas. A
//! bystander sends a short message to a room of its own at a fixed rate, first alone and then
//! beside the attackers. The measure is the 99th percentile of its acks, each counted from the due
//! time of the send, so that a pause of the server counts in full.
//!
//! | module | what it holds |
//! |---|---|
//! | `bystander` | the user whose sends are timed |
//! | `create` | attackers that create rooms with many members at the highest rate |
//! | `history` | attackers that request large pages and read none; without a rate limit |

mod bystander;
mod create;
mod history;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use im_stores::StoreAddress;

use crate::child::Server;
use crate::subject::StoreChoice;
use crate::{host, serve};

use bystander::Bystander;

/// Options of `im-bench attack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    attack: Attack,
    #[command(flatten)]
    ground: Setup,
}

/// Options of all attacks.
#[derive(Debug, Clone, clap::Args)]
struct Setup {
    /// Store: memory; sled or sqlite, in a temporary folder; sled:PATH, sqlite:PATH, postgres://…,
    /// mysql://…, which must be empty or new.
    #[arg(long, default_value = "memory", global = true)]
    store: StoreChoice,
    /// Number of attackers, each with a connection.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    attackers: u32,
    /// Seconds of the attack.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    seconds: u64,
    /// Seconds without an attack before it.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    quiet: u64,
    /// Milliseconds from one send of the bystander to the next.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    every: u64,
}

/// The attacks.
#[derive(Debug, Clone, clap::Subcommand)]
enum Attack {
    /// Create rooms of many members, as fast as the server allows.
    Create(create::Options),
    /// Request pages of control characters without reading them.
    History(history::Options),
}

impl Attack {
    /// Returns the 99th percentile that is allowed in any case.
    fn lowest_rate(&self) -> Duration {
        match self {
            Self::Create(_) => Duration::from_millis(100),
            Self::History(_) => Duration::from_millis(50),
        }
    }

    /// Returns the command line of the attacked server.
    fn server(&self, store: &StoreAddress) -> Vec<String> {
        match self {
            Self::Create(_) => serve::limited(store),
            Self::History(_) => serve::arguments(store),
        }
    }

    /// Attacks until `until`. Returns the unmet expectations of the attackers.
    async fn run(&self, setup: &Setup, server: &Server, until: Instant) -> Result<Vec<String>> {
        match self {
            Self::Create(options) => create::run(options, setup, server.address, until).await,
            Self::History(options) => history::run(options, setup, server, until).await,
        }
    }
}

/// The time after the attack until the server's memory is read again.
const SETTLE: Duration = Duration::from_secs(10);

/// The allowed ratio of the bystander's 99th percentile to its quiet one.
const MOST_TIMES: u32 = 5;

/// Measures, prints, and fails if the bystander's latency exceeds the bound.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options { attack, ground: setup } = options;
    host::allow_open_files(u64::from(setup.attackers) * 16 + 100)?;
    let folder = tempfile::tempdir()?;
    let store = setup.store.address(folder.path());
    let server = Server::start(&attack.server(&store)).await?;
    let bystander = Bystander::begin(server.address, Duration::from_millis(setup.every)).await?;
    // The first second is the warm-up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    bystander.take();
    tokio::time::sleep(Duration::from_secs(setup.quiet)).await;
    let quiet = bystander.take();
    println!("{}: quiet: {}", setup.store, Times(&quiet));

    let until = Instant::now() + Duration::from_secs(setup.seconds);
    let mut faults = attack.run(&setup, &server, until).await?;
    // Sends that were due before the end are awaited.
    let during = bystander.end().await?;
    println!("{}: {} attackers: {}", setup.store, setup.attackers, Times(&during));
    let at_the_end = host::resident_bytes(server.pid())?;
    tokio::time::sleep(SETTLE).await;
    let later = host::resident_bytes(server.pid())?;
    println!("  server: {} MiB resident, {} MiB {SETTLE:?} later", at_the_end >> 20, later >> 20);
    server.stop().await?;

    let (before, after) = (p99(&quiet), p99(&during));
    let most = (before * MOST_TIMES).max(attack.lowest_rate());
    if after > most {
        faults.push(format!("a bystander's 99th percentile is {after:?}; {most:?} are allowed"));
    }
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}

fn p99(times: &Histogram<u64>) -> Duration {
    Duration::from_micros(times.value_at_quantile(0.99))
}

/// Latencies as they are printed.
struct Times<'a>(&'a Histogram<u64>);

impl std::fmt::Display for Times<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |quantile| Duration::from_micros(self.0.value_at_quantile(quantile));
        let (median, p99, worst) = (at(0.5), at(0.99), Duration::from_micros(self.0.max()));
        write!(f, "{} sends, median {median:?}, p99 {p99:?}, worst {worst:?}", self.0.len())
    }
}

/// The address of a server's listener.
type At = SocketAddr;

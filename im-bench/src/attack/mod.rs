//! `im-bench attack`: what another user notices while strangers send the dearest commands that there are.
//!
//! A server runs as a process of its own, with the default rate limit and without quotas. A bystander sends a short message to a
//! room of its own at a steady pace, first alone and then beside the attackers. The measure is the 99th percentile of its
//! acknowledgements, each counted from the moment at which the send was due, so that a pause of the server counts in full.
//!
//! | module | what it holds |
//! |---|---|
//! | `bystander` | the user whose sends are timed |
//! | `create` | users who make rooms of many members as fast as they may |
//! | `history` | users who ask for large pages and read nothing; here there is no limit of rates |

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

/// What `im-bench attack` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    attack: Attack,
    #[command(flatten)]
    ground: Setup,
}

/// What all attacks are told.
#[derive(Debug, Clone, clap::Args)]
struct Setup {
    /// Where to keep things: memory; sled or sqlite, in a temporary place; sled:PATH, sqlite:PATH, postgres://…, mysql://…,
    /// which must be empty or new.
    #[arg(long, default_value = "memory", global = true)]
    store: StoreChoice,
    /// Users who attack, each with a connection.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..), global = true)]
    attackers: u32,
    /// Seconds of the attack.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    seconds: u64,
    /// Seconds without it before.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    quiet: u64,
    /// Milliseconds from one send of the bystander to the next.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..), global = true)]
    every: u64,
}

/// The attacks.
#[derive(Debug, Clone, clap::Subcommand)]
enum Attack {
    /// Rooms of many members, made as fast as the server allows.
    Create(create::Options),
    /// Pages of control characters, asked for and not read.
    History(history::Options),
}

impl Attack {
    /// The 99th percentile that a bystander may always have.
    fn lowest_rate(&self) -> Duration {
        match self {
            Self::Create(_) => Duration::from_millis(100),
            Self::History(_) => Duration::from_millis(50),
        }
    }

    /// The server that is attacked.
    fn server(&self, store: &StoreAddress) -> Vec<String> {
        match self {
            Self::Create(_) => serve::limited(store),
            Self::History(_) => serve::arguments(store),
        }
    }

    /// Attacks until then. Returns what is wrong with how it went for the attackers, if anything is.
    async fn run(&self, setup: &Setup, server: &Server, until: Instant) -> Result<Vec<String>> {
        match self {
            Self::Create(options) => create::run(options, setup, server.address, until).await,
            Self::History(options) => history::run(options, setup, server, until).await,
        }
    }
}

/// Time after the attack until the server's memory is looked at again.
const SETTLE: Duration = Duration::from_secs(10);

/// How many times its quiet 99th percentile a bystander's may be.
const MOST_TIMES: u32 = 5;

/// Measures, prints, and fails if the bystander had to wait for too long.
pub(crate) async fn run(options: Options) -> Result<()> {
    let Options { attack, ground: setup } = options;
    host::allow_open_files(u64::from(setup.attackers) * 16 + 100)?;
    let folder = tempfile::tempdir()?;
    let store = setup.store.address(folder.path());
    let server = Server::start(&attack.server(&store)).await?;
    let bystander = Bystander::begin(server.address, Duration::from_millis(setup.every)).await?;
    // The first second warms up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    bystander.take();
    tokio::time::sleep(Duration::from_secs(setup.quiet)).await;
    let quiet = bystander.take();
    println!("{}: quiet: {}", setup.store, Times(&quiet));

    let until = Instant::now() + Duration::from_secs(setup.seconds);
    let mut faults = attack.run(&setup, &server, until).await?;
    // What was due before the end is waited for.
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

/// Times, as they are printed.
struct Times<'a>(&'a Histogram<u64>);

impl std::fmt::Display for Times<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |quantile| Duration::from_micros(self.0.value_at_quantile(quantile));
        let (median, p99, worst) = (at(0.5), at(0.99), Duration::from_micros(self.0.max()));
        write!(f, "{} sends, median {median:?}, p99 {p99:?}, worst {worst:?}", self.0.len())
    }
}

/// Where a server listens.
type At = SocketAddr;

//! Load, replay and comparison tool of the im engine.
//!
//! | module | contents |
//! |---|---|
//! | `serve`, `naive` | the servers, each run as a process of its own |
//! | `busy` | competing CPU load |
//! | `child`, `host` | starting, killing and measuring such a process |
//! | `socket`, `subject`, `report` | shared by the load scenarios |
//! | `idle`, `fanout` | the load scenarios |
//! | `throughput` | acked sends a second, at the in-process API and over WebSocket |
//! | `attack` | the latency of a bystander while attackers send the most expensive commands |
//! | `history` | the cost of an append and a page with little and with much history |
//! | `frames` | raw frames, checked by peers that repair nothing |
//! | `replay` | a chat log through real clients, with cuts and kills, and the proof that nothing was lost |

mod attack;
mod busy;
mod child;
mod fanout;
mod frames;
mod history;
mod host;
mod idle;
mod naive;
mod replay;
mod report;
mod serve;
mod socket;
mod subject;
mod throughput;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// Returns memory after a burst, and is faster than the system's for many small allocations in
/// threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Load, replay and comparison tool: replays chat through a server that is cut and killed, and
/// compares costs with a naive server.
#[derive(Debug, Parser)]
#[command(name = "im-bench", version)]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Replay a chat log through real clients, with cuts and kills, and prove that nothing was
    /// lost.
    Replay(replay::Options),
    /// Check the raw frames of each transport, with peers that repair nothing, through kills.
    Frames(frames::Options),
    /// Measure the memory of idle connections.
    Idle(idle::Options),
    /// Measure one room with many subscribers: CPU per delivery and latency.
    Fanout(fanout::Options),
    /// Measure acked sends a second at the engine's in-process API, with group commit and without.
    Throughput(throughput::Options),
    /// Measure appends and pages with little and with much history: their cost must not grow.
    History(history::Options),
    /// Measure the latency of a bystander while attackers send the most expensive commands.
    Attack(attack::Options),
    /// Run the engine as a server. The scenarios start it themselves.
    Serve(serve::Options),
    /// Run the naive server. The scenarios start it themselves.
    Naive(naive::Options),
}

fn main() -> Result<()> {
    let levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    tracing_subscriber::registry().with(lines).with(levels).init();
    match Arguments::parse().scenario {
        Scenario::Replay(options) => on(None, replay::run(options)),
        Scenario::Frames(options) => on(None, frames::run(options)),
        Scenario::Idle(options) => on(options.cores.generator(), idle::run(options)),
        Scenario::Fanout(options) => on(options.cores.generator(), fanout::run(options)),
        Scenario::Throughput(options) => on(None, throughput::run(options)),
        Scenario::History(options) => on(None, history::run(options)),
        Scenario::Attack(options) => on(None, attack::run(options)),
        Scenario::Serve(options) => on(options.cpu, serve::run(options)),
        Scenario::Naive(options) => on(options.cpu, naive::run(options)),
    }
}

/// Runs `work` on one core if one is given, otherwise on all.
fn on(core: Option<usize>, work: impl Future<Output = Result<()>>) -> Result<()> {
    use tokio::runtime::Builder;
    let mut runtime = match core {
        Some(core) => {
            host::pin_to_core(core)?;
            Builder::new_current_thread()
        }
        None => Builder::new_multi_thread(),
    };
    runtime.enable_all().build()?.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_without_path_parses_everywhere() {
        let scenarios =
            ["replay", "frames", "idle", "fanout", "throughput", "history", "attack create"];
        for scenario in scenarios.into_iter().chain(["serve"]) {
            for store in ["sled", "sqlite"] {
                let words = ["im-bench"].into_iter().chain(scenario.split(' '));
                let parsed = Arguments::try_parse_from(words.chain(["--store", store]));
                assert!(parsed.is_ok(), "{scenario} --store {store}: {parsed:?}");
            }
        }
    }
}

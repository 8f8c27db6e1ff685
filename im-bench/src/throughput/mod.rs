//! `im-bench throughput`: acked sends a second, in process and over WebSocket, with and without
//! group commit.
//!
//! Each of many senders sends its next message when the last one is acked. The rooms have no
//! subscribers, so that the path to the store and back is measured. A second run, on a new store,
//! commits each send by itself: the ratio of the two is the gain of group commit.
//!
//! Over WebSocket the engine is in a server, a process of its own, and each sender has a connection
//! and is a member of its room. The senders run on the same machine: their CPU time affects the
//! figures, and is reported.
//!
//! | module | contents |
//! |---|---|
//! | `engine` | tasks that publish through the engine's API |
//! | `ws` | connections to a server |

mod engine;
mod ws;

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use im_core::RoomId;
use im_core::ports::Durability;

use crate::subject::StoreChoice;

/// Options of `im-bench throughput`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Store: memory; sled or sqlite, in a temporary folder; sled:PATH, sqlite:PATH, postgres://…,
    /// mysql://…, which must be empty or new.
    #[arg(long)]
    store: StoreChoice,
    /// Path of the sends; with more than one, each runs in turn, on the same database.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "engine")]
    over: Vec<Over>,
    /// Number of concurrent tasks or connections that send.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..))]
    senders: u32,
    /// Rooms that they share.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Bytes of text in a message.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Seconds of each run, after one second to warm up.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Appends in one commit; with more than one value, each runs in turn, on the same database.
    #[arg(long, value_delimiter = ',', default_value = "512,1")]
    batch: Vec<usize>,
}

/// The path of a message to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Over {
    /// The engine's API, in this process.
    Engine,
    /// WebSocket, in MessagePack.
    Ws,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Engine => "engine",
            Self::Ws => "ws",
        })
    }
}

/// One run: its path, its batches, and its number for the names of its rooms.
#[derive(Debug, Clone, Copy)]
struct Turn {
    over: Over,
    batch: usize,
    nth: usize,
}

impl Turn {
    fn room(self, n: u32) -> Result<RoomId> {
        Ok(RoomId::new(format!("run{}-room{n}", self.nth))?)
    }
}

/// The result of one run.
struct Run {
    turn: Turn,
    a_second: f64,
    times: Histogram<u64>,
    /// CPU time of server and senders for each message, if they are separate processes.
    cpu: Option<(Duration, Duration)>,
}

/// Measures and prints.
pub(crate) async fn run(options: Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let store = options.store.address(folder.path());
    println!(
        "{store}: {} senders, {} rooms, {} bytes",
        options.senders, options.rooms, options.size
    );
    let each =
        options.over.iter().flat_map(|over| options.batch.iter().map(|batch| (*over, *batch)));
    let mut runs: Vec<Run> = Vec::new();
    for (nth, (over, batch)) in each.enumerate() {
        let turn = Turn { over, batch, nth };
        let run = match over {
            Over::Engine => engine::measure(&options, &store, turn).await?,
            Over::Ws => ws::measure(&options, &store, turn).await?,
        };
        println!("{run}");
        runs.push(run);
    }
    for line in comparisons(&runs) {
        println!("{line}");
    }
    Ok(())
}

impl Run {
    /// Creates the result from the times between `begin` and `end` of `span`.
    fn new(turn: Turn, times: Histogram<u64>, span: &Span) -> Result<Self> {
        ensure!(!times.is_empty(), "no send was acked");
        let seconds = (span.end - span.begin).as_secs_f64();
        Ok(Self { turn, a_second: times.len() as f64 / seconds, times, cpu: None })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |part| Duration::from_micros(self.times.value_at_quantile(part));
        write!(
            f,
            "{:<6} batches of up to {:4}: {:9.0} acked/s; half in {:.2?}, 99 of 100 in {:.2?}",
            self.turn.over,
            self.turn.batch,
            self.a_second,
            at(0.5),
            at(0.99),
        )?;
        let Some((server, senders)) = self.cpu else { return Ok(()) };
        write!(f, "; CPU of the server {server:.1?} and of the senders {senders:.1?} each")
    }
}

/// Returns the gain of group commit and the cost of the network.
fn comparisons(runs: &[Run]) -> Vec<String> {
    let times = |a: &Run, b: &Run| a.a_second / b.a_second;
    let mut lines = Vec::new();
    for over in [Over::Engine, Over::Ws] {
        let of_it: Vec<&Run> = runs.iter().filter(|run| run.turn.over == over).collect();
        if let [first, .., last] = of_it.as_slice() {
            let (a, b) = (first.turn.batch, last.turn.batch);
            lines.push(format!("{over}, {a} to {b}: {:.1} times as many", times(first, last)));
        }
    }
    for ws in runs.iter().filter(|run| run.turn.over == Over::Ws) {
        let is_beside =
            |run: &&Run| run.turn.over == Over::Engine && run.turn.batch == ws.turn.batch;
        if let Some(engine) = runs.iter().find(is_beside) {
            let batch = ws.turn.batch;
            lines.push(format!("batches of up to {batch}, ws to engine: {:.2}", times(ws, engine)));
        }
    }
    lines
}

/// Describes the durability of a store.
fn promise(durability: Durability) -> &'static str {
    match durability {
        Durability::Volatile => "is kept in memory",
        Durability::ProcessCrash => "survives a kill of the process",
        Durability::PowerLoss => "survives a power loss",
    }
}

/// The measured span of a run.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: Instant,
    end: Instant,
}

impl Span {
    /// Starts after a warm-up of a second, for the duration in `options`.
    fn from_now(options: &Options) -> Self {
        let begin = Instant::now() + Duration::from_secs(1);
        Self { begin, end: begin + Duration::from_secs(options.seconds) }
    }
}

/// The latencies in microseconds of the sends that were acked within a span.
struct Times {
    span: Span,
    times: Histogram<u64>,
}

impl Times {
    fn new(span: Span) -> Result<Self> {
        Ok(Self { span, times: Histogram::new(3)? })
    }

    /// Records an ack. Returns whether to continue.
    fn acknowledged(&mut self, sent: Instant) -> Result<bool> {
        let now = Instant::now();
        if now >= self.span.begin && now < self.span.end {
            self.times.record(u64::try_from((now - sent).as_micros())?)?;
        }
        Ok(now < self.span.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(over: Over, batch: usize, a_second: f64) -> Run {
        let mut times = Histogram::new(3).unwrap();
        times.record(1_500).unwrap();
        Run { turn: Turn { over, batch, nth: 0 }, a_second, times, cpu: None }
    }

    #[test]
    fn runs_compare_with_adjacent_runs() {
        let runs = [
            run(Over::Engine, 512, 9_000.0),
            run(Over::Engine, 1, 3_000.0),
            run(Over::Ws, 512, 6_000.0),
            run(Over::Ws, 1, 3_000.0),
        ];
        let expected = [
            "engine, 512 to 1: 3.0 times as many",
            "ws, 512 to 1: 2.0 times as many",
            "batches of up to 512, ws to engine: 0.67",
            "batches of up to 1, ws to engine: 1.00",
        ];
        assert_eq!(comparisons(&runs), expected);
        assert!(comparisons(&runs[..1]).is_empty());
    }

    #[test]
    fn acks_outside_span_are_ignored() {
        let now = Instant::now();
        let hour = Duration::from_secs(3_600);
        for (begin, end, counted, on) in [
            (now + hour, now + 2 * hour, 0, true),
            (now, now + hour, 1, true),
            (now, now, 0, false),
        ] {
            let mut times = Times::new(Span { begin, end }).unwrap();
            assert_eq!(times.acknowledged(now).unwrap(), on);
            assert_eq!(times.times.len(), counted);
        }
    }
}

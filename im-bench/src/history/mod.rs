//! `im-bench history`: the cost of an append and of a page, with little and with much history.
//!
//! Two stores of one kind are filled through the store's own port with the same rooms, members and
//! texts, and differ in the number of messages. Both are open at once in one process and are
//! measured in turn, pair by pair, so that other load of the machine affects both alike. The engine
//! is not involved.
//!
//! - **Warm**: appends one at a time, each acked before the next; pages of 50 at random positions
//!   of random rooms, which have been read once before; the newest pages. The median of the ratios
//!   of all pairs must not exceed `--most`, neither in time nor in CPU. Message ids begin with the
//!   time, as those of the clients do: so the idempotency record of an append is stored beside
//!   those of the appends before it. The cost of random ids is not measured.
//! - **First read**: the same random pages, before they were read. The small store is soon in the
//!   cache as a whole, the large one is not. Reported, not judged.
//! - **Reads**: the number of storage reads for a page (see `reads`): it may grow no faster than
//!   the logarithm of the store's size.
//! - **Cold**: the opening, and the first pages after it. The store was closed, a server that the
//!   run started was restarted, and the system was asked to drop the files from its cache, as far
//!   as no privileges are needed; the report states how cold it was. (MariaDB preloads a part of
//!   its former cache after a start.)
//!
//! Not measured: bursts of appends (`im-bench throughput` does), millions of rooms, and disks
//! slower than this machine's.
//!
//! | module | contents |
//! |---|---|
//! | `setup` | the location of the two stores, and emptying their caches |
//! | `fill` | their content |
//! | `work` | appends and pages, and their cost |
//! | `usage` | CPU time, finer than the system's ticks |
//! | `reads` | storage reads, counted |
//! | `report` | the results, and their bounds |

mod fill;
mod reads;
mod report;
mod setup;
mod usage;
mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use im_stores::StoreAddress;

use self::fill::Shape;
use self::report::{Line, Opening, Reads, Report};
use self::setup::{Own, Setup, Which};
use self::work::{Act, Cost, Side};
use crate::report::{Progress, median, write_json};

/// Options of `im-bench history`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Create both stores in a temporary folder, one pair after the other of these kinds. For
    /// postgres and mariadb, which must be installed, a server is started.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        required_unless_present = "small",
        conflicts_with_all = ["small", "large"]
    )]
    store: Vec<Own>,
    /// Address of the store with few messages: sled:PATH, sqlite:PATH, postgres://…, mysql://…. It
    /// is filled as far as needed, and kept.
    #[arg(long, requires = "large")]
    small: Option<StoreAddress>,
    /// Address of the store with many messages, of the same kind.
    #[arg(long, requires = "small")]
    large: Option<StoreAddress>,
    /// Messages in the small store and in the large one.
    #[arg(long, value_parser = sizes, default_value = "50000,5000000")]
    messages: Sizes,
    /// Rooms of each store.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..))]
    rooms: u64,
    /// Bytes of text in a message.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Number of pairs of measurements.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..))]
    pairs: u64,
    /// Number of appends, and of pages of each sort, in one measurement.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    operations: u64,
    /// Maximum ratio of the cost of a warm operation in the large store to the small one, in time
    /// and in CPU.
    #[arg(long, default_value_t = 2.0)]
    most: f64,
    /// Also write the report as JSON, to this file; `-` for standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The number of messages in each of the two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    small: u64,
    large: u64,
}

impl Sizes {
    fn of(self, which: Which) -> u64 {
        match which {
            Which::Small => self.small,
            Which::Large => self.large,
        }
    }
}

fn sizes(text: &str) -> Result<Sizes, String> {
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let sizes = text.split_once(',').and_then(|(a, b)| Some((number(a)?, number(b)?)));
    match sizes {
        Some((small, large)) if 0 < small && small < large => Ok(Sizes { small, large }),
        _ => Err("two numbers are expected, the smaller one first: 50000,5000000".into()),
    }
}

/// Pages read after a cold opening. More would find parts of the store cached by the earlier ones.
const COLD_PAGES: u64 = 20;

/// Compares each pair of stores, and fails if a bound is exceeded.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut reports = Vec::new();
    if let (Some(small), Some(large)) = (options.small.clone(), options.large.clone()) {
        reports.push(compare(Setup::at(small, large)?, &options).await?);
    }
    for own in &options.store {
        reports.push(compare(Setup::make(*own).await?, &options).await?);
    }
    if let Some(path) = &options.json {
        write_json(path, &reports)?;
    }
    let broken: Vec<_> = reports.into_iter().flat_map(|report| report.broken).collect();
    ensure!(broken.is_empty(), "cost grows with history:\n  {}", broken.join("\n  "));
    Ok(())
}

async fn compare(setup: Setup, options: &Options) -> Result<Report> {
    let kind = setup.kind();
    let report = Comparison { ground: setup, options, shape: options.shape() }.run().await;
    let report = report.with_context(|| format!("history: {kind}"))?;
    print!("{report}");
    Ok(report)
}

impl Options {
    fn shape(&self) -> Shape {
        Shape { rooms: self.rooms, size: self.size }
    }
}

/// Two stores, and the measurements on them.
struct Comparison<'a> {
    ground: Setup,
    options: &'a Options,
    shape: Shape,
}

impl Comparison<'_> {
    async fn run(mut self) -> Result<Report> {
        for which in Which::BOTH {
            self.fill(which).await?;
        }
        let small = self.open_cold(Which::Small).await?;
        let large = self.open_cold(Which::Large).await?;
        let reads = Reads::new(
            reads::unit(self.ground.address(Which::Small)),
            (small.events, self.count(Which::Small).await?),
            (large.events, self.count(Which::Large).await?),
        );
        let (mut opened_small, mut opened_large) = (small, large);
        let mut small = self.open(Which::Small, &mut opened_small).await?;
        let mut large = self.open(Which::Large, &mut opened_large).await?;
        let costs = self.pairs(&mut small, &mut large).await?;
        small.close().await?;
        large.close().await?;
        let mut report = Report {
            store: self.ground.kind(),
            small: opened_small,
            large: opened_large,
            reads,
            costs,
            broken: Vec::new(),
        };
        report.judge(self.options.most);
        Ok(report)
    }

    async fn fill(&self, which: Which) -> Result<()> {
        let address = self.ground.address(which);
        let begin = Instant::now();
        let store = address.open().await?;
        let before: u64 = self.shape.heads(&store).await?.iter().sum();
        let messages = self.options.messages.of(which);
        let filled: u64 = self.shape.fill(&store, messages, which.name()).await?.iter().sum();
        store.close().await?;
        reads::settle(address).await?;
        if filled > before {
            let seconds = begin.elapsed().as_secs_f64();
            eprintln!("{address}: {} events came in {seconds:.0} s", filled - before);
        }
        Ok(())
    }

    async fn open_cold(&mut self, which: Which) -> Result<Opening> {
        let cold = self.ground.cool(which)?;
        let begin = Instant::now();
        let store = self.ground.address(which).open().await?;
        let cold_open_ms = milliseconds(begin.elapsed());
        let side = Side::new(store, self.shape, None).await?;
        let times = side.read(&side.pages(u64::MAX, COLD_PAGES)?).await?;
        let times: Vec<f64> = times.into_iter().map(milliseconds).collect();
        let events = side.events();
        side.close().await?;
        Ok(Opening {
            events,
            cold,
            cold_open_ms,
            slowest_cold_page_ms: times.iter().copied().fold(0.0, f64::max),
            cold_page_ms: median(times),
            open_ms: f64::NAN,
        })
    }

    async fn count(&self, which: Which) -> Result<f64> {
        let address = self.ground.address(which);
        reads::per_page(address, self.shape, self.options.operations).await
    }

    async fn open(&self, which: Which, opening: &mut Opening) -> Result<Side> {
        let begin = Instant::now();
        let store = self.ground.address(which).open().await?;
        opening.open_ms = milliseconds(begin.elapsed());
        Side::new(store, self.shape, self.ground.server()).await
    }

    /// Measures both in turn. The first store alternates from pair to pair, so that neither always
    /// finds the machine warm.
    async fn pairs(&self, small: &mut Side, large: &mut Side) -> Result<Vec<Line>> {
        let mut progress = Progress::new("pairs", self.options.pairs);
        let mut costs: Vec<Vec<(Cost, Cost)>> = vec![Vec::new(); Act::ALL.len()];
        // The first pair warms connections and caches, and is not counted.
        for pair in 0..=self.options.pairs {
            for (act, costs) in Act::ALL.into_iter().zip(&mut costs) {
                let count = self.options.operations;
                let both = if pair % 2 == 0 {
                    let first = small.cost(act, pair, count).await?;
                    (first, large.cost(act, pair, count).await?)
                } else {
                    let first = large.cost(act, pair, count).await?;
                    (small.cost(act, pair, count).await?, first)
                };
                if pair > 0 {
                    costs.push(both);
                }
            }
            progress.at(pair);
        }
        progress.done();
        Ok(Act::ALL.into_iter().zip(costs).map(|(act, costs)| Line::new(act, costs)).collect())
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_must_be_two_ascending_numbers() {
        assert_eq!(sizes("50, 500"), Ok(Sizes { small: 50, large: 500 }));
        for text in ["", "50", "500,50", "50,50", "0,50", "50,many", "1,2,3"] {
            assert!(sizes(text).is_err(), "{text}");
        }
    }
}

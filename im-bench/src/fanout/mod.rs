//! `im-bench fanout`: the cost and latency of deliveries in one room with many subscribers.
//!
//! The engine and the naive server are measured in alternating pairs, each as a process of its own
//! on a core of its own, so that other load of the machine affects both alike. The engine's room is
//! an open channel to which the readers subscribe through the protocol; its sender owns it.

mod load;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::host;
use crate::report::{median, write_json};
use crate::subject::{Cores, StoreChoice, Subject};

/// Options of `im-bench fanout`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Number of subscribed connections.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Messages a second, from one sender.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Duration of each measurement in seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Number of pairs of measurements.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(32..=16384))]
    size: u32,
    /// Store of the engine.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// Also write the report as JSON, to this file; `-` for standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

/// One measurement of one server.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    server: &'static str,
    deliveries: u64,
    /// CPU time of the server, per delivery.
    cpu_us_per_delivery: f64,
    /// CPU time of the generator, per delivery: near 10⁶ µs divided by the deliveries a second, it
    /// was the bottleneck.
    generator_us_per_delivery: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// Measurements of both servers, one after the other.
#[derive(Debug, Clone, Serialize)]
struct Pair {
    engine: Sample,
    naive: Sample,
    /// CPU per delivery: the engine's divided by the naive server's.
    cpu_ratio: f64,
    /// The engine's 99th percentile minus the naive server's.
    p99_more_ms: f64,
}

/// The report of all pairs.
#[derive(Debug, Serialize)]
struct Report {
    subscribers: u32,
    rate: u32,
    seconds: u32,
    size: u32,
    pairs: Vec<Pair>,
    median_cpu_ratio: f64,
    median_p99_more_ms: f64,
    /// The lowest and the highest ratio.
    cpu_ratio_range: (f64, f64),
}

/// Measures all pairs and reports.
pub(crate) async fn run(options: Options) -> Result<()> {
    host::allow_open_files(u64::from(options.subscribers) + 100)?;
    println!(
        "{} subscribers, {} messages a second of {} bytes, {} s each",
        options.subscribers, options.rate, options.size, options.seconds
    );
    println!(
        "{:<5} {:<16} {:>14} {:>14} {:>9} {:>9} {:>9}",
        "pair", "server", "CPU us/deliv", "gen us/deliv", "p50 ms", "p99 ms", "max ms"
    );
    let mut pairs = Vec::new();
    for nth in 1..=options.pairs {
        let pair = pair(nth, &options).await?;
        println!("{nth:<5} CPU ratio {:.3}, p99 {:+.2} ms", pair.cpu_ratio, pair.p99_more_ms);
        pairs.push(pair);
    }
    let report = summary(&options, pairs);
    println!(
        "median of {} pairs: CPU per delivery {:.3} x naive (from {:.3} to {:.3}), p99 naive's {:+.2} ms",
        report.pairs.len(),
        report.median_cpu_ratio,
        report.cpu_ratio_range.0,
        report.cpu_ratio_range.1,
        report.median_p99_more_ms,
    );
    options.json.as_deref().map_or(Ok(()), |path| write_json(path, &report))
}

async fn pair(nth: u32, options: &Options) -> Result<Pair> {
    let engine = Subject::Engine(options.store.kind());
    // The first server alternates from pair to pair, so that neither always finds the machine warm.
    let (engine, naive) = if nth % 2 == 1 {
        let naive = measure(nth, Subject::Naive, options).await?;
        (measure(nth, engine, options).await?, naive)
    } else {
        let engine = measure(nth, engine, options).await?;
        (engine, measure(nth, Subject::Naive, options).await?)
    };
    let cpu_ratio = engine.cpu_us_per_delivery / naive.cpu_us_per_delivery;
    let p99_more_ms = engine.p99_ms - naive.p99_ms;
    Ok(Pair { engine, naive, cpu_ratio, p99_more_ms })
}

async fn measure(nth: u32, subject: Subject, options: &Options) -> Result<Sample> {
    let data = tempfile::tempdir()?;
    let server = subject.start(&options.store, data.path(), options.cores.server()).await?;
    let sample = load::run(subject, &server, options)
        .await
        .with_context(|| format!("fanout: {}", subject.name()))?;
    server.stop().await?;
    println!(
        "{nth:<5} {:<16} {:>14.2} {:>14.2} {:>9.2} {:>9.2} {:>9.2}",
        sample.server,
        sample.cpu_us_per_delivery,
        sample.generator_us_per_delivery,
        sample.p50_ms,
        sample.p99_ms,
        sample.max_ms,
    );
    Ok(sample)
}

fn summary(options: &Options, pairs: Vec<Pair>) -> Report {
    let ratios: Vec<f64> = pairs.iter().map(|pair| pair.cpu_ratio).collect();
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Report {
        subscribers: options.subscribers,
        rate: options.rate,
        seconds: options.seconds,
        size: options.size,
        median_cpu_ratio: median(ratios),
        median_p99_more_ms: median(pairs.iter().map(|pair| pair.p99_more_ms).collect()),
        cpu_ratio_range: (low, high),
        pairs,
    }
}

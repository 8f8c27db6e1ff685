//! Kill -9, many times: whatever a store has acknowledged must be there afterwards, once and in its place.
//!
//! [`run`] starts a worker process, kills it at a random moment, opens the store itself and checks it, and goes on with
//! another worker on the same store. The worker is a process of the caller's own that is told a [`Task`] and how to open
//! the store, and calls [`work`]; the two talk through its standard streams. The same worker serves
//! [`disk`](crate::disk), which cuts the power and lets calls fail.
//!
//! What is checked after each kill, for what was written since the last check, and after every hundredth from the
//! beginning: each room has seqs 1, 2, 3 … without a gap, in the epoch it always had; no message id stands twice; what
//! the worker was told stands where it was told, with its record; the content is what was sent. What was sent and not
//! answered may be there or not; the next worker sends it again under its id, and it must then be there once.
#![allow(
    clippy::panic,
    reason = "this is a test: what it cannot go on without, it fails for by panicking"
)]

mod judge;
mod message;
mod model;
mod random;
mod script;
mod task;
pub mod upkeep;
mod worker;

use std::fmt;
use std::future::Future;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use im_core::ports::Store;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

pub(crate) use judge::VERDICT;
pub use judge::Verdict;
pub(crate) use message::Line;
pub(crate) use model::Model;
pub(crate) use random::Random;
pub(crate) use script::NEEDS_RESTART;
use serde::{Deserialize, Serialize};
pub use task::{Task, work};
pub use worker::{Ends, WriterPlan};

/// What to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashPlan {
    /// How many workers are killed.
    pub kills: u32,
    /// Where all randomness comes from, but for what the system's scheduler adds. Print it, so that a failure can be
    /// looked for again.
    pub seed: u64,
    /// Everything is read again after each so many kills. 100 by default.
    pub whole_every: u32,
    /// The longest time that a worker writes before it is killed; each gets a random part of it. 120 ms by default.
    pub longest: Duration,
}

impl CrashPlan {
    /// So many kills, from this seed.
    pub fn new(kills: u32, seed: u64) -> Self {
        Self { kills, seed, whole_every: 100, longest: Duration::from_millis(120) }
    }
}

/// What happened.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CrashReport {
    /// Workers killed.
    pub kills: u32,
    /// Of these, how many while they were still opening the store.
    pub kills_while_opening: u32,
    /// Sends that were acknowledged to a worker.
    pub acknowledged: u64,
    /// Sends that a kill left without an answer, and that were acknowledged when they were sent again.
    pub retried: u64,
    /// Of these, how many had been written.
    pub retried_and_there: u64,
    /// Events in the store at the end.
    pub events: u64,
    /// How long it took.
    pub took: Duration,
    /// What was wrong. The run ends after the first kill that shows something.
    pub violations: Vec<Violation>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Violation {
    /// An acknowledged send, or its record, is not there.
    Lost(String),
    /// An acknowledged send is at another place than where it was acknowledged.
    Reordered(String),
    /// A message id stands twice, or was acknowledged at two places.
    Repeated(String),
    /// A seq is missing, or a log has become shorter.
    Gap(String),
    /// A room has another epoch than before.
    Epoch(String),
    /// Something else that was read is not what was written.
    Wrong(String),
}

impl Violation {
    /// Whether it is none of lost, repeated and reordered.
    pub fn is_other(&self) -> bool {
        !matches!(self, Self::Lost(_) | Self::Repeated(_) | Self::Reordered(_))
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Violation) -> bool| self.violations.iter().filter(|v| is(v)).count();
        write!(
            f,
            "{} kills ({} while opening) in {:.1?}: {} acknowledged, {} lost, {} repeated, {} reordered, {} otherwise \
             wrong; {} sent again, {} of them had been written; {} events",
            self.kills,
            self.kills_while_opening,
            self.took,
            self.acknowledged,
            count(|v| matches!(v, Violation::Lost(_))),
            count(|v| matches!(v, Violation::Repeated(_))),
            count(|v| matches!(v, Violation::Reordered(_))),
            count(Violation::is_other),
            self.retried,
            self.retried_and_there,
            self.events,
        )
    }
}

/// Kills workers and checks the store after each.
///
/// `spawn` gives the command of a worker that does a task by [`work`]. `open` opens the store in
/// this process; it is closed again before the next worker starts. Some progress is printed to standard error.
///
/// # Panics
///
/// If a worker cannot be started, or ends by itself.
pub async fn run<F: Future<Output = Arc<dyn Store>>>(
    plan: &CrashPlan,
    spawn: impl Fn(&Task) -> Command,
    open: impl Fn() -> F,
) -> CrashReport {
    let started = Instant::now();
    let mut random = Random::new(plan.seed);
    let mut model = Model::default();
    let mut report = CrashReport::default();
    while report.kills < plan.kills && report.violations.is_empty() {
        let command = spawn(&Task::Write(WriterPlan::new(random.next())));
        report.kills_while_opening += u32::from(!one(plan, command, &mut random, &mut model).await);
        report.kills += 1;
        let whole = report.kills % plan.whole_every == 0 || report.kills == plan.kills;
        let store = open().await;
        model.check(&*store, whole).await;
        if let Err(error) = store.close().await {
            model.wrong(format!("the store cannot be closed: {error}"));
        }
        report.violations = model.take_violations();
        if whole {
            eprintln!(
                "  {} kills, {} acknowledged, seed {}",
                report.kills, model.acknowledged, plan.seed
            );
        }
    }
    report.acknowledged = model.acknowledged;
    (report.retried, report.retried_and_there) = (model.retried, model.retried_and_there);
    (report.events, report.took) = (model.events(), started.elapsed());
    report
}

/// One worker's life. Says whether it came to write.
async fn one(plan: &CrashPlan, command: Command, random: &mut Random, model: &mut Model) -> bool {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|e| panic!("the worker cannot be started: {e}"));
    let Some(stdout) = child.stdout.take() else { panic!("the worker has no output") };
    let mut lines = BufReader::new(stdout).lines();
    hand_over(&mut child, model.unanswered()).await;

    let longest = plan.longest.as_micros() as u64;
    let moment =
        |random: &mut Random, part| Duration::from_micros(random.next() % (longest / part + 1));
    let mut wrote = false;
    if random.next().is_multiple_of(10) {
        // Some die while they open the store.
        tokio::time::sleep(moment(random, 4)).await;
    } else {
        wrote = follow(&mut child, &mut lines, model, moment(random, 1)).await;
    }
    child.start_kill().unwrap_or_else(|e| panic!("the worker cannot be killed: {e}"));
    // What it had written to the pipe is still there. A line without an end is no line.
    while let Ok(Some(line)) = lines.next_line().await {
        wrote |= is_ready(&line);
        model.hear(&line);
    }
    let _ = child.wait().await;
    wrote
}

fn is_ready(line: &str) -> bool {
    Line::parse(line) == Some(Line::Ready)
}

/// Tells the worker what its predecessor got no answer for.
async fn hand_over(child: &mut Child, unanswered: String) {
    if let Some(mut stdin) = child.stdin.take() {
        // If it has died already, that is found out when it is read from.
        let _ = stdin.write_all(unanswered.as_bytes()).await;
    }
}

/// Listens to a worker until it has written for `time`.
async fn follow(
    child: &mut Child,
    lines: &mut Lines<BufReader<ChildStdout>>,
    model: &mut Model,
    time: Duration,
) -> bool {
    loop {
        match lines.next_line().await {
            Ok(Some(line)) if is_ready(&line) => break,
            Ok(Some(line)) => model.hear(&line),
            _ => panic!("the worker ended by itself: {:?}", child.wait().await),
        }
    }
    let end = tokio::time::sleep(time);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return true,
            line = lines.next_line() => match line {
                Ok(Some(line)) => model.hear(&line),
                _ => panic!("the worker ended by itself: {:?}", child.wait().await),
            },
        }
    }
}

//! Kill -9, many times: whatever a store has acknowledged must be there afterwards, once and in its place.
//!
//! [`run`] starts a worker process, kills it at a random moment, opens the store itself and checks it, and goes on with
//! another worker on the same store. The worker is a process of the caller's own that is told a [`Task`] and how to open
//! the store, and calls [`work`]; the two talk through its standard streams. The same worker serves
//! [`disk`](crate::disk), which cuts the power and lets calls fail.
//!
//! A store that stands on a database server has two that can be killed. [`run_with_database`] also kills the [`Database`]
//! that the caller gives it, while the worker lives on: its sends must wait or be refused with `Unavailable` or `Unknown`,
//! and when the database is back, it must go on by itself. In some of these rounds the worker is killed too, while the
//! database is dead.
//!
//! What is checked after each round, for what was written since the last check, and after every hundredth kill from the
//! beginning: each room has seqs 1, 2, 3 … without a gap, in the epoch it always had; no message id stands twice; what
//! the worker was told stands where it was told, with its record; the content is what was sent. What was sent and not
//! answered, or with `Unknown`, may be there or not; it is sent again under its id, by the same worker or the next one, and
//! must then be there once. What was refused with `Unavailable` must not be there unless it was sent again.
//!
//! | module | what it holds |
//! |---|---|
//! | `round` | one worker's life, and the kills in it |
//! | `database` | what a database server has to be able to do to be killed |
//! | `report` | what comes out |
//! | `model` | what is known of the store from outside |
//! | `message` | what workers send, and what they say about it |
//! | `task`, `worker`, `beside`, `script`, `judge` | what a worker process does |
//! | [`upkeep`] | kills in the middle of trimming, deleting, erasing and importing |
//! | `random` | numbers from a seed |
#![allow(
    clippy::panic,
    reason = "this is a test: what it cannot go on without, it fails for by panicking"
)]

mod beside;
mod database;
mod judge;
mod message;
mod model;
mod random;
mod report;
mod round;
mod script;
mod task;
pub mod upkeep;
mod worker;

use std::future::Future;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use im_core::ports::Store;

pub use database::{Database, DatabaseError};
pub(crate) use judge::VERDICT;
pub use judge::Verdict;
pub(crate) use message::Line;
pub(crate) use model::Model;
pub(crate) use random::Random;
pub use report::{CrashReport, Violation};
use round::Rounds;
pub(crate) use script::NEEDS_RESTART;
pub use task::{Task, work};
pub use worker::{Away, Ends, WriterPlan};

/// What to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashPlan {
    /// How many kills there are, those of a database counted in.
    pub kills: u32,
    /// Where all randomness comes from, but for what the system's scheduler adds. Print it, so that a failure can be
    /// looked for again.
    pub seed: u64,
    /// Everything is read again after each so many kills. 100 by default.
    pub whole_every: u32,
    /// The longest time that a worker writes before something is killed; each time is a random part of it. 120 ms by
    /// default.
    pub longest: Duration,
    /// One in so many kills is of the database, if there is one. 5 by default, at least 2: the worker of such a round is
    /// killed in the end as well.
    pub database_every: u32,
    /// The longest time that a database stays dead before it is started again; each time is a random part of it. 1 s by
    /// default.
    pub longest_away: Duration,
}

impl CrashPlan {
    /// So many kills, from this seed.
    pub fn new(kills: u32, seed: u64) -> Self {
        let (longest, longest_away) = (Duration::from_millis(120), Duration::from_secs(1));
        Self { kills, seed, whole_every: 100, longest, database_every: 5, longest_away }
    }
}

/// Kills workers and checks the store after each.
///
/// `spawn` gives the command of a worker that does a task by [`work`]. `open` opens the store in
/// this process; it is closed again before the next worker starts. Some progress is printed to standard error.
///
/// # Panics
///
/// If a worker cannot be started.
pub async fn run<F: Future<Output = Arc<dyn Store>>>(
    plan: &CrashPlan,
    spawn: impl Fn(&Task) -> Command,
    open: impl Fn() -> F,
) -> CrashReport {
    rounds(Rounds::new(plan, None), spawn, open).await
}

/// Kills workers, and the database that their store stands on, and checks the store after each round.
///
/// The rest is as for [`run`]. The database must be up, and is up in the end. A store that waits for a database should be
/// opened by workers with a patience shorter than the time that it is away at times, so that both is seen: sends that wait,
/// and sends that are refused.
///
/// # Panics
///
/// If a worker cannot be started, or the database can be neither killed nor started again.
pub async fn run_with_database<F: Future<Output = Arc<dyn Store>>>(
    plan: &CrashPlan,
    database: &mut dyn Database,
    spawn: impl Fn(&Task) -> Command,
    open: impl Fn() -> F,
) -> CrashReport {
    rounds(Rounds::new(plan, Some(database)), spawn, open).await
}

async fn rounds<F: Future<Output = Arc<dyn Store>>>(
    mut rounds: Rounds<'_>,
    spawn: impl Fn(&Task) -> Command,
    open: impl Fn() -> F,
) -> CrashReport {
    let started = Instant::now();
    while let Some(round) = rounds.next() {
        let command = spawn(&Task::Write(rounds.writer()));
        let whole = rounds.one(round, command).await;
        let store = open().await;
        rounds.check(&*store, whole).await;
    }
    rounds.report(started.elapsed())
}

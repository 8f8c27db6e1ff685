//! Repeated SIGKILL: acked data must be stored afterwards, once and at its seq.
//!
//! [`run`] starts a worker process, kills it at a random moment, opens the store itself, checks it,
//! and continues with another worker on the same store. The worker is a process of the caller that
//! gets a [`Task`] and how to open the store, and calls [`work`]; both communicate over its
//! standard streams. The same worker serves [`disk`](crate::disk), which cuts the power and makes
//! calls fail.
//!
//! A store on a database server has two processes to kill. [`run_with_database`] also kills the
//! caller's [`Database`] while the worker lives on: its sends must wait or be refused with
//! `Unavailable` or `Unknown`, and when the database is back, the worker must continue by itself.
//! In some of these rounds the worker is killed, too, while the database is down.
//!
//! Each round checks what was written since the last check; after every hundredth kill everything
//! is read: each room has seqs 1, 2, 3 … without a gap, in an unchanged epoch; no message id is
//! stored twice; acked messages are stored at their seq, with their record and their content. Sends
//! without an answer, or with `Unknown`, may be stored or not; they are retried under their id, by
//! the same worker or the next one, and must then be stored once. Sends refused with `Unavailable`
//! must not be stored unless they were retried.
//!
//! | module | contents |
//! |---|---|
//! | `round` | one worker's life, and the kills in it |
//! | `database` | the operations on a database server that is killed |
//! | `report` | the counts and violations of a run |
//! | `model` | what is known of the store from outside |
//! | `message` | the messages of workers, and the lines that they report |
//! | `task`, `worker`, `beside`, `script`, `judge` | the tasks of a worker process |
//! | [`upkeep`] | kills during trims, deletions, erasures and imports |
//! | `random` | random numbers from a seed |
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

/// The kills of a run, and their timing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CrashPlan {
    /// Number of kills, those of a database included.
    pub kills: u32,
    /// The seed of all randomness except that of the system's scheduler. Print it, so that a
    /// failure can be reproduced.
    pub seed: u64,
    /// Everything is read again after each so many kills. 100 by default.
    pub whole_every: u32,
    /// The longest time that a worker writes before a kill; each time is a random part of it. 120
    /// ms by default.
    pub longest: Duration,
    /// One in so many kills hits the database, if there is one. 5 by default, at least 2: the
    /// worker of such a round is finally killed as well.
    pub database_every: u32,
    /// The longest time that a database stays down; each time is a random part of it. 1 s by
    /// default.
    pub longest_away: Duration,
}

impl CrashPlan {
    /// Returns a plan of so many kills, with this seed.
    pub fn new(kills: u32, seed: u64) -> Self {
        let (longest, longest_away) = (Duration::from_millis(120), Duration::from_secs(1));
        Self { kills, seed, whole_every: 100, longest, database_every: 5, longest_away }
    }
}

/// Kills workers and checks the store after each.
///
/// `spawn` returns the command of a worker that runs a task by [`work`]. `open` opens the store in
/// this process; it is closed before the next worker starts. Progress is printed to standard error.
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

/// Kills workers and the database of their store, and checks the store after each round.
///
/// Otherwise as [`run`]. The database must be up, and is up at the end. Workers should open the
/// store with a time-out shorter than some of the database's down times, so that both cases occur:
/// sends that wait, and sends that are refused.
///
/// # Panics
///
/// If a worker cannot be started, or the database cannot be killed or restarted.
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

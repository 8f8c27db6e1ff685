//! The store: every semantic of rooms, sessions and state once, over any [`Backend`].
//!
//! What the store does is decided by pure rules. A rule looks at a view of what is stored and comes to a commit, whose guards
//! are the records that it relied on. If one of them has changed meanwhile, the rule is run again.
//!
//! | module | what it holds |
//! |---|---|
//! | `tables`, `column` | what is stored: the declared tables and their records |
//! | `view` | what a rule sees |
//! | `committer` | group commit |
//! | `append`, `cache` | appends, and what is known of the rooms that are appended to |
//! | `log` | pages, idempotency, trimming |
//! | `feed` | what commits tell the change feed |
//! | `rooms` | which rooms there are, and who is in them |
//! | `sessions` | sessions, checkpoints, tickets |
//! | `keyed_state` | latest-wins state |
//! | `upkeep`, `erase`, `import` | deleting and purging, erasing users, rooms under import |
//! | `error` | failures of backends as failures of the store |

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;

use crate::backend::{
    Answer, Applied, Backend, BackendInfo, Commit, Expect, Guard, GuardAct, Row, TableId,
};
use crate::id::random_bytes;
use crate::kv::{KeyValueBackend, OpenAs};
use crate::memory::MemoryDatabase;
use crate::ports::{StoreError, StoreErrorKind, StoreResult};
use crate::state::StateLimits;

mod append;
mod cache;
mod column;
mod committer;
mod erase;
mod error;
mod feed;
mod import;
mod keyed_state;
mod log;
mod ports;
mod rooms;
mod sessions;
mod tables;
mod upkeep;
mod view;

use append::Wary;
use cache::Cache;
use column::Rev;
use committer::Committer;
use tables::{MetaRow, Record};
use view::{Ruled, Stop, View};

/// A store over a backend.
///
/// Memory: what is under way, and a cache of rooms and memberships of bounded size.
pub struct BackendStore {
    backend: Arc<dyn Backend>,
    info: BackendInfo,
    committer: Committer,
    generation: u64,
    state_limits: StateLimits,
    /// Numbers for new rooms that this store has to itself.
    numbers: Mutex<Range<u64>>,
    cache: Cache,
    wary: Wary,
}

/// What a rule has come to.
pub(crate) struct Plan<T> {
    /// What is to be written, if anything is.
    commit: Option<Commit>,
    /// What is returned once that is done.
    value: T,
}

impl<T> Plan<T> {
    fn nothing(value: T) -> Self {
        Self { commit: None, value }
    }

    fn write(commit: Commit, value: T) -> Self {
        Self { commit: Some(commit), value }
    }
}

/// How often a rule is run again because what it relied on has changed.
const MOST_ATTEMPTS: u32 = 24;
/// How often what a rule asks for is read, until it is a fault.
const MOST_ROUNDS: u32 = 64;
/// How many numbers of rooms are taken at once.
const NUMBERS: u64 = 32;

impl BackendStore {
    /// Opens a backend: makes the tables where there are none.
    ///
    /// # Errors
    ///
    /// The backend's.
    pub async fn open(backend: Arc<dyn Backend>) -> StoreResult<Self> {
        let generation = backend.open(&tables::schema()).await?;
        let (info, committer) = (backend.info(), Committer::start(Arc::clone(&backend)));
        let (state_limits, numbers) = (StateLimits::default(), Mutex::new(0..0));
        let (cache, wary) = (Cache::default(), Wary::default());
        Ok(Self { backend, info, committer, generation, state_limits, numbers, cache, wary })
    }

    /// A store in memory: gone with the process.
    pub fn in_memory() -> Self {
        let backend = KeyValueBackend::new(MemoryDatabase::default(), OpenAs::SameGeneration);
        let opened = Self::open(Arc::new(backend)).now_or_never();
        // Memory has its answers at once, and takes every schema that keeps the rules.
        #[allow(clippy::expect_used, reason = "a test opens it")]
        opened.and_then(Result::ok).expect("memory is there")
    }

    /// How much state a room may hold. An update beyond it is discarded, so these should be no smaller than the
    /// engine's.
    #[must_use]
    pub fn state_limits(mut self, limits: StateLimits) -> Self {
        self.state_limits = limits;
        self
    }

    /// Runs a rule over one snapshot of all that it asks for.
    async fn look<T>(&self, rule: impl Fn(&View) -> Ruled<T>) -> StoreResult<T> {
        let mut view = View::default();
        for _ in 0..MOST_ROUNDS {
            match rule(&view) {
                Ok(value) => return Ok(value),
                Err(Stop::Refused(refusal)) => return Err(refusal.into()),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Lacks(lacks)) => {
                    // All of it again, so that it is one snapshot.
                    let mut reads = view.asked();
                    reads.extend(lacks);
                    let found = self.backend.read(reads.clone()).await?;
                    view.learn(reads, found);
                }
            }
        }
        Err(StoreError::new(StoreErrorKind::Unavailable, "a rule asks for more and more"))
    }

    /// Runs a rule and makes its commit; from the start where something that it relied on has changed.
    async fn act<T>(&self, rule: impl Fn(&View) -> Ruled<Plan<T>>) -> StoreResult<T> {
        for attempt in 0..MOST_ATTEMPTS {
            let plan = self.look(&rule).await?;
            let Some(commit) = plan.commit else { return Ok(plan.value) };
            if self.make(commit).await?.is_some() {
                return Ok(plan.value);
            }
            pause(attempt).await;
        }
        Err(contended())
    }

    /// `None`: something has changed.
    async fn make(&self, commit: Commit) -> StoreResult<Option<Applied>> {
        match self.committer.commit(vec![commit]).await.pop() {
            Some(Ok(Answer::Applied(applied))) => Ok(Some(applied)),
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Err(error.into()),
            None => Err(StoreError::new(StoreErrorKind::Unknown, "the backend has not answered")),
        }
    }

    /// A number that no room ever had.
    async fn room_number(&self) -> StoreResult<u64> {
        loop {
            if let Some(number) = self.numbers.lock().next() {
                return Ok(number);
            }
            let taken = self.act(take_numbers).await?;
            let mut numbers = self.numbers.lock();
            // Somebody else may have brought some meanwhile. Those that are left over are lost, and that does no harm.
            if numbers.is_empty() {
                *numbers = taken;
            }
        }
    }
}

/// Takes numbers of rooms for one store.
fn take_numbers(view: &View) -> Ruled<Plan<Range<u64>>> {
    let name: tables::Name = "room_numbers".into();
    let held: Option<MetaRow> = view.get(vec![name.clone().into()])?;
    let first = held.as_ref().map_or(1, |held| held.value);
    let row = MetaRow { name, value: first + NUMBERS, rev: Rev::default() };
    let commit = Commit { guards: vec![bump(&row, held.map(|held| held.rev))], ..put(&row) };
    Ok(Plan::write(commit, first..first + NUMBERS))
}

/// The most records that one step of upkeep looks at, so that a commit is bounded.
const STEP: usize = 10_000;

/// A caller's limit, kept within bounds.
fn bounded(limit: usize) -> usize {
    limit.clamp(1, STEP)
}

/// A commit that puts a record.
fn put(record: &impl Record) -> Commit {
    Commit { changes: vec![put_change(record)], ..Commit::default() }
}

fn put_change<R: Record>(record: &R) -> crate::backend::Change {
    crate::backend::Change::Put { table: R::TABLE, row: record.to_row() }
}

/// A guard on a record that the commit bumps; it has this revision, or is not there.
fn bump<R: Record>(record: &R, rev: Option<Rev>) -> Guard {
    guard(R::TABLE, record.key(), rev, GuardAct::Bump)
}

fn guard(table: TableId, key: Row, rev: Option<Rev>, act: GuardAct) -> Guard {
    let expect = rev.map_or(Expect::Absent, |rev| Expect::Revision(rev.0));
    Guard { table, key, expect, act }
}

fn contended() -> StoreError {
    let words = "others write to the same records all the time; nothing was written";
    StoreError::new(StoreErrorKind::Unavailable, words)
}

/// A random pause of up to 2^attempt milliseconds, at most 128: two that met are less likely to meet again. None before
/// the second attempt.
async fn pause(attempt: u32) {
    if attempt > 0 {
        let most = 1_u64 << attempt.min(7);
        let micros = u64::from(u32::from_be_bytes(random_bytes())) % (most * 1_000);
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }
}

impl fmt::Debug for BackendStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendStore").field("backend", &self.info.name).finish_non_exhaustive()
    }
}

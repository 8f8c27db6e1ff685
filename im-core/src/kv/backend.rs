//! The backend over a database with ordered keys.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};

use crate::backend::{
    Answer, Backend, BackendError, BackendErrorKind, BackendInfo, BackendResult, Commit, FeedPlace,
    Found, Read, Schema, SyncLevel,
};
use crate::id::{new_generation, random_bytes};

use super::database::{Database, WriteBatch, Written};
use super::draft::Draft;
use super::fill::fill;
use super::layout::{Layout, Opening};
use super::look::{self, WRITER};
use super::versions::Versions;

/// Whether what a backend is opened on is what was closed, or killed, the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenAs {
    /// It is, with everything that was ever acknowledged as synced.
    #[default]
    SameGeneration,
    /// It may lack something: it was restored from a copy, say, or the database does not survive a loss of power and there
    /// was one. All rooms get another epoch, and clients are reset.
    NewGeneration,
}

/// A backend over a database with ordered keys.
///
/// Commits are made by one call at a time, in groups as they are handed over; what they change is checked and written as one
/// batch of the database. Memory: the rows that a group touches, and, where the database has no snapshots, the old values
/// of what was changed since the oldest reader began.
pub struct KeyValueBackend<D>(Arc<Shared<D>>);

struct Shared<D> {
    database: D,
    open_as: OpenAs,
    layout: OnceLock<Layout>,
    /// The last tick of the change feed; locked by the call that commits.
    tick: Mutex<u64>,
    versions: Versions,
    /// Whether something was written that no flush has come to its end after.
    unflushed: AtomicBool,
    /// Locked for reading by whoever uses the database.
    closed: RwLock<bool>,
}

/// How often a group is made again because another process wrote at the same time.
const MOST_ATTEMPTS: u32 = 32;
/// The longest of the pauses before such an attempt.
const LONGEST_PAUSE: Duration = Duration::from_millis(30);

impl<D: Database> KeyValueBackend<D> {
    /// A backend over what is in `database`.
    pub fn new(database: D, open_as: OpenAs) -> Self {
        let versions = Versions::default();
        let (layout, tick, closed) = (OnceLock::new(), Mutex::new(0), RwLock::new(false));
        let unflushed = AtomicBool::new(true);
        Self(Arc::new(Shared { database, open_as, layout, tick, versions, unflushed, closed }))
    }

    /// The database.
    pub fn database(&self) -> &D {
        &self.0.database
    }

    /// Does what may block where it may.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared<D>) -> BackendResult<T> + Send + 'static,
    ) -> BackendResult<T> {
        let open = |shared: &Shared<D>| {
            let closed = shared.closed.read_recursive();
            if *closed { Err(BackendError::closed()) } else { work(shared) }
        };
        if self.0.database.info().immediate {
            return open(&self.0);
        }
        let shared = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || open(&shared)).await;
        done.unwrap_or_else(|error| Err(unfinished(error)))
    }
}

impl<D: Database> Shared<D> {
    fn layout(&self) -> BackendResult<&Layout> {
        self.layout.get().ok_or_else(|| BackendError::misuse("the backend was not opened"))
    }

    fn open(&self, schema: &Schema) -> BackendResult<u64> {
        let mut last = self.tick.lock();
        for _ in 0..MOST_ATTEMPTS {
            let Opening { mut layout, mut batch, unfilled } =
                Layout::open(schema, &self.database, new_generation)?;
            if self.open_as == OpenAs::NewGeneration {
                layout.renew(&mut batch, new_generation());
            }
            // Before the declaration, so that an index is filled again if this comes to an end half-way.
            for (table, index) in unfilled {
                fill(&self.database, &layout, table, index)?;
            }
            if self.write(batch)? == Written::Changed {
                continue;
            }
            self.database.flush()?;
            *last = look::last_tick(&self.database)?;
            let generation = layout.generation;
            return match self.layout.set(layout) {
                Ok(()) => Ok(generation),
                Err(_) => Err(BackendError::misuse("the backend was opened before")),
            };
        }
        Err(contended())
    }

    fn write(&self, mut batch: WriteBatch) -> BackendResult<Written> {
        if batch.changes.is_empty() {
            return Ok(Written::Applied);
        }
        if self.database.info().exclusive {
            batch.checks.clear();
        }
        self.database.write(&batch)
    }

    fn read(&self, reads: &[Read]) -> BackendResult<Vec<Found>> {
        let layout = self.layout()?;
        match self.database.snapshot()? {
            Some(snapshot) => look::look(layout, &*snapshot, reads),
            None => look::look(layout, &self.versions.snapshot(&self.database), reads),
        }
    }

    fn commit(&self, commits: &[Commit]) -> Vec<BackendResult<Answer>> {
        match self.write_group(commits) {
            Ok(answers) => answers,
            Err(error) => commits.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn write_group(&self, commits: &[Commit]) -> BackendResult<Vec<BackendResult<Answer>>> {
        let info = self.database.info();
        let layout = self.layout()?;
        let synced = commits.iter().any(|commit| commit.sync == SyncLevel::Synced);
        let mut last = self.tick.lock();
        for attempt in 0..MOST_ATTEMPTS {
            pause(attempt);
            let tick = if info.exclusive { *last } else { look::last_tick(&self.database)? };
            let place = FeedPlace { writer: WRITER, tick: tick + 1 };
            let mut draft = Draft::new(layout, &self.database, place);
            let mut answers: Vec<BackendResult<Answer>> = Vec::with_capacity(commits.len());
            for commit in commits {
                let is_held = |at: usize| !matches!(answers.get(at), Some(Ok(Answer::Applied(_))));
                answers.push(match commit.behind {
                    Some(at) if is_held(at) => Ok(Answer::Skipped),
                    _ => draft.make(commit),
                });
            }
            let touched = draft.is_touched();
            let drafted = draft.finish(!info.exclusive);
            if drafted.batch.changes.is_empty() {
                drop(last);
                return self.settle(synced).map(|()| answers);
            }
            let before = if info.snapshots { Vec::new() } else { drafted.before };
            let version = self.versions.begin(before);
            match self.database.write(&drafted.batch) {
                Ok(Written::Applied) => {}
                Ok(Written::Changed) => {
                    self.versions.end(version);
                    continue;
                }
                Err(error) => {
                    // It may have been written: its tick is not used again.
                    if touched {
                        *last = place.tick;
                    }
                    self.unflushed.store(true, Ordering::SeqCst);
                    self.versions.end(version);
                    return Err(error);
                }
            }
            if touched {
                *last = place.tick;
            }
            self.unflushed.store(true, Ordering::SeqCst);
            drop(last);
            let flushed = if synced { self.flush() } else { Ok(()) };
            self.versions.end(version);
            return flushed.map(|()| answers);
        }
        Err(contended())
    }

    fn flush(&self) -> BackendResult<()> {
        self.unflushed.store(false, Ordering::SeqCst);
        let flushed = self.database.flush();
        if flushed.is_err() {
            self.unflushed.store(true, Ordering::SeqCst);
        }
        flushed
    }

    /// Returns when what a group has read may be answered: a duplicate says that the first send is as durable as it
    /// was asked to be, and a conflict shows a record.
    fn settle(&self, synced: bool) -> BackendResult<()> {
        self.versions.end(self.versions.begin(Vec::new()));
        let is_level = self.database.info().exclusive && !self.unflushed.load(Ordering::SeqCst);
        if synced && !is_level { self.flush() } else { Ok(()) }
    }

    fn close(&self) -> BackendResult<()> {
        let mut closed = self.closed.write();
        if std::mem::replace(&mut *closed, true) { Ok(()) } else { self.database.close() }
    }
}

/// A random pause, longer with each attempt: two that met are less likely to meet again. None before the second one.
fn pause(attempt: u32) {
    if attempt > 0 {
        let most = Duration::from_micros(100 << attempt.min(10)).min(LONGEST_PAUSE);
        let [share] = random_bytes::<1>();
        std::thread::sleep(most * u32::from(share) / 255);
    }
}

fn unfinished(error: tokio::task::JoinError) -> BackendError {
    let words = "a call of the database has not come to its end";
    BackendError::new(BackendErrorKind::InDoubt, words).because(error)
}

fn contended() -> BackendError {
    let words = "others write to the same records all the time; nothing was written";
    BackendError::new(BackendErrorKind::Unavailable, words)
}

impl<D: Database> fmt::Debug for KeyValueBackend<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = self.0.database.info().name;
        f.debug_struct("KeyValueBackend").field("database", &database).finish_non_exhaustive()
    }
}

#[async_trait]
impl<D: Database> Backend for KeyValueBackend<D> {
    fn info(&self) -> BackendInfo {
        let info = self.0.database.info();
        BackendInfo {
            name: info.name,
            durability: info.durability,
            exclusive: info.exclusive,
            // One is written while another one is flushed.
            writers: if info.immediate { usize::MAX } else { 2 },
        }
    }

    async fn open(&self, schema: &Schema) -> BackendResult<u64> {
        let schema = schema.clone();
        self.run(move |shared| shared.open(&schema)).await
    }

    async fn read(&self, reads: Vec<Read>) -> BackendResult<Vec<Found>> {
        self.run(move |shared| shared.read(&reads)).await
    }

    async fn commit(&self, commits: Vec<Commit>) -> Vec<BackendResult<Answer>> {
        let count = commits.len();
        match self.run(move |shared| Ok(shared.commit(&commits))).await {
            Ok(answers) => answers,
            Err(error) => (0..count).map(|_| Err(error.clone())).collect(),
        }
    }

    async fn close(&self) -> BackendResult<()> {
        if self.0.database.info().immediate {
            return self.0.close();
        }
        let shared = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || shared.close()).await;
        closed.unwrap_or_else(|error| Err(unfinished(error)))
    }
}

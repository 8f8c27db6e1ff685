//! Group commit: a task takes what has queued and writes it in one transaction. While that is synced, the next batch
//! gathers, so the cost of the sync is shared by as many as there are.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use im_core::RoomId;
use im_core::id::random_bytes;
use im_core::ports::{Appended, StoreResult};
use im_core::state::Append;
use sqlx::pool::PoolConnection;
use sqlx::{Connection, Pool, SqlSafeStr};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use crate::append::{Repeats, append};
use crate::dialect::Dialect;
use crate::error::{Class, Fault, Outcome, kind, words};
use crate::file::Lock;
use crate::health::Health;
use crate::job::{Cause, Job, Topic, Verdict, Work};
use crate::known::Known;
use crate::link::{Link, limited};
use crate::order::recover;

/// One of the tasks that commit.
pub(crate) struct Committer<D: Dialect> {
    pub(crate) pool: Pool<D>,
    /// The readers' connections, which are held off where they are in the way.
    pub(crate) readers: Pool<D>,
    pub(crate) jobs: mpsc::UnboundedReceiver<Job<D>>,
    pub(crate) max_batch: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) patience: Duration,
    pub(crate) time_limit: Duration,
    pub(crate) health: Arc<Health>,
    /// Tells long readers to come out of the way.
    pub(crate) urgent: Arc<AtomicBool>,
    pub(crate) held: Option<PoolConnection<D>>,
    /// What the last transaction on `held` knew, where nobody else writes unseen.
    pub(crate) known: Option<(i64, Known)>,
    /// In how many transactions repeats are still looked for: where there was one, there are more.
    pub(crate) wary: u32,
    /// Whether a commit failed, and the database was not put in order since.
    pub(crate) suspect: bool,
    /// The store's, which others get when all of us have ended.
    pub(crate) lock: Option<Arc<Lock>>,
}

/// When a transaction failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Before its commit: it is rolled back.
    Writing,
    /// In its commit.
    Committing,
}

/// Why jobs failed that may fare better one by one.
enum Failure {
    /// One of them is what fails.
    Theirs,
    /// Somebody else holds a lock on what one of them is about.
    Locked(Cause),
}

impl<D: Dialect> Committer<D> {
    /// Commits until the queue is closed and empty.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.jobs.recv().await {
            self.settle().await;
            let jobs = self.gather(first);
            self.serve(jobs).await;
            if self.jobs.is_closed() && self.health.is_away() {
                self.abandon();
            }
        }
        if let Some(held) = self.held.take() {
            // It is closed before others get the lock.
            let _ = timeout(self.time_limit, held.detach().close()).await;
        }
        drop(self.lock);
    }

    /// Nobody waits once for each batch while the store is being closed.
    fn abandon(&mut self) {
        let verdict = without_fault(Class::Away, "it did not answer while the store was closed");
        while let Ok(job) = self.jobs.try_recv() {
            job.answer(&verdict);
        }
    }

    /// Lets everybody come first who is about to write: those whom the last commit has answered have the next write at hand.
    /// Costs nothing where nobody is.
    async fn settle(&mut self) {
        let (mut still, mut queued) = (0, self.jobs.len());
        while still < STILL && queued < self.max_batch {
            yield_now().await;
            still = if self.jobs.len() > queued { 0 } else { still + 1 };
            queued = self.jobs.len();
        }
    }

    fn gather(&mut self, first: Job<D>) -> Vec<Job<D>> {
        let (mut count, mut bytes) = (first.count(), first.bytes);
        let mut jobs = vec![first];
        while count < self.max_batch && bytes < self.max_batch_bytes {
            let Ok(job) = self.jobs.try_recv() else { break };
            count += job.count();
            bytes += job.bytes;
            jobs.push(job);
        }
        jobs
    }

    async fn serve(&mut self, mut jobs: Vec<Job<D>>) {
        let outcome = self.commit(&mut jobs).await;
        let writes: usize = jobs.iter().map(Job::count).sum();
        tracing::trace!(store = D::SHORT, writes, "a transaction ended");
        let verdict = match outcome {
            // One of them may be what fails: each for itself, so that the others do not suffer.
            Err(_) if jobs.len() > 1 => return self.serve_each(jobs).await,
            Ok(verdict) | Err((_, verdict)) => verdict,
        };
        jobs.into_iter().for_each(|job| job.answer(&verdict));
    }

    async fn serve_each(&mut self, jobs: Vec<Job<D>>) {
        // Rooms that somebody else has locked are waited for once, and all of them together not for too long.
        let mut locked: HashMap<RoomId, Cause> = HashMap::new();
        let until = Instant::now() + self.time_limit;
        for job in jobs {
            let some = locked.values().next().filter(|_| Instant::now() > until);
            let waited = job.rooms().find_map(|room| locked.get(room)).or(some);
            if let Some(why) = waited {
                job.answer(&Verdict::Lost(kind(Class::Locked), why.clone()));
                continue;
            }
            let mut alone = vec![job];
            let verdict = match self.commit(&mut alone).await {
                Ok(verdict) => verdict,
                Err((failure, verdict)) => {
                    if let Failure::Locked(why) = failure {
                        let rooms = alone.iter().flat_map(Job::rooms);
                        locked.extend(rooms.map(|room| (room.clone(), why.clone())));
                    }
                    verdict
                }
            };
            alone.into_iter().for_each(|job| job.answer(&verdict));
        }
    }

    /// Writes the jobs in one transaction, again as long as that makes sense. `Err`: it failed, and not for a reason that lies
    /// outside the jobs.
    async fn commit(&mut self, jobs: &mut [Job<D>]) -> Result<Verdict, (Failure, Verdict)> {
        let until = Instant::now() + self.patience;
        for attempt in 0_u32.. {
            let (limit, mut stage) = (self.time_limit, Stage::Writing);
            let Err(fault) = limited(limit, self.attempt(jobs, &mut stage)).await else {
                self.health.set_away(false);
                return Ok(Verdict::Kept);
            };
            let (class, why) = (fault.class::<D>(), fault.to_string());
            if class == Class::Taken && self.wary == 0 {
                self.wary = WARY;
                continue;
            }
            tracing::debug!(store = D::SHORT, ?class, ?stage, %why, "a transaction failed");
            let lost_to_another = matches!(class, Class::Contended | Class::Taken | Class::Locked);
            self.suspect |= stage == Stage::Committing && !lost_to_another;
            // Whatever it was, the next attempt gets a connection that has seen nothing of it.
            self.discard();
            let fault = Arc::new(fault);
            let cause = |class| self.cause(class, &fault);
            match (class, stage) {
                (Class::Contended | Class::Taken, _) if attempt < MOST_ATTEMPTS => {
                    sleep(pause(attempt)).await;
                }
                (Class::Full, Stage::Writing) => return Ok(lost(Class::Full, cause)),
                // SQLite finds it full before anything of the commit counts; of a server that is not known.
                (Class::Full, Stage::Committing) if D::ONE_WRITER => {
                    return Ok(lost(Class::Full, cause));
                }
                (Class::Contended | Class::Taken, _) => return Ok(lost(Class::Contended, cause)),
                (Class::Locked, _) if Instant::now() < until => sleep(pause(attempt)).await,
                (Class::Locked, _) => {
                    let cause = cause(Class::Locked);
                    tracing::warn!(store = D::SHORT, "nothing could be written: {}", cause.words);
                    let verdict = Verdict::Lost(kind(Class::Locked), cause.clone());
                    // All that there is, and not some of the rooms.
                    return if D::ONE_WRITER {
                        Ok(verdict)
                    } else {
                        Err((Failure::Locked(cause), verdict))
                    };
                }
                (_, Stage::Committing) => {
                    return Ok(Verdict::Doubt(Cause { words: why, fault: Some(fault) }));
                }
                (Class::Away, _) if self.may_wait(until) => sleep(pause(attempt + 5)).await,
                (Class::Away | Class::Closed, _) => {
                    self.health.set_away(true);
                    return Ok(lost(class, cause));
                }
                (Class::Corrupt | Class::Failed, _) => {
                    return Err((Failure::Theirs, lost(class, cause)));
                }
            }
        }
        // The loop ends by returning.
        Ok(without_fault(Class::Failed, "tried too often"))
    }

    /// What those are told whom a failure concerns.
    fn cause(&self, class: Class, fault: &Arc<Fault>) -> Cause {
        // Corrupt is said of reads. To whoever writes it is a store that fails.
        let class = if class == Class::Corrupt { Class::Failed } else { class };
        let mut words = words(class, &fault.to_string());
        if let (Class::Locked, Some(since)) = (class, self.health.appended_outside()) {
            let sqlite = if D::ONE_WRITER { "; SQLite has one writer at a time" } else { "" };
            words.push_str(&format!(" (`append_in` was called {since:.1?} ago{sqlite})"));
        }
        Cause { words, fault: Some(Arc::clone(fault)) }
    }

    fn may_wait(&self, until: Instant) -> bool {
        Instant::now() < until && !self.health.is_away()
    }

    async fn attempt(&mut self, jobs: &mut [Job<D>], stage: &mut Stage) -> Outcome<()> {
        if let Some(lock) = &self.lock {
            lock.check()?;
        }
        let conn = match &mut self.held {
            Some(conn) => conn,
            empty => {
                let conn = empty.insert(self.pool.acquire().await?);
                if self.suspect {
                    recover::<D>(conn, &self.readers, &self.urgent).await?;
                    self.suspect = false;
                }
                conn
            }
        };
        let mut tx = conn.begin_with(D::BEGIN.into_sql_str()).await?;
        let now = D::others_writes(&mut tx).await?;
        // Whatever fails from here on, it holds no longer.
        let known = match (self.known.take(), now) {
            (Some((then, known)), Some(now)) if then == now => known,
            _ => Known::default(),
        };
        let repeats = if self.wary > 0 { Repeats::LookedFor } else { Repeats::Unlikely };
        let known = match write(&mut Link(&mut *tx), jobs, known, repeats).await {
            Ok(known) => known,
            Err(fault) => {
                // The connection is used again.
                if fault.class::<D>() == Class::Taken {
                    tx.rollback().await?;
                }
                return Err(fault);
            }
        };
        self.wary = if repeated(jobs) { WARY } else { self.wary.saturating_sub(1) };
        *stage = Stage::Committing;
        tx.commit().await?;
        self.known = now.map(|now| (now, known));
        Ok(())
    }

    /// Closes the connection without a word, which could take as long as what went before. What was known goes with it: it holds
    /// by what this connection has seen of others.
    fn discard(&mut self) {
        self.known = None;
        if let Some(conn) = self.held.take() {
            drop(conn.detach());
        }
    }
}

/// The appends of all jobs together, then the other writes in their order. Takes what is known, and gives what is known then.
async fn write<D: Dialect>(
    link: &mut Link<'_, D>,
    jobs: &mut [Job<D>],
    mut known: Known,
    repeats: Repeats,
) -> Result<Known, Fault> {
    let mut batch: Vec<&Append> = Vec::new();
    for job in jobs.iter_mut() {
        if let Work::Appends(appends) = &mut job.work {
            appends.results.clear();
        }
    }
    for job in jobs.iter() {
        if let Work::Appends(appends) = &job.work {
            batch.extend(&appends.batch);
        }
    }
    let mut results = Vec::new();
    if !batch.is_empty() {
        (results, known) = append(link, &batch, known, repeats).await?;
    }
    let mut results = results.into_iter();
    for job in jobs {
        match &mut job.work {
            Work::Appends(appends) => {
                appends.results = results.by_ref().take(appends.batch.len()).collect();
            }
            Work::Call(call) => {
                call.run(link).await?;
                if call.topic() == Topic::Rooms {
                    known = Known::default();
                }
            }
        }
    }
    Ok(known)
}

/// Whether one of the appends was made before.
fn repeated<D: Dialect>(jobs: &[Job<D>]) -> bool {
    let duplicate =
        |answer: &StoreResult<Appended>| matches!(answer, Ok(Appended::Duplicate { .. }));
    jobs.iter().any(|job| match &job.work {
        Work::Appends(appends) => appends.results.iter().any(duplicate),
        Work::Call(_) => false,
    })
}

fn lost(class: Class, cause: impl FnOnce(Class) -> Cause) -> Verdict {
    Verdict::Lost(kind(if class == Class::Corrupt { Class::Failed } else { class }), cause(class))
}

fn without_fault(class: Class, why: &str) -> Verdict {
    Verdict::Lost(kind(class), Cause { words: words(class, why), fault: None })
}

/// How many times in a row everybody else may have had a turn without a new write, until a batch is complete. The way from an
/// answer to the next write goes through that many tasks.
const STILL: u32 = 4;

/// In how many transactions repeats are looked for after one was met: those of whoever comes back after a cut come together.
const WARY: u32 = 64;

/// How often a transaction is tried that lost against others.
const MOST_ATTEMPTS: u32 = 12;

/// A random pause of up to 2^attempt milliseconds, at most 256: two that lost against one another meet again less likely.
pub(crate) fn pause(attempt: u32) -> Duration {
    let most = 1_u64 << attempt.min(8);
    Duration::from_micros(1 + u64::from(u32::from_be_bytes(random_bytes())) % (most * 1_000))
}

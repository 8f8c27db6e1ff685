//! What waits for the database, and the thread that commits.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::ports::{StoreError, StoreErrorKind, StoreResult};

use super::database::{Database, Rows, RowsMut};

/// Jobs that may wait for the thread. Whoever brings one more waits.
const QUEUE: usize = 1024;
/// Appends, and other writes, in one transaction, but for those of its last job: what they write is held in memory twice.
const GROUP: usize = 256;

pub(super) type Answer<T> = oneshot::Receiver<StoreResult<T>>;

pub(super) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Closed, "the store was closed")
}

/// Waits for an answer. What is dropped undone was handed to a store that was closed.
pub(super) async fn answered<T>(answer: Answer<T>) -> StoreResult<T> {
    answer.await.unwrap_or_else(|_| Err(closed()))
}

/// Reads on a thread where it may block, to its end, whether or not anybody still waits for it.
pub(super) fn read<D: Database, T: Send + 'static>(
    database: Arc<D>,
    act: impl FnOnce(&dyn Rows) -> StoreResult<T> + Send + 'static,
) -> Answer<T> {
    let (reply, answer) = oneshot::channel();
    let reading = move || {
        let (mut act, mut seen) = (Some(act), None);
        let told = database.read(&mut |rows| seen = act.take().map(|act| act(rows)));
        let result = told.and_then(|()| seen.unwrap_or_else(|| Err(closed())));
        // Nobody waits any more if the caller's future was dropped.
        let _ = reply.send(result);
    };
    drop(tokio::task::spawn_blocking(reading));
    answer
}

/// Something to be written.
pub(super) struct Job {
    work: Box<dyn Work>,
    /// How many appends it is.
    pub(super) count: usize,
}

impl Job {
    /// A job, and where its answer comes. `act` may be run again if its transaction was given up. It may refuse, as
    /// long as it has not written anything.
    pub(super) fn new<T: Send + 'static>(
        act: impl FnMut(&mut dyn RowsMut) -> StoreResult<T> + Send + 'static,
    ) -> (Self, Answer<T>) {
        let (reply, answer) = oneshot::channel();
        (Self { work: Box::new(Doing { act, reply, result: None }), count: 1 }, answer)
    }
}

trait Work: Send {
    /// Decides and writes into a transaction, which is to be given up if this fails.
    fn run(&mut self, rows: &mut dyn RowsMut) -> StoreResult<()>;
    /// Answers, after the commit or in place of it.
    fn end(self: Box<Self>, outcome: Result<(), &StoreError>);
}

struct Doing<F, T> {
    act: F,
    reply: oneshot::Sender<StoreResult<T>>,
    result: Option<StoreResult<T>>,
}

impl<T, F> Work for Doing<F, T>
where
    T: Send,
    F: FnMut(&mut dyn RowsMut) -> StoreResult<T> + Send,
{
    fn run(&mut self, rows: &mut dyn RowsMut) -> StoreResult<()> {
        match (self.act)(rows) {
            Err(error) if !matches!(error.kind(), StoreErrorKind::Refused(_)) => Err(error),
            decided => {
                self.result = Some(decided);
                Ok(())
            }
        }
    }

    fn end(self: Box<Self>, outcome: Result<(), &StoreError>) {
        let answer = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            // A commit has run all of its jobs.
            (Ok(()), None) => Err(closed()),
            (Err(error), _) => Err(StoreError::new(error.kind(), error.to_string())),
        };
        // As in a reading.
        let _ = self.reply.send(answer);
    }
}

/// The thread that commits: what has queued while the last commit was synced shares the next one. If this is dropped,
/// the thread does what it has and ends.
pub(super) struct Committer(Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>);

impl Committer {
    pub(super) fn start<D: Database>(database: Arc<D>) -> StoreResult<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let named = thread::Builder::new().name(format!("im-{}", database.name()));
        let thread = named.spawn(move || commit_all(&*database, queue)).map_err(|error| {
            let words = "the thread that commits cannot be started";
            StoreError::new(StoreErrorKind::Unavailable, words).because(error)
        })?;
        Ok(Self(Mutex::new(Some((jobs, thread)))))
    }

    /// Jobs are done in the order in which they are taken on.
    pub(super) async fn submit(&self, job: Job) {
        let jobs = self.0.lock().as_ref().map(|(jobs, _)| jobs.clone());
        if let Some(jobs) = jobs {
            // If the thread is gone the job is dropped, which answers it.
            let _ = jobs.send(job).await;
        }
    }

    /// The thread, which ends once it has done what it has; `None` if that was said before.
    pub(super) fn stop(&self) -> Option<JoinHandle<()>> {
        self.0.lock().take().map(|(_, thread)| thread)
    }
}

fn commit_all(database: &impl Database, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut count = first.count;
        let mut jobs = vec![first];
        while count < GROUP
            && let Ok(job) = queue.try_recv()
        {
            count += job.count;
            jobs.push(job);
        }
        commit_group(database, jobs);
    }
}

/// Commits jobs together and answers them. What is damaged fails whoever touches it, and is not to fail the others: then
/// each is tried by itself. Any other error is every job's.
fn commit_group(database: &impl Database, mut jobs: Vec<Job>) {
    let together = commit(database, &mut jobs);
    let damaged =
        together.as_ref().err().is_some_and(|error| error.kind() == StoreErrorKind::Corrupt);
    if !damaged || jobs.len() == 1 {
        return jobs.into_iter().for_each(|job| job.work.end(together.as_ref().copied()));
    }
    for mut job in jobs {
        let alone = commit(database, std::slice::from_mut(&mut job));
        job.work.end(alone.as_ref().copied());
    }
}

fn commit(database: &impl Database, jobs: &mut [Job]) -> StoreResult<()> {
    database.write(&mut |rows| jobs.iter_mut().try_for_each(|job| job.work.run(rows)))
}

//! What an adapter implements, and the work that it is handed.

use std::fmt;
use std::ops::{ControlFlow, Range};

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::ports::{Durability, StoreError, StoreErrorKind, StoreResult};

/// From which end a range is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In the order of the keys.
    Forwards,
    /// From the last key to the first.
    Backwards,
}

/// What one transaction sees: rows of bytes in the order of their keys' bytes, all of one moment.
pub trait Rows {
    /// The value under `key`.
    ///
    /// # Errors
    ///
    /// The database could not say.
    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>>;

    /// Shows `each` the rows with keys in `range`, which may be empty, until it breaks off.
    ///
    /// # Errors
    ///
    /// The database's, and those of `each`.
    fn walk(
        &self,
        range: Range<&[u8]>,
        way: Way,
        each: &mut dyn FnMut(&[u8], &[u8]) -> StoreResult<ControlFlow<()>>,
    ) -> StoreResult<()>;
}

/// What one transaction writes. It reads what it has written.
pub trait RowsMut: Rows {
    /// Puts `value` under `key`, in place of what stood there.
    ///
    /// # Errors
    ///
    /// The database could not do it; the transaction is then given up.
    fn put(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()>;

    /// Removes what stands under `key`, if anything does.
    ///
    /// # Errors
    ///
    /// As in [`RowsMut::put`].
    fn remove(&mut self, key: &[u8]) -> StoreResult<()>;
}

/// A database with ordered keys and transactions.
///
/// Keys have up to a few hundred bytes, values as many as the largest content and some more. Neither method waits for
/// the database on the thread that calls it, and neither gives up work that it has taken when its future is dropped.
/// Work that is dropped undone is answered by [`StoreErrorKind::Closed`]: so a closed database drops what comes.
#[async_trait]
pub trait Database: Send + Sync + 'static {
    /// See [`Store::name`](crate::ports::Store::name).
    fn name(&self) -> &'static str;

    /// What a transaction that was committed has survived when its jobs are told: see
    /// [`Store::durability`](crate::ports::Store::durability).
    fn durability(&self) -> Durability;

    /// Takes on a look, which needs a moment's view of everything that was committed before.
    async fn read(&self, look: Look);

    /// Takes on a job. Jobs are done in the order in which they are taken on, and any number of them, in that order, may
    /// share a transaction: see [`commit_group`].
    async fn write(&self, job: Job);

    /// See [`Store::close`](crate::ports::Store::close): what was taken on is done first.
    ///
    /// # Errors
    ///
    /// The database could not be closed well.
    async fn close(&self) -> StoreResult<()>;
}

type Reading = Box<dyn FnOnce(StoreResult<&dyn Rows>) + Send>;

/// Something to be read.
pub struct Look(Reading);

impl Look {
    /// A look, and where its answer comes.
    pub(super) fn new<T: Send + 'static>(
        act: impl FnOnce(&dyn Rows) -> StoreResult<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<StoreResult<T>>) {
        let (reply, answer) = oneshot::channel();
        let read = move |rows: StoreResult<&dyn Rows>| {
            // Nobody waits any more if the caller's future was dropped.
            let _ = reply.send(rows.and_then(act));
        };
        (Self(Box::new(read)), answer)
    }

    /// Reads from `rows`, or tells why that cannot be done, and answers.
    pub fn at(self, rows: StoreResult<&dyn Rows>) {
        (self.0)(rows);
    }
}

/// Something to be written.
pub struct Job(Box<dyn Work>);

impl Job {
    /// A job, and where its answer comes. `act` may be run again if its transaction was given up. It may refuse, as
    /// long as it has not written anything.
    pub(super) fn new<T: Send + 'static>(
        act: impl FnMut(&mut dyn RowsMut) -> StoreResult<T> + Send + 'static,
    ) -> (Self, oneshot::Receiver<StoreResult<T>>) {
        let (reply, answer) = oneshot::channel();
        (Self(Box::new(Doing { act, reply, result: None })), answer)
    }

    /// Decides and writes into a transaction. It answers nothing yet, and may be run again in another one.
    ///
    /// # Errors
    ///
    /// The transaction is to be given up.
    pub fn run(&mut self, rows: &mut dyn RowsMut) -> StoreResult<()> {
        self.0.run(rows)
    }

    /// Answers, after the commit or in place of it.
    pub fn end(self, outcome: Result<(), &StoreError>) {
        self.0.end(outcome);
    }
}

trait Work: Send {
    fn run(&mut self, rows: &mut dyn RowsMut) -> StoreResult<()>;
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
            // It was not run, which an adapter that commits has no reason for.
            (Ok(()), None) => return,
            (Err(error), _) => Err(StoreError::new(error.kind(), error.to_string())),
        };
        // As above.
        let _ = self.reply.send(answer);
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").finish_non_exhaustive()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// Commits jobs together and answers them. `attempt` runs all that it is given in one transaction, in their order, and
/// commits it; it gives the transaction up at the first error.
///
/// What is damaged fails whoever touches it, and is not to fail the others: on [`StoreErrorKind::Corrupt`] each job is
/// tried by itself. Any other error is every job's.
pub fn commit_group(mut jobs: Vec<Job>, mut attempt: impl FnMut(&mut [Job]) -> StoreResult<()>) {
    let together = attempt(&mut jobs);
    let damaged =
        together.as_ref().err().is_some_and(|error| error.kind() == StoreErrorKind::Corrupt);
    if !damaged || jobs.len() == 1 {
        return jobs.into_iter().for_each(|job| job.end(together.as_ref().copied()));
    }
    for mut job in jobs {
        let alone = attempt(std::slice::from_mut(&mut job));
        job.end(alone.as_ref().copied());
    }
}

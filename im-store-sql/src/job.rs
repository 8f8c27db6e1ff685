//! What waits for a commit, and how it is answered.

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use im_core::RoomId;
use im_core::ports::{Appended, StoreError, StoreErrorKind, StoreResult};
use im_core::state::Append;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::Link;

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is kept.
    Kept,
    /// Nothing of it was written.
    Lost(StoreErrorKind, Cause),
    /// Nobody knows.
    Doubt(Cause),
}

/// Why a commit failed: in words, and what the database said, where that is known.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) words: String,
    pub(crate) fault: Option<Arc<Fault>>,
}

impl Cause {
    /// The error of one of those whom it concerns.
    fn error(&self, kind: StoreErrorKind, before: &str) -> StoreError {
        let error = StoreError::new(kind, format!("{before}: {}", self.words));
        match &self.fault {
            Some(fault) => error.because(Arc::clone(fault)),
            None => error,
        }
    }
}

/// Whether a call has put something into the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Something,
    Nothing,
}

impl Verdict {
    fn error(&self, wrote: Wrote) -> Option<StoreError> {
        Some(match (self, wrote) {
            (Self::Kept, _) => return None,
            (Self::Doubt(why), Wrote::Something) => {
                why.error(StoreErrorKind::Unknown, "whether this was written is not known")
            }
            (Self::Doubt(why), Wrote::Nothing) => {
                why.error(StoreErrorKind::Unavailable, "nothing was written")
            }
            (Self::Lost(kind, why), _) => why.error(*kind, "nothing was written"),
        })
    }
}

/// Something to write.
pub(crate) struct Job<D: Dialect> {
    pub(crate) work: Work<D>,
    pub(crate) bytes: usize,
    /// Its place in the queue, given back when it is answered.
    pub(crate) place: OwnedSemaphorePermit,
}

pub(crate) enum Work<D: Dialect> {
    Appends(Appends),
    Call(Box<dyn Call<D>>),
}

/// Appends and their answers.
pub(crate) struct Appends {
    pub(crate) batch: Vec<Append>,
    pub(crate) results: Vec<StoreResult<Appended>>,
    pub(crate) reply: oneshot::Sender<Vec<StoreResult<Appended>>>,
}

/// What a write other than an append changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// Rooms or members: what was known of them no longer holds.
    Rooms,
    /// Neither.
    Others,
}

/// Any other write. It may be run again, after what it did was rolled back.
#[async_trait]
pub(crate) trait Call<D: Dialect>: Send {
    fn topic(&self) -> Topic;
    async fn run(&mut self, link: &mut Link<'_, D>) -> Outcome<()>;
    fn answer(self: Box<Self>, verdict: &Verdict);
}

/// A write by a function.
pub(crate) struct Doing<F, T> {
    pub(crate) topic: Topic,
    pub(crate) act: F,
    pub(crate) result: Option<T>,
    pub(crate) reply: oneshot::Sender<StoreResult<T>>,
}

#[async_trait]
impl<D, F, T> Call<D> for Doing<F, T>
where
    D: Dialect,
    F: for<'a, 'c> Fn(&'a mut Link<'c, D>) -> BoxFuture<'a, Outcome<T>> + Send,
    T: Send,
{
    fn topic(&self) -> Topic {
        self.topic
    }

    async fn run(&mut self, link: &mut Link<'_, D>) -> Outcome<()> {
        self.result = None;
        let running = (self.act)(link);
        self.result = Some(running.await?);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: &Verdict) {
        let wrote = if self.result.is_some() { Wrote::Something } else { Wrote::Nothing };
        let result = match (verdict.error(wrote), self.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            // A commit that is kept has run all of its calls.
            (None, None) => Err(crate::error::closed()),
        };
        // Nobody waits any more if the caller's future was dropped.
        let _ = self.reply.send(result);
    }
}

impl<D: Dialect> Job<D> {
    pub(crate) fn count(&self) -> usize {
        match &self.work {
            Work::Appends(appends) => appends.batch.len().max(1),
            Work::Call(_) => 1,
        }
    }

    /// The rooms that it appends to.
    pub(crate) fn rooms(&self) -> impl Iterator<Item = &RoomId> {
        let batch = match &self.work {
            Work::Appends(appends) => appends.batch.as_slice(),
            Work::Call(_) => &[],
        };
        batch.iter().map(|append| &append.room)
    }

    pub(crate) fn answer(self, verdict: &Verdict) {
        match self.work {
            Work::Appends(appends) => appends.answer(verdict),
            Work::Call(call) => call.answer(verdict),
        }
        drop(self.place);
    }
}

impl Appends {
    fn answer(self, verdict: &Verdict) {
        let mut results = self.results;
        // It did not run.
        let missing = self.batch.len().saturating_sub(results.len());
        results.extend((0..missing).filter_map(|_| verdict.error(Wrote::Nothing)).map(Err));
        for result in &mut results {
            let wrote = match result {
                // A repeat may be one of a send in this very commit: what became of that is not known either.
                Ok(_) => Wrote::Something,
                // It may rest on what stood before it in the commit.
                Err(_) => Wrote::Nothing,
            };
            if let Some(error) = verdict.error(wrote) {
                *result = Err(error);
            }
        }
        let _ = self.reply.send(results);
    }
}

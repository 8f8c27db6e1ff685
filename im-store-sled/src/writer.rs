//! The one thread that writes.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use im_core::ports::{Appended, StoreError, StoreErrorKind, StoreResult};
use im_core::state::{Append, StateLimits};
use tokio::sync::oneshot;

use crate::device::Device;
use crate::error::{io_kind, reading, sled_kind};
use crate::folder::Folder;
use crate::open::{self, Opened};
use crate::queue::{Bounds, Job, Queue};
use crate::rooms::RoomCache;
use crate::shared::{Handle, Shared};
use crate::status::{LAYOUT, Left, Status, boot_id};
use crate::txn::{Meta, Need, Ready, Txn};
use crate::whole::{self, Change, Found};

/// Something to write.
pub(crate) trait Work: Send {
    /// Puts its writes into the commit and keeps its answer.
    fn run(&mut self, txn: &mut Txn<'_>);
    /// Gives its answer.
    fn answer(self: Box<Self>, verdict: &Verdict);
}

/// What became of a commit.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is kept.
    Kept,
    /// Nothing of it was written.
    Lost(StoreErrorKind, String),
    /// Nobody knows.
    Doubt(String),
}

impl Verdict {
    fn error(&self, wrote: Wrote) -> Option<StoreError> {
        Some(match (self, wrote) {
            (Self::Kept, _) => return None,
            (Self::Doubt(why), Wrote::Something) => {
                let message = format!("whether this was written is not known: {why}");
                StoreError::new(StoreErrorKind::Unknown, message)
            }
            (Self::Doubt(why), Wrote::Nothing) => {
                StoreError::new(StoreErrorKind::Unavailable, format!("nothing was written: {why}"))
            }
            (Self::Lost(kind, why), _) => {
                StoreError::new(*kind, format!("nothing was written: {why}"))
            }
        })
    }
}

/// Whether a call has put something into the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrote {
    Something,
    Nothing,
}

/// Appends and their answers.
pub(crate) struct Appends {
    pub(crate) batch: Vec<Append>,
    pub(crate) results: Vec<StoreResult<Appended>>,
    pub(crate) reply: oneshot::Sender<Vec<StoreResult<Appended>>>,
}

impl Work for Appends {
    fn run(&mut self, txn: &mut Txn<'_>) {
        // The rooms of those that failed, though the rules allowed them: what stands behind one is not written without it.
        let mut failed = HashSet::new();
        let results = self.batch.iter().map(|append| {
            if failed.contains(&append.room) {
                return Err(behind());
            }
            let result = txn.append(append);
            if let Err(error) = &result
                && !matches!(error.kind(), StoreErrorKind::Refused(_))
            {
                failed.insert(&append.room);
            }
            result
        });
        self.results = results.collect();
    }

    fn answer(self: Box<Self>, verdict: &Verdict) {
        let mut results = self.results;
        // It did not run.
        let missing = self.batch.len().saturating_sub(results.len());
        results.extend((0..missing).filter_map(|_| verdict.error(Wrote::Nothing)).map(Err));
        for result in &mut results {
            let wrote = match result {
                Ok(Appended::Committed(_)) => Wrote::Something,
                // It may rest on what stood before it in the commit.
                _ => Wrote::Nothing,
            };
            if let Some(error) = verdict.error(wrote) {
                *result = Err(error);
            }
        }
        // Nobody waits any more if the caller's future was dropped.
        let _ = self.reply.send(results);
    }
}

fn behind() -> StoreError {
    let words = "nothing was written: an append to the room that stood before this one failed";
    StoreError::new(StoreErrorKind::Unavailable, words)
}

/// Any other write and its answer.
pub(crate) struct Call<F, T> {
    pub(crate) act: Option<F>,
    pub(crate) result: Option<StoreResult<T>>,
    pub(crate) reply: oneshot::Sender<StoreResult<T>>,
}

impl<F, T> Work for Call<F, T>
where
    F: FnOnce(&mut Txn<'_>) -> StoreResult<T> + Send,
    T: Send,
{
    fn run(&mut self, txn: &mut Txn<'_>) {
        self.result = self.act.take().map(|act| txn.attempt(act));
    }

    fn answer(self: Box<Self>, verdict: &Verdict) {
        let wrote =
            if matches!(self.result, Some(Ok(_))) { Wrote::Something } else { Wrote::Nothing };
        let result = match verdict.error(wrote) {
            Some(error) => Err(error),
            // A commit that is kept has run all of its calls.
            None => self.result.unwrap_or_else(|| Err(crate::error::closed())),
        };
        let _ = self.reply.send(result);
    }
}

/// Which call to the disk failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Apply,
    Flush,
    Sync,
}

/// The thread's own things.
pub(crate) struct Writer {
    pub(crate) folder: Folder,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) bounds: Bounds,
    pub(crate) cache_bytes: u64,
    pub(crate) state_limits: StateLimits,
    pub(crate) generation: u64,
    pub(crate) meta: Meta,
    pub(crate) cache: RoomCache,
    pub(crate) failed_at: Option<Instant>,
    /// Whether a sync failed and the data was not copied since.
    pub(crate) suspect: bool,
    /// What the commit changes that is on its way to the disk, or failed on it.
    pub(crate) unfinished: Vec<Change>,
}

impl Writer {
    /// Commits what is queued until the queue is closed and empty, then closes the database.
    pub(crate) fn run(mut self) -> StoreResult<()> {
        while let Some(jobs) = self.queue.take(self.bounds) {
            self.serve(jobs);
        }
        let closed = self.close();
        self.shared.close();
        closed
    }

    fn serve(&mut self, mut jobs: Vec<Job>) {
        let verdict = self.commit(&mut jobs);
        for job in jobs {
            job.work.answer(&verdict);
        }
    }

    fn commit(&mut self, jobs: &mut [Job]) -> Verdict {
        if !self.shared.is_open() && !self.try_again() {
            let why = self.shared.why_away();
            return Verdict::Lost(why.kind(), why.to_string());
        }
        // A panic is sled's: its assertions on the pages that it reads.
        match catch_unwind(AssertUnwindSafe(|| self.prepare(jobs))) {
            Ok(Ok(None)) => Verdict::Kept,
            Ok(Ok(Some((ready, changes)))) => {
                // A backup may have begun with this commit.
                let changed = self.shared.is_watched().then(|| whole::keys(&changes));
                self.unfinished = changes;
                let verdict = self.write(ready);
                // Only now: noted earlier, they could be copied before they change, and be forgotten.
                self.shared.note(changed.unwrap_or_default());
                verdict
            }
            Ok(Err(error)) => Verdict::Lost(error.kind(), error.to_string()),
            Err(_) => {
                let why = "sled panicked while it read".to_owned();
                Verdict::Lost(StoreErrorKind::Unavailable, why)
            }
        }
    }

    fn prepare(&self, jobs: &mut [Job]) -> StoreResult<Option<(Ready, Vec<Change>)>> {
        self.shared.with(|handle| {
            self.folder.check(&handle.file)?;
            let mut txn = Txn::new(handle, &self.cache, &self.meta, self.state_limits);
            jobs.iter_mut().for_each(|job| job.work.run(&mut txn));
            let Some(mut ready) = txn.finish(&self.meta) else { return Ok(None) };
            let writes = std::mem::take(&mut ready.writes);
            let changes = whole::look(&handle.db, writes).map_err(reading)?;
            Ok(Some((ready, changes)))
        })
    }

    fn write(&mut self, ready: Ready) -> Verdict {
        let Ready { batch, before, meta, rooms, need, .. } = ready;
        self.shared.hide(before);
        match catch_unwind(AssertUnwindSafe(|| self.to_disk(batch, need))) {
            Ok(Ok(())) => {
                self.shared.show();
                self.unfinished.clear();
                self.meta = meta;
                for (id, room) in rooms {
                    match room {
                        Some(room) => self.cache.put(room),
                        None => self.cache.remove(&id),
                    }
                }
                Verdict::Kept
            }
            Ok(Err((stage, kind, why))) => self.fail(stage, kind, why, meta.batch),
            Err(_) => {
                let why = "sled panicked while it wrote".to_owned();
                self.fail(Stage::Flush, StoreErrorKind::Unavailable, why, meta.batch)
            }
        }
    }

    fn to_disk(
        &self,
        batch: sled::Batch,
        need: Need,
    ) -> Result<(), (Stage, StoreErrorKind, String)> {
        let sled_failed = |stage| move |e: sled::Error| (stage, sled_kind(&e), e.to_string());
        let done = self.shared.with(|handle| {
            let write = || {
                self.device.apply(&handle.db, batch).map_err(sled_failed(Stage::Apply))?;
                self.device.flush(&handle.db).map_err(sled_failed(Stage::Flush))?;
                if need == Need::Sync {
                    let synced = self.device.sync(&handle.file);
                    synced.map_err(|e| (Stage::Sync, io_kind(&e), e.to_string()))?;
                }
                Ok(())
            };
            Ok(write())
        });
        done.unwrap_or_else(|e| Err((Stage::Apply, e.kind(), e.to_string())))
    }

    /// Closes the database and opens it again: sled does not go on after a failed write, and a sync that failed once
    /// says nothing when it is tried again. What is found then tells whether the commit was written.
    fn fail(&mut self, stage: Stage, kind: StoreErrorKind, why: String, batch: u64) -> Verdict {
        tracing::error!(?stage, %why, "a commit failed; the store is opened again");
        // Corrupt is said of reads. To whoever writes it is a store that fails.
        let kind = if kind == StoreErrorKind::Full { kind } else { StoreErrorKind::Unavailable };
        self.shared.fail(kind, &why);
        self.cache.clear();
        // The system tells of a failed write once, to whoever asks first; sled's flush, or its drop, may have been that one.
        if stage == Stage::Sync || kind != StoreErrorKind::Full {
            self.distrust();
        }
        match self.reopen() {
            Ok(()) if self.meta.batch == batch => Verdict::Kept,
            Ok(()) => Verdict::Lost(kind, why),
            Err(error) => Verdict::Doubt(format!("{why}; then: {error}")),
        }
    }

    /// A sync may have failed. That is noted for a process that comes after this one, if the disk takes it.
    fn distrust(&mut self) {
        self.suspect = true;
        if let Err(error) = self.folder.suspect(&boot_id().unwrap_or_default(), &*self.device) {
            tracing::warn!(%error, "a failed sync could not be noted");
        }
    }

    /// Tries to open a store that could not be opened before, but not all the time.
    fn try_again(&mut self) -> bool {
        if self.failed_at.is_some_and(|at| at.elapsed() < self.device.rest()) {
            return false;
        }
        self.reopen().is_ok()
    }

    fn reopen(&mut self) -> StoreResult<()> {
        let opened = self.renew().and_then(|()| {
            let (generation, batch) = (self.generation, self.meta.batch);
            open::reopen(&self.folder, generation, batch, &*self.device, self.cache_bytes)
        });
        let opened = opened.and_then(|opened| self.settle(opened));
        match opened {
            Ok(Opened { handle, meta }) => {
                tracing::info!("the store is open again");
                (self.meta, self.failed_at) = (meta, None);
                // It was renewed if need be. If the note stays, the next start renews it once more.
                if let Err(error) = self.folder.trust() {
                    tracing::warn!(%error, "the note of a failed sync stays");
                }
                self.shared.open(handle);
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "the store could not be opened again");
                self.failed_at = Some(Instant::now());
                let full = error.kind() == StoreErrorKind::Full;
                if error.kind() == StoreErrorKind::Unavailable {
                    // sled syncs while it opens, and does not tell what of that failed.
                    self.distrust();
                }
                let kind = if full { StoreErrorKind::Full } else { StoreErrorKind::Unavailable };
                self.shared.fail(kind, &error.to_string());
                Err(error)
            }
        }
    }

    /// Takes back the commit that failed, if a part of it is there.
    fn settle(&mut self, mut opened: Opened) -> StoreResult<Opened> {
        let Handle { db, file, .. } = &opened.handle;
        if whole::found(db, &self.unfinished).map_err(reading)? == Found::Part {
            tracing::warn!("sled left a part of a commit; it is taken back");
            self.device.apply(db, whole::undo(&self.unfinished)).map_err(reading)?;
            self.device.flush(db).map_err(reading)?;
            let path = self.folder.path();
            self.device.sync(file).map_err(|e| crate::error::file("sync", path, e))?;
            opened.meta = open::read_meta(db)?;
        }
        self.unfinished.clear();
        Ok(opened)
    }

    /// After a failed sync: see [`Folder::renew`].
    fn renew(&mut self) -> StoreResult<()> {
        if self.suspect {
            self.folder.renew(&*self.device)?;
            self.suspect = false;
        }
        Ok(())
    }

    /// Syncs, and notes that the folder was left in order.
    fn close(&mut self) -> StoreResult<()> {
        if !self.shared.is_open() {
            return Err(self.shared.why_away());
        }
        let synced = self.shared.with(|handle| {
            self.device.flush(&handle.db).map_err(reading)?;
            let path = self.folder.path();
            self.device.sync(&handle.file).map_err(|e| crate::error::file("sync", path, e))
        });
        if synced.is_err() {
            self.distrust();
        }
        synced?;
        let boot = boot_id().unwrap_or_default();
        let (layout, generation, batch) = (LAYOUT, self.generation, self.meta.batch);
        let status = Status { layout, generation, left: Left::Closed, boot, batch };
        self.folder.write(&status, &*self.device)
    }
}

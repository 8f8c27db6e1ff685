//! Group commit: what has queued while the last commit was synced shares the next one.

use im_core::keyed::{Job, commit_group};
use im_core::ports::{StoreErrorKind, StoreResult};
use redb::Durability;
use tokio::sync::mpsc;

use crate::file::File;
use crate::rows::{ROWS, Seen};

/// Jobs in one transaction at most: so many of the largest contents are held in memory twice.
const GROUP: usize = 256;

/// Commits until nobody can bring any more jobs, and all are done.
pub(crate) fn run(file: &File, mut queue: mpsc::Receiver<Job>) {
    let mut jobs = Vec::new();
    while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
        commit_group(std::mem::take(&mut jobs), |jobs| commit(file, jobs));
    }
}

/// All of them or, by dropping the transaction, none.
fn commit(file: &File, jobs: &mut [Job]) -> StoreResult<()> {
    let database = file.database()?;
    let mut txn = database.begin_write().map_err(|e| file.failed(e))?;
    // The default, said here because everything rests on it.
    txn.set_durability(Durability::Immediate).map_err(|e| file.failed(e))?;
    let mut rows = Seen { table: txn.open_table(ROWS).map_err(|e| file.failed(e))?, file };
    for job in jobs {
        job.run(&mut rows)?;
    }
    drop(rows);
    // Part of it may have reached the disk by then.
    txn.commit().map_err(|e| file.failed_as(StoreErrorKind::Unknown, e.into()))
}

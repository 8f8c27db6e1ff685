//! A store for the im engine: one file, kept by [redb](https://docs.rs/redb). `docs/store.md` goes through it.
//!
//! | module | what it holds |
//! |---|---|
//! | `file` | the file, opened anew after an error, and what redb's errors mean |
//! | `rows` | what a transaction reads and writes |
//! | `commit` | the thread that commits |

mod commit;
mod file;
mod rows;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
pub use im_core::keyed::Life;
use im_core::keyed::{Database, Job, KeyedStore, Look};
use im_core::ports::{Durability, StoreError, StoreErrorKind, StoreResult};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::file::File;

/// Jobs that may wait for the thread that commits. Whoever brings one more waits.
const QUEUE: usize = 1024;

/// The store.
pub type RedbStore = KeyedStore<Redb>;

/// Opens the store in this file, or begins one where there is no file; the folder must be there. One process at a time
/// can have it open. Say [`Life::New`] once after the file was put back from a copy.
///
/// # Errors
///
/// [`StoreErrorKind::Unavailable`] if it is open already, or cannot be opened; [`StoreErrorKind::Corrupt`] if it is
/// damaged, or of another layout.
pub async fn open(path: impl Into<PathBuf>, life: Life) -> StoreResult<RedbStore> {
    let path = path.into();
    let file = spawn_blocking(move || File::open(path)).await.map_err(lost)??;
    KeyedStore::open(Redb::start(Arc::new(file))?, life).await
}

/// What [`RedbStore`] stands on: an open file, and the thread that writes to it.
///
/// If it is dropped without having been closed, the thread writes what it has and ends.
#[derive(Debug)]
pub struct Redb {
    file: Arc<File>,
    /// Where the thread gets its jobs, and the thread. `None` once it was closed.
    writer: Mutex<Option<(mpsc::Sender<Job>, JoinHandle<()>)>>,
}

impl Redb {
    fn start(file: Arc<File>) -> StoreResult<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let written = Arc::clone(&file);
        let thread = thread::Builder::new().name("redb-store".into());
        let thread = thread.spawn(move || commit::run(&written, queue)).map_err(lost)?;
        Ok(Self { file, writer: Mutex::new(Some((jobs, thread))) })
    }
}

#[async_trait]
impl Database for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn durability(&self) -> Durability {
        Durability::PowerLoss
    }

    async fn read(&self, look: Look) {
        let file = Arc::clone(&self.file);
        // It answers by itself, whether or not anybody still waits for it.
        drop(spawn_blocking(move || file.look(look)));
    }

    async fn write(&self, job: Job) {
        let jobs = self.writer.lock().as_ref().map(|(jobs, _)| jobs.clone());
        if let Some(jobs) = jobs {
            // If the thread is gone the job is dropped, which answers it: the store is closed.
            let _ = jobs.send(job).await;
        }
    }

    async fn close(&self) -> StoreResult<()> {
        let Some((jobs, thread)) = self.writer.lock().take() else { return Ok(()) };
        drop(jobs);
        let file = Arc::clone(&self.file);
        // Also without anybody who waits for it.
        let ending = spawn_blocking(move || {
            let ended = thread.join();
            file.close()?;
            ended.map_err(|_| lost("it has panicked"))
        });
        ending.await.map_err(lost)?
    }
}

/// A thread could not be started, or has not come to its end.
fn lost(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "a thread of the store is gone").because(why)
}

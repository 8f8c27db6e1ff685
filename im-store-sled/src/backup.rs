//! A copy of a store that is in use.
//!
//! Rows are copied while commits go on, and what those change is noted. What was changed is then copied again, until
//! little is left; that is done between two commits. So the copy is the store as it was at one moment, and writers wait
//! for no more than the last few rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};

use crate::device::Device;
use crate::error::{file, reading};
use crate::folder::{self, Folder, Snapshots};
use crate::keys::Key;
use crate::open;
use crate::shared::{Handle, Shared};
use crate::status::{LAYOUT, Left, Status};
use crate::store::{SledStore, blocking};
use crate::{keys, record};

/// Rows copied in one piece.
const ROWS: usize = 512;
/// So few changed rows may be copied while the writer waits.
const FEW: usize = 256;
/// How often what was changed meanwhile is copied again before the writer has to wait.
const ROUNDS: usize = 16;
/// Keys that may change in one round. A copy that is slower than that is given up.
const MAX_CHANGED: usize = 1 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backup {
    /// The folder: open it like any other store.
    pub path: PathBuf,
    /// Rooms in it, each checked: its log is whole.
    pub rooms: usize,
    /// Rows in it.
    pub rows: u64,
}

impl SledStore {
    /// Copies the store into the folder `to`, which must be empty or not there, while it is in use. The copy is the store
    /// as it was at one moment, after the call and before it returns; every log in it was read and found whole, and it is
    /// on the disk.
    ///
    /// To restore it, put the folder in the place of the old one, or open it where it is: opening it begins a new
    /// generation, since the store that it was copied from has gone on, and clients start their rooms anew. Its status file
    /// says `left backup` until then.
    ///
    /// Costs one read of the store and one write of the copy; some 100 bytes in memory for each row that is changed
    /// meanwhile, at most a million in one round.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the folder is not empty, if another backup is under way, or if the store is; `Full` if the device
    /// has no room for the copy. The folder is then without a status file and cannot be opened as a store: remove it.
    pub async fn backup(&self, to: impl Into<PathBuf>) -> StoreResult<Backup> {
        let to = to.into();
        let path = to.clone();
        let (shared, device) = (Arc::clone(self.shared()), Arc::clone(self.device()));
        // From here on what changes is noted. Begun between two commits, so that none is under way of which nobody knows.
        let watch = self.write(0, move |_| Watch::begin(shared)).await?;
        let copy = blocking(move || {
            let copy = Copy { to: Target::make(path, device)?, watch };
            copy.rows()?;
            copy.catch_up(FEW)?;
            Ok(copy)
        });
        let copy = copy.await?;
        // Between two commits nothing changes.
        let moment = self.write(0, move |txn| copy.finish(txn.handle)).await?;
        blocking(move || moment.seal()).await
    }
}

impl SledStore {
    /// Copies a backup, or a store that was closed, into the folder `to`, which must be empty or not there. `from` stays
    /// as it is. Opening the copy begins a new generation, as its status file says (`left backup`).
    ///
    /// # Errors
    ///
    /// `Unavailable` if there is no store in `from`, if it is in use, or if `to` is not empty; `Full` if the device has
    /// no room. `to` then has no status file: remove it.
    pub async fn restore(from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> StoreResult<()> {
        let (from, to) = (from.into(), to.into());
        blocking(move || {
            let none = || {
                let message = format!("there is no store in {}", from.display());
                StoreError::new(StoreErrorKind::Unavailable, message)
            };
            if !from.join("status").exists() {
                return Err(none());
            }
            let (held, status) = Folder::take(&from)?;
            let status = status.ok_or_else(none)?;
            folder::make_empty(&to)?;
            let copy = || {
                folder::copy(&held.sled(), &to.join("sled"), Snapshots::Keep)?;
                let status = Status { left: Left::Backup, ..status };
                folder::replace(&to.join("status"), &status.to_string())
            };
            copy().map_err(|e| file("copy the store to", &to, e))
        })
        .await
    }
}

/// The database that a copy is written to.
struct Target {
    path: PathBuf,
    db: sled::Db,
    /// Its log. Opened before anything is written, so that it is told of every write that fails, sled's own syncs' too.
    log: File,
    device: Arc<dyn Device>,
}

impl Target {
    fn make(path: PathBuf, device: Arc<dyn Device>) -> StoreResult<Self> {
        folder::make_empty(&path)?;
        let sled = path.join("sled");
        let db = device.open(&sled, 16 << 20).map_err(reading)?;
        let log = File::options().read(true).write(true).open(sled.join("db"));
        let log = log.map_err(|e| file("open the copy in", &path, e))?;
        Ok(Self { path, db, log, device })
    }

    fn write(&self, batch: sled::Batch) -> StoreResult<()> {
        self.device.apply(&self.db, batch).map_err(reading)
    }
}

/// Notes what changes, as long as it lives.
struct Watch(Arc<Shared>);

impl Watch {
    fn begin(shared: Arc<Shared>) -> StoreResult<Self> {
        if shared.watch() {
            return Ok(Self(shared));
        }
        let message = "another backup is under way: wait for it";
        Err(StoreError::new(StoreErrorKind::Unavailable, message))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.watch_no_more();
    }
}

/// A copy in the making.
struct Copy {
    to: Target,
    watch: Watch,
}

impl Copy {
    /// Copies every row as it is now, kept or not: what is not kept yet is noted as changed.
    fn rows(&self) -> StoreResult<()> {
        let mut from: Bound<Key> = Bound::Unbounded;
        loop {
            // The database is held for one piece only, so that it can be closed and opened again meanwhile.
            let last = self.watch.0.with(|handle| {
                let (mut batch, mut last, mut count) = (sled::Batch::default(), None, 0);
                for row in handle.db.range::<Key, _>((from.clone(), Bound::Unbounded)).take(ROWS) {
                    let (key, value) = row.map_err(reading)?;
                    last = Some(key.to_vec());
                    batch.insert(key, value);
                    count += 1;
                }
                self.to.write(batch)?;
                Ok(last.filter(|_| count == ROWS))
            })?;
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }

    /// Copies what was changed meanwhile, until there is little.
    fn catch_up(&self, few: usize) -> StoreResult<()> {
        for _ in 0..ROUNDS {
            let changed = self.watch.0.changed();
            if changed.len() > MAX_CHANGED {
                let message =
                    "the store changes faster than it can be copied: try at a quieter time";
                return Err(StoreError::new(StoreErrorKind::Unavailable, message));
            }
            self.watch.0.with(|handle| self.take(handle, &changed))?;
            if changed.len() <= few {
                break;
            }
        }
        Ok(())
    }

    fn take(&self, handle: &Handle, changed: &BTreeSet<Key>) -> StoreResult<()> {
        let mut batch = sled::Batch::default();
        for key in changed {
            match handle.get(key)? {
                Some(value) => batch.insert(key.as_slice(), value),
                None => batch.remove(key.as_slice()),
            }
        }
        self.to.write(batch)
    }

    /// Called between two commits.
    fn finish(self, handle: &Handle) -> StoreResult<Moment> {
        let changed = self.watch.0.changed();
        self.take(handle, &changed)?;
        let batch = handle.get(keys::BATCH)?;
        let batch = batch.map(|bytes| record::read_number(&bytes)).transpose()?.unwrap_or(0);
        Ok(Moment { to: self.to, generation: handle.generation, batch })
    }
}

/// A copy that holds one moment of the store.
struct Moment {
    to: Target,
    generation: u64,
    batch: u64,
}

impl Moment {
    /// Checks it, makes it last, and says what it is.
    fn seal(self) -> StoreResult<Backup> {
        let Self { to: Target { path, db, log, device }, generation, batch } = self;
        let rooms = open::verify(&db, batch)?;
        let rows = db.len() as u64;
        device.flush(&db).map_err(reading)?;
        // It writes and syncs some more as it goes, and does not tell what of that failed.
        drop(db);
        let sync = || {
            device.sync(&log)?;
            let sled = path.join("sled");
            for entry in std::fs::read_dir(&sled)? {
                let entry = entry?.path();
                if entry.is_file() {
                    File::open(entry)?.sync_all()?;
                }
            }
            folder::sync_folder(&sled)?;
            let (layout, left, boot) = (LAYOUT, Left::Backup, String::new());
            let status = Status { layout, generation, left, boot, batch };
            // Without it the folder is no store.
            device.replace(&path.join("status"), &status.to_string())
        };
        sync().map_err(|e| file("finish the copy in", &path, e))?;
        Ok(Backup { path, rooms, rows })
    }
}

//! Every call that writes to the disk, in one place, so that tests can let each of them fail.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::folder::{self, Snapshots};
use crate::wait;

/// The longest that a flush may take: it hands over some megabytes at most.
const LONGEST_FLUSH: Duration = Duration::from_secs(30);

/// The calls that reach the disk.
pub(crate) trait Device: Send + Sync {
    /// Opens the database.
    fn open(&self, path: &Path, cache_bytes: u64) -> sled::Result<sled::Db> {
        sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // Its thread would end after a write error and only log it, and it never does what we need: we flush.
            .flush_every_ms(None)
            .open()
    }

    /// Puts a batch into sled's memory and log buffers.
    fn apply(&self, db: &sled::Db, batch: sled::Batch) -> sled::Result<()> {
        db.apply_batch(batch)
    }

    /// Hands sled's log buffers to the operating system. From then on a kill of the process takes nothing.
    ///
    /// After an error of the disk sled may wait for ever for a buffer that nobody writes any more. So it waits on a thread
    /// of its own, which is given up then, with what it holds.
    fn flush(&self, db: &sled::Db) -> sled::Result<()> {
        let flushed = wait::within(LONGEST_FLUSH, db.flush_async());
        let gave_up = || sled::Error::ReportableBug("sled did not come back from a flush".into());
        flushed.unwrap_or_else(|| Err(gave_up())).map(|_| ())
    }

    /// Makes the disk keep what it was handed.
    ///
    /// On Linux sled's own flush ends in `sync_file_range`, which leaves out the disk's cache and the metadata. This is
    /// `fdatasync`: it writes the data, flushes the disk's cache, and writes the metadata that reading the data needs,
    /// the file's size and its blocks among them (POSIX, `fdatasync`; Linux man page fdatasync(2)). What it leaves out
    /// against `fsync` are times, which nothing here reads.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Copies sled's folder, every file synced. See [`folder::copy`].
    fn copy(&self, from: &Path, to: &Path, snapshots: Snapshots) -> io::Result<()> {
        folder::copy(from, to, snapshots)
    }

    /// Writes a small file, whole or not at all.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        folder::replace(path, text)
    }

    /// How long a store that could not be opened again is left alone.
    fn rest(&self) -> Duration {
        Duration::from_millis(500)
    }
}

/// The device as it is.
#[derive(Debug)]
pub(crate) struct Disk;

impl Device for Disk {}

//! A device that fails as it is told, and can be held.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::device::{Device, Disk};
use crate::folder::Snapshots;

/// A call to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    Open,
    Apply,
    Flush,
    Sync,
    Copy,
    Replace,
}

pub(super) const SITES: [Site; 6] =
    [Site::Open, Site::Apply, Site::Flush, Site::Sync, Site::Copy, Site::Replace];

/// Whether the call does its work before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Undone,
    Done,
}

#[derive(Default)]
pub(super) struct Faulty {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    faults: Vec<(Site, Work, i32)>,
    passes: Vec<Site>,
    calls: Vec<Site>,
    held: bool,
}

impl Faulty {
    /// The next call at `site` fails with this number of the system's.
    pub(super) fn fail(&self, site: Site, work: Work, errno: i32) {
        self.state.lock().faults.push((site, work, errno));
    }

    /// The next call at `site` goes well, and what was planned for it comes after.
    pub(super) fn pass(&self, site: Site) {
        self.state.lock().passes.push(site);
    }

    /// The faults that did not come about.
    pub(super) fn left(&self) -> usize {
        self.state.lock().faults.len()
    }

    /// The calls since the last time.
    pub(super) fn calls(&self) -> Vec<Site> {
        std::mem::take(&mut self.state.lock().calls)
    }

    /// Lets syncs wait until they are released.
    pub(super) fn hold(&self) {
        self.state.lock().held = true;
    }

    pub(super) fn release(&self) {
        self.state.lock().held = false;
        self.changed.notify_all();
    }

    /// Waits until there was a call at `site`.
    pub(super) fn until(&self, site: Site) {
        let mut state = self.state.lock();
        while !state.calls.contains(&site) {
            self.changed.wait(&mut state);
        }
    }

    fn at<T, E: From<io::Error>>(
        &self,
        site: Site,
        act: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let fault = {
            let mut state = self.state.lock();
            state.calls.push(site);
            self.changed.notify_all();
            while state.held && site == Site::Sync {
                self.changed.wait(&mut state);
            }
            match state.passes.iter().position(|each| *each == site) {
                Some(at) => {
                    state.passes.remove(at);
                    None
                }
                None => {
                    let at = state.faults.iter().position(|(each, ..)| *each == site);
                    at.map(|at| state.faults.remove(at))
                }
            }
        };
        let Some((_, work, errno)) = fault else { return act() };
        if work == Work::Done {
            act()?;
        }
        Err(io::Error::from_raw_os_error(errno).into())
    }
}

impl Device for Faulty {
    fn open(&self, path: &Path, cache_bytes: u64) -> sled::Result<sled::Db> {
        self.at(Site::Open, || Disk.open(path, cache_bytes))
    }

    fn apply(&self, db: &sled::Db, batch: sled::Batch) -> sled::Result<()> {
        self.at(Site::Apply, || Disk.apply(db, batch))
    }

    fn flush(&self, db: &sled::Db) -> sled::Result<()> {
        self.at(Site::Flush, || Disk.flush(db))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.at(Site::Sync, || Disk.sync(file))
    }

    fn copy(&self, from: &Path, to: &Path, snapshots: Snapshots) -> io::Result<()> {
        self.at(Site::Copy, || Disk.copy(from, to, snapshots))
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        self.at(Site::Replace, || Disk.replace(path, text))
    }

    fn rest(&self) -> Duration {
        Duration::ZERO
    }
}

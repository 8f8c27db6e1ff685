//! The open database, and what readers may see of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};
use parking_lot::{Mutex, RwLock};
use sled::IVec;

use crate::error::{closed, reading};
use crate::keys::Key;
use crate::parts;

/// An open database.
pub(crate) struct Handle {
    pub(crate) db: sled::Db,
    /// Our own handle to its file, for the sync that sled does not do.
    pub(crate) file: File,
    /// The store's generation.
    pub(crate) generation: u64,
}

impl Handle {
    /// What stands under `key`, kept or not.
    pub(crate) fn get(&self, key: &[u8]) -> StoreResult<Option<IVec>> {
        self.db.get(key).map_err(reading)
    }
}

/// What the writer and the readers share.
#[derive(Default)]
pub(crate) struct Shared {
    /// `None` while the database is closed. Readers hold it for one read, the writer for one commit.
    handle: RwLock<Option<Handle>>,
    /// Why there is none.
    away: Mutex<Away>,
    /// What stood under the keys of the commit that is on its way to the disk.
    ///
    /// sled shows a batch as soon as it is applied. But what a reader has seen must be there after a crash; so readers
    /// get what stood there before until the commit is kept.
    before: Mutex<BTreeMap<Key, Option<IVec>>>,
    /// The keys that commits have changed since a backup asked for them; `None` while there is none under way.
    changed: Mutex<Option<BTreeSet<Key>>>,
}

#[derive(Default)]
enum Away {
    /// It was closed.
    #[default]
    Closed,
    /// It failed and could not be opened again.
    Failed(StoreErrorKind, String),
}

impl Shared {
    /// Opens it for readers.
    pub(crate) fn open(&self, handle: Handle) {
        *self.handle.write() = Some(handle);
    }

    /// Waits for the readers, then drops the database. Their next reads fail.
    pub(crate) fn close(&self) {
        *self.away.lock() = Away::Closed;
        self.drop_handle();
    }

    /// Like `close`, after a failure.
    pub(crate) fn fail(&self, kind: StoreErrorKind, why: &str) {
        *self.away.lock() = Away::Failed(kind, why.to_owned());
        self.drop_handle();
    }

    fn drop_handle(&self) {
        let handle = self.handle.write().take();
        self.before.lock().clear();
        // sled flushes and syncs as it is dropped, and panics if that fails. Whoever relies on it has synced before.
        if catch_unwind(AssertUnwindSafe(|| drop(handle))).is_err() {
            tracing::warn!("sled panicked as it was closed");
        }
    }

    /// Does something with the database, if it is open.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&Handle) -> StoreResult<T>) -> StoreResult<T> {
        let handle = self.handle.read();
        match handle.as_ref() {
            Some(handle) => act(handle),
            None => Err(self.why_away()),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.handle.read().is_some()
    }

    /// The error for whoever finds it closed.
    pub(crate) fn why_away(&self) -> StoreError {
        match &*self.away.lock() {
            Away::Closed => closed(),
            Away::Failed(kind, why) => {
                StoreError::new(*kind, format!("the store failed and is not open: {why}"))
            }
        }
    }

    /// Begins to note what changes. `false` if somebody else does so.
    pub(crate) fn watch(&self) -> bool {
        let mut changed = self.changed.lock();
        let free = changed.is_none();
        changed.get_or_insert_default();
        free
    }

    /// What has changed since this was asked last.
    pub(crate) fn changed(&self) -> BTreeSet<Key> {
        self.changed.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn watch_no_more(&self) {
        *self.changed.lock() = None;
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.changed.lock().is_some()
    }

    /// After a batch was applied, or came to nothing, and before the next one: notes what it may have changed.
    pub(crate) fn note(&self, keys: Vec<Key>) {
        if let Some(changed) = self.changed.lock().as_mut() {
            changed.extend(keys);
        }
    }

    /// Before a batch is applied: hides what it will change.
    pub(crate) fn hide(&self, before: BTreeMap<Key, Option<IVec>>) {
        *self.before.lock() = before;
    }

    /// The batch is kept: shows it.
    pub(crate) fn show(&self) {
        self.before.lock().clear();
    }
}

/// Reads what is kept.
///
/// Invariant: sled is asked first and what is hidden is looked up after that. What sled showed was then either kept
/// already, or is still hidden.
pub(crate) struct Reader<'a> {
    pub(crate) handle: &'a Handle,
    pub(crate) shared: &'a Shared,
}

/// How many rows a scan takes at a time.
const CHUNK: usize = 128;

impl Reader<'_> {
    pub(crate) fn get(&self, key: &[u8]) -> StoreResult<Option<IVec>> {
        let found = self.handle.get(key)?;
        Ok(match self.shared.before.lock().get(key) {
            Some(before) => before.clone(),
            None => found,
        })
    }

    /// A record, put together.
    pub(crate) fn record(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        loop {
            let Some(first) = self.get(key)? else { return Ok(None) };
            let record = parts::join(&first, |part| self.get(&parts::key(key, part)));
            // If it was written anew meanwhile, the parts may be those of two writes.
            if parts::open(&first)?.1 == 0 || self.get(key)?.as_ref() == Some(&first) {
                return record.map(Some);
            }
        }
    }

    /// Hands over the rows after `from` that begin with `prefix`, in order, until `each` says that it is enough.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        after: Option<Key>,
        mut each: impl FnMut(&[u8], &IVec) -> StoreResult<Flow>,
    ) -> StoreResult<()> {
        let end = crate::keys::after_all(prefix);
        let mut from = after.map_or(Bound::Included(prefix.to_vec()), Bound::Excluded);
        loop {
            let range = (from.clone(), Bound::Excluded(end.clone()));
            let rows = self.handle.db.range::<Key, _>(range).take(CHUNK);
            let rows: Vec<(IVec, IVec)> = rows.collect::<Result<_, _>>().map_err(reading)?;
            let last =
                (rows.len() == CHUNK).then(|| rows.last().map(|(key, _)| key.to_vec())).flatten();
            let to = last.clone().map_or(Bound::Excluded(end.clone()), Bound::Included);
            for (key, value) in self.as_kept(rows, from, to) {
                if each(&key, &value)? == Flow::Enough {
                    return Ok(());
                }
            }
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }

    /// These rows, as they are without what is hidden.
    fn as_kept(
        &self,
        rows: Vec<(IVec, IVec)>,
        from: Bound<Key>,
        to: Bound<Key>,
    ) -> Vec<(IVec, IVec)> {
        let before = self.shared.before.lock();
        let mut hidden = before.range((from, to)).peekable();
        if hidden.peek().is_none() {
            return rows;
        }
        let mut kept: BTreeMap<IVec, IVec> = rows.into_iter().collect();
        for (key, value) in hidden {
            match value {
                Some(value) => kept.insert(key.as_slice().into(), value.clone()),
                None => kept.remove(key.as_slice()),
            };
        }
        kept.into_iter().collect()
    }
}

/// Whether a scan goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    More,
    Enough,
}

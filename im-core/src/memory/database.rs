//! Ordered keys in memory.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use parking_lot::{RwLock, RwLockReadGuard};

use crate::backend::{BackendResult, Way};
use crate::kv::{Database, DatabaseInfo, Each, Key, Rows, Value, WriteBatch, Written};
use crate::ports::Durability;

/// Rows in memory: the reference of what a [`Database`] does. They are gone with it.
///
/// A snapshot holds writers off as long as it lasts.
#[derive(Debug, Default)]
pub struct MemoryDatabase(RwLock<BTreeMap<Key, Value>>);

struct Snapshot<'a>(RwLockReadGuard<'a, BTreeMap<Key, Value>>);

fn scan(
    rows: &BTreeMap<Key, Value>,
    range: Range<&[u8]>,
    way: Way,
    each: Each<'_>,
) -> BackendResult<()> {
    if range.start >= range.end {
        return Ok(());
    }
    let (start, end) = (Bound::Included(range.start), Bound::Excluded(range.end));
    let mut found = rows.range::<[u8], _>((start, end));
    let mut next = || match way {
        Way::Forwards => found.next(),
        Way::Backwards => found.next_back(),
    };
    while let Some((key, value)) = next()
        && each(key, value).is_continue()
    {}
    Ok(())
}

impl Rows for Snapshot<'_> {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        scan(&self.0, range, way, each)
    }
}

impl Rows for MemoryDatabase {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        Ok(self.0.read().get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        scan(&self.0.read(), range, way, each)
    }
}

impl Database for MemoryDatabase {
    fn info(&self) -> DatabaseInfo {
        DatabaseInfo {
            name: "memory",
            durability: Durability::Volatile,
            exclusive: true,
            snapshots: true,
            immediate: true,
        }
    }

    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        Ok(Some(Box::new(Snapshot(self.0.read()))))
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        let mut rows = self.0.write();
        if batch.checks.iter().any(|(key, value)| rows.get(key) != value.as_ref()) {
            return Ok(Written::Changed);
        }
        for (key, value) in &batch.changes {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
        Ok(Written::Applied)
    }

    fn close(&self) -> BackendResult<()> {
        Ok(())
    }
}

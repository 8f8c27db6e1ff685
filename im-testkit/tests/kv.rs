//! The store over databases with ordered keys: in memory, and a map without snapshots that outlives
//! its store.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use im_core::backend::{BackendResult, Way};
use im_core::kv::{
    Database, DatabaseInfo, Each, Key, KeyValueBackend, OpenAs, Rows, Value, WriteBatch, Written,
};
use im_core::memory::MemoryDatabase;
use im_core::ports::Durability;
use im_core::store::BackendStore;
use im_testkit::store_suite::{Store, StoreFactory, async_trait};

/// The content that remains when a store is closed.
type Disk = Arc<Mutex<BTreeMap<Key, Value>>>;

/// A map without snapshots, which other connections may write, too.
struct Map {
    disk: Disk,
    exclusive: bool,
}

impl Rows for Map {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        Ok(self.disk.lock().unwrap().get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        let rows: Vec<_> = self
            .disk
            .lock()
            .unwrap()
            .range(range.start.to_vec()..range.end.to_vec())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let mut rows: Box<dyn Iterator<Item = _>> = match way {
            Way::Forwards => Box::new(rows.into_iter()),
            Way::Backwards => Box::new(rows.into_iter().rev()),
        };
        let _ = rows.try_for_each(|(key, value)| each(&key, &value));
        Ok(())
    }
}

impl Database for Map {
    fn info(&self) -> DatabaseInfo {
        DatabaseInfo {
            name: "map",
            // Not true: declared so that the suite reopens the store.
            durability: Durability::ProcessCrash,
            exclusive: self.exclusive,
            snapshots: false,
            immediate: false,
        }
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        let mut rows = self.disk.lock().unwrap();
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

struct Memory;

#[async_trait]
impl StoreFactory for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        let backend = KeyValueBackend::new(MemoryDatabase::default(), OpenAs::SameGeneration);
        Arc::new(BackendStore::open(Arc::new(backend)).await.unwrap())
    }

    async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        None
    }
}

/// The map of the latest store.
#[derive(Default)]
struct Maps {
    disk: Mutex<Disk>,
    exclusive: bool,
}

impl Maps {
    async fn open_on(&self, disk: Disk) -> Arc<dyn Store> {
        let map = Map { disk, exclusive: self.exclusive };
        let backend = KeyValueBackend::new(map, OpenAs::SameGeneration);
        Arc::new(BackendStore::open(Arc::new(backend)).await.unwrap())
    }
}

#[async_trait]
impl StoreFactory for Maps {
    async fn open(&self) -> Arc<dyn Store> {
        let disk = Disk::default();
        *self.disk.lock().unwrap() = Arc::clone(&disk);
        self.open_on(disk).await
    }

    async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        let disk = Arc::clone(&self.disk.lock().unwrap());
        Some(self.open_on(disk).await)
    }
}

mod memory {
    im_testkit::store_suite!(super::Memory);
}

mod exclusive {
    im_testkit::store_suite!(super::Maps { exclusive: true, ..Default::default() });
}

mod shared {
    im_testkit::store_suite!(super::Maps::default());
}

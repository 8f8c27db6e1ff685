//! Databases with ordered keys for the suites: in memory, and a map that outlives its backend.
#![allow(dead_code, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use im_core::backend::{BackendResult, Way};
use im_core::kv::{
    Database, DatabaseInfo, Each, Key, KeyValueBackend, OpenAs, Rows, Value, WriteBatch, Written,
};
use im_core::memory::MemoryDatabase;
use im_core::ports::Durability;
use im_testkit::backend_suite::{Backend, BackendFactory, async_trait};

type Map = BTreeMap<Key, Value>;
/// What stays when a backend is closed.
pub(crate) type Disk = Arc<Mutex<Arc<Map>>>;

/// A map: exclusive and without snapshots, or shared and with them.
pub(crate) struct MapDatabase {
    disk: Disk,
    exclusive: bool,
}

/// The map of one moment.
struct Moment(Arc<Map>);

impl Rows for Moment {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut rows = self.0.range(range.start.to_vec()..range.end.to_vec());
        let mut next = || match way {
            Way::Forwards => rows.next(),
            Way::Backwards => rows.next_back(),
        };
        while let Some((key, value)) = next()
            && each(key, value).is_continue()
        {}
        Ok(())
    }
}

impl MapDatabase {
    pub(crate) fn new(disk: Disk, exclusive: bool) -> Self {
        Self { disk, exclusive }
    }

    fn now(&self) -> Moment {
        Moment(Arc::clone(&self.disk.lock().unwrap()))
    }
}

impl Rows for MapDatabase {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        self.now().get(key)
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        self.now().scan(range, way, each)
    }
}

impl Database for MapDatabase {
    fn info(&self) -> DatabaseInfo {
        DatabaseInfo {
            name: "map",
            // A lie, so that it is opened again.
            durability: Durability::ProcessCrash,
            exclusive: self.exclusive,
            snapshots: !self.exclusive,
            immediate: false,
        }
    }

    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        Ok(if self.exclusive { None } else { Some(Box::new(self.now())) })
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        let mut disk = self.disk.lock().unwrap();
        if batch.checks.iter().any(|(key, value)| disk.get(key) != value.as_ref()) {
            return Ok(Written::Changed);
        }
        let rows = Arc::make_mut(&mut disk);
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

/// Makes backends in memory.
pub(crate) struct Memory;

#[async_trait]
impl BackendFactory for Memory {
    async fn create(&self) -> Arc<dyn Backend> {
        Arc::new(KeyValueBackend::new(MemoryDatabase::default(), OpenAs::SameGeneration))
    }

    async fn reopen(&self, _closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
        None
    }
}

/// Makes backends on maps; has the latest one.
pub(crate) struct Maps {
    disk: Mutex<Disk>,
    exclusive: bool,
}

impl Maps {
    pub(crate) fn exclusive() -> Self {
        Self { disk: Mutex::default(), exclusive: true }
    }

    pub(crate) fn shared() -> Self {
        Self { disk: Mutex::default(), exclusive: false }
    }

    fn on_disk(&self) -> Arc<dyn Backend> {
        let map = MapDatabase::new(Arc::clone(&self.disk.lock().unwrap()), self.exclusive);
        Arc::new(KeyValueBackend::new(map, OpenAs::SameGeneration))
    }
}

#[async_trait]
impl BackendFactory for Maps {
    async fn create(&self) -> Arc<dyn Backend> {
        *self.disk.lock().unwrap() = Disk::default();
        self.on_disk()
    }

    async fn reopen(&self, _closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
        Some(self.on_disk())
    }

    async fn another(&self) -> Option<Arc<dyn Backend>> {
        if self.exclusive { None } else { Some(self.on_disk()) }
    }
}

//! The store suite on the sled store.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::sync::Arc;

use im_store_sled::{SledConfig, SledStore};
use im_testkit::store_suite::{Store, StoreFactory, async_trait};
use tempfile::TempDir;

/// Each store that it opens has a folder of its own. One opens many, so the latest is kept in a lock.
#[derive(Default)]
struct Sled(std::sync::Mutex<Vec<TempDir>>);

async fn open(folder: &std::path::Path) -> Arc<dyn Store> {
    let config = SledConfig::new(folder).cache_bytes(4 << 20);
    Arc::new(SledStore::open(config).await.unwrap())
}

#[async_trait]
impl StoreFactory for Sled {
    async fn open(&self) -> Arc<dyn Store> {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path()).await;
        self.0.lock().unwrap().push(folder);
        store
    }

    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(closed);
        let folder = self.0.lock().unwrap().last()?.path().to_owned();
        Some(open(&folder).await)
    }
}

im_testkit::store_suite!(Sled::default());

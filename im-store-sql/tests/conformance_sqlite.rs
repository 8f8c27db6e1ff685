//! The store suite on SQLite.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use im_store_sql::{SqlConfig, SqliteStore};
use im_testkit::store_suite::{Store, StoreFactory, async_trait};
use tempfile::TempDir;

/// Each store that it opens has a folder of its own. One opens many, so the latest is kept in a lock.
#[derive(Default)]
struct Sqlite(Mutex<Vec<TempDir>>);

async fn open(folder: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(SqlConfig::sqlite(folder.join("im.db"))).await.unwrap())
}

#[async_trait]
impl StoreFactory for Sqlite {
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

im_testkit::store_suite!(Sqlite::default());

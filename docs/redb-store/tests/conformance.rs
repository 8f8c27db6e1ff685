//! The store suite of im-testkit.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use im_testkit::store_suite::{Store, StoreFactory, async_trait};
use redb_store::OpenAs;
use tempfile::TempDir;

/// The folders of the stores that it has opened: each has its own.
#[derive(Default)]
struct Folders(Mutex<Vec<TempDir>>);

async fn open(folder: &Path) -> Arc<dyn Store> {
    Arc::new(redb_store::open(folder.join("im.redb"), OpenAs::SameGeneration).await.unwrap())
}

#[async_trait]
impl StoreFactory for Folders {
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

im_testkit::store_suite!(Folders::default());

//! The suites of im-testkit: that of backends, and that of stores over one.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use im_testkit::backend_suite::{Backend, BackendFactory, async_trait};
use im_testkit::store_suite::{Store, StoreFactory};
use redb_store::OpenAs;
use tempfile::TempDir;

/// The folders of the files that it has opened: each has its own.
#[derive(Default)]
struct Folders(Mutex<Vec<TempDir>>);

impl Folders {
    fn add(&self) -> PathBuf {
        self.0.lock().unwrap().push(TempDir::new().unwrap());
        self.last()
    }

    fn last(&self) -> PathBuf {
        self.0.lock().unwrap().last().unwrap().path().join("im.redb")
    }
}

async fn backend(file: PathBuf) -> Arc<dyn Backend> {
    Arc::new(redb_store::backend(file, OpenAs::SameGeneration).await.unwrap())
}

#[async_trait]
impl BackendFactory for Folders {
    async fn create(&self) -> Arc<dyn Backend> {
        backend(self.add()).await
    }

    async fn reopen(&self, closed: Arc<dyn Backend>) -> Option<Arc<dyn Backend>> {
        drop(closed);
        Some(backend(self.last()).await)
    }
}

async fn store(file: PathBuf) -> Arc<dyn Store> {
    Arc::new(redb_store::open(file, OpenAs::SameGeneration).await.unwrap())
}

#[async_trait]
impl StoreFactory for Folders {
    async fn open(&self) -> Arc<dyn Store> {
        store(self.add()).await
    }

    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(closed);
        Some(store(self.last()).await)
    }
}

mod as_backend {
    im_testkit::backend_suite!(super::Folders::default());
}

mod as_store {
    im_testkit::store_suite!(super::Folders::default());
}

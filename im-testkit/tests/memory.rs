//! The suite on the reference store.

use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_testkit::store_suite::{Store, StoreFactory, async_trait};

struct Memory;

#[async_trait]
impl StoreFactory for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(MemoryStore::new())
    }

    async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        None
    }
}

im_testkit::store_suite!(Memory);

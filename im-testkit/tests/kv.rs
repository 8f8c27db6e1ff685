//! The store over databases with ordered keys: in memory, and a map that outlives its store.
#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "support/maps.rs"]
mod maps;

use std::sync::Arc;

use im_core::store::BackendStore;
use im_testkit::backend_suite::BackendFactory;
use im_testkit::store_suite::{Store, StoreFactory, async_trait};
use maps::{Maps, Memory};

/// Opens stores on the backends of a factory.
struct Stores<F>(F);

#[async_trait]
impl<F: BackendFactory> StoreFactory for Stores<F> {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(BackendStore::open(self.0.create().await).await.unwrap())
    }

    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(closed);
        // The backend that was closed is of no use to any of these factories.
        let backend = self.0.reopen(Memory.create().await).await?;
        Some(Arc::new(BackendStore::open(backend).await.unwrap()))
    }
}

mod memory {
    im_testkit::store_suite!(super::Stores(super::Memory));
}

mod exclusive {
    im_testkit::store_suite!(super::Stores(super::Maps::exclusive()));
}

mod shared {
    im_testkit::store_suite!(super::Stores(super::Maps::shared()));
}

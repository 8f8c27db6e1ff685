//! Pages are read a few at a time, and look-ups pass them.
#![allow(clippy::unwrap_used, reason = "this file is all test")]

use std::sync::Arc;

use im_core::ports::Store;
use im_store_sled::{SledConfig, SledStore};
use im_testkit::store_suite::turns::look_up_passes_pages;

#[tokio::test(flavor = "multi_thread")]
async fn look_up_passes_pages_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(SledConfig::new(folder.path())).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    look_up_passes_pages(&store).await;
    store.close().await.unwrap();
}

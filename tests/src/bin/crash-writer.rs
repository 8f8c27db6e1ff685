//! The worker that `tests/kills.rs` kills: opens a store and writes to it until then.
//!
//! `crash-writer sled FOLDER SEED`, or `crash-writer sled-upkeep FOLDER SEED` to trim, delete, erase and import as well.

use std::process::ExitCode;
use std::sync::Arc;

use im_store_sled::{SledConfig, SledStore};
use im_testkit::crash::upkeep::keeper;
use im_testkit::crash::{WriterPlan, writer};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, folder, seed] = arguments.as_slice() else { return usage() };
    let Ok(seed) = seed.parse() else { return usage() };
    if store != "sled" && store != "sled-upkeep" {
        return usage();
    }
    let upkeep = store == "sled-upkeep";
    match SledStore::open(SledConfig::new(folder).cache_bytes(16 << 20)).await {
        Ok(store) if upkeep => match keeper(Arc::new(store), seed).await {},
        Ok(store) => match writer(Arc::new(store), WriterPlan::new(seed)).await {},
        Err(error) => {
            eprintln!("the store cannot be opened: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: crash-writer sled|sled-upkeep FOLDER SEED");
    ExitCode::FAILURE
}

//! The worker that `tests/kills.rs` kills: opens a store and writes to it until then.
//!
//! `crash-writer sled FOLDER SEED`

use std::process::ExitCode;
use std::sync::Arc;

use im_store_sled::{SledConfig, SledStore};
use im_testkit::crash::{WriterPlan, writer};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, folder, seed] = arguments.as_slice() else { return usage() };
    let Ok(seed) = seed.parse() else { return usage() };
    if store != "sled" {
        return usage();
    }
    match SledStore::open(SledConfig::new(folder).cache_bytes(16 << 20)).await {
        Ok(store) => match writer(Arc::new(store), WriterPlan::new(seed)).await {},
        Err(error) => {
            eprintln!("the store cannot be opened: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: crash-writer sled FOLDER SEED");
    ExitCode::FAILURE
}

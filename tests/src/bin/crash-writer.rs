//! The worker of `tests/kills.rs`, `tests/power.rs` and `tests/faults.rs`: opens a store and does its task.
//!
//! `crash-writer STORE FOLDER TASK…`

use std::path::Path;
use std::process::ExitCode;

use im_testkit::crash::{Task, work};
use im_tests::stores;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, folder, task @ ..] = arguments.as_slice() else { return usage() };
    let Some(task) = Task::parse(task) else { return usage() };
    work(task, || stores::open(store, Path::new(folder))).await
}

fn usage() -> ExitCode {
    eprintln!("usage: crash-writer STORE FOLDER TASK…; a test knows the tasks");
    ExitCode::FAILURE
}

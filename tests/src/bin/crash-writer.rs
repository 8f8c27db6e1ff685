//! The worker of `kills.rs`, `database_kills.rs`, `power.rs` and `faults.rs` in `tests/`: opens a
//! store and does its task.
//!
//! `crash-writer STORE PLACE TASK…`; the place is a folder, or a server's address

use std::process::ExitCode;

use im_testkit::crash::{Task, work};
use im_tests::stores;

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, place, task @ ..] = arguments.as_slice() else { return usage() };
    let Some(task) = Task::parse(task) else { return usage() };
    work(task, || stores::open_for_worker(store, place)).await
}

fn usage() -> ExitCode {
    eprintln!("usage: crash-writer STORE PLACE TASK…; a test knows the tasks");
    ExitCode::FAILURE
}

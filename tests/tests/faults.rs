//! Whatever call to the disk fails, sends are refused, nothing acknowledged is lost, and the store
//! recovers.
//!
//! A sample by default. `IM_PROVE_FAULTS=all`, or a number, makes it larger, `IM_PROVE_SEED=…`
//! repeats the choices of an earlier run, `IM_PROVE_STORE=…` selects one store; `cargo xtask prove
//! faults` sets them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use im_testkit::crash::Task;
use im_testkit::disk::faults::{FaultPlan, run};
use im_tests::shim;
use im_tests::stores::{chosen_on_disk, number};

const WORKER: &str = env!("CARGO_BIN_EXE_crash-writer");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_calls_are_reported_without_loss() {
    let library = match shim::library(Path::new(WORKER)) {
        Ok(library) => library,
        Err(why) => return im_tests::skip("failing_calls_are_reported_without_loss", &why),
    };
    let faults = match std::env::var("IM_PROVE_FAULTS").as_deref() {
        Ok("all") => None,
        Ok(_) => Some(u32::try_from(number("IM_PROVE_FAULTS").unwrap()).unwrap()),
        Err(_) => Some(30),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    for store in chosen_on_disk() {
        eprintln!("{faults:?} faults on {store}, IM_PROVE_SEED={seed}");
        let work = tempfile::tempdir_in(shim::workplace()).unwrap();
        let command = |folder: &Path, task: &Task| {
            let mut command = Command::new(WORKER);
            command.arg(store).arg(folder).args(task.words());
            command
        };
        let plan = FaultPlan::new(faults, seed);
        let report = run(&plan, &library, work.path(), command).await.unwrap();
        eprintln!("{report}");
        if !report.violations.is_empty() {
            let shown: Vec<_> = report.violations.iter().take(10).collect();
            panic!("folders are kept in {}:\n{shown:#?}", work.keep().display());
        }
        assert!(report.runs > report.missed, "no fault occurred, so this run proves nothing");
        assert!(
            !report.reported.is_empty() || report.runs < 10,
            "no fault was reported to a sender"
        );
    }
}

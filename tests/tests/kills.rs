//! Nothing that was acknowledged is lost or repeated when the process that writes is killed.
//!
//! A short run by default. `IM_PROVE_KILLS=1000` makes it a long one, `IM_PROVE_SEED=…` repeats the choices of an
//! earlier one, `IM_PROVE_STORE=…` names one store; `cargo xtask prove kills` sets them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use im_testkit::crash::{CrashPlan, Task, run};
use im_tests::stores::{self, chosen, number};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_a_writing_process_lose_and_repeat_nothing() {
    for store in chosen() {
        kill(store).await;
    }
}

async fn kill(store: &str) {
    let kills = number("IM_PROVE_KILLS").unwrap_or(10);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{kills} kills on {store}, IM_PROVE_SEED={seed}");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let spawn = |task: &Task| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash-writer"));
        command.arg(store).arg(&data).args(task.words());
        command
    };
    let open = || async { stores::open(store, &data).await.unwrap() };
    let plan = CrashPlan::new(u32::try_from(kills).unwrap(), seed);
    let report = run(&plan, spawn, open).await;

    eprintln!("{report}");
    if !report.violations.is_empty() {
        let kept = folder.keep();
        panic!("the store is kept in {}:\n{:#?}", kept.display(), report.violations);
    }
    assert_eq!(u64::from(report.kills), kills);
    assert!(report.acknowledged > 0, "nothing was written: this run shows nothing");
}

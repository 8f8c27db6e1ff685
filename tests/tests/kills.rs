//! Nothing that was acknowledged is lost or repeated when the process that writes is killed.
//!
//! A short run by default. `IM_PROVE_KILLS=1000` makes it a long one, `IM_PROVE_SEED=…` repeats the choices of an
//! earlier one; `cargo xtask prove kills` sets them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use im_store_sled::{SledConfig, SledStore};
use im_testkit::crash::{CrashPlan, run};

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_a_writing_process_lose_and_repeat_nothing_on_sled() {
    let kills = number("IM_PROVE_KILLS").unwrap_or(10);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{kills} kills on sled, IM_PROVE_SEED={seed}");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let spawn = |seed: u64| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_crash-writer"));
        command.arg("sled").arg(&data).arg(seed.to_string());
        command
    };
    let open = || async {
        let store = SledStore::open(SledConfig::new(&data)).await;
        let store: Arc<dyn im_core::ports::Store> = Arc::new(store.unwrap());
        store
    };
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

//! A power cut loses nothing that was acknowledged, whatever the disk does with unsynced data.
//!
//! A short run by default. `IM_PROVE_POWER=1000` makes it a long one, `IM_PROVE_SEED=…` repeats the
//! choices of an earlier one, `IM_PROVE_STORE=…` selects one store; `cargo xtask prove power` sets
//! them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use im_testkit::crash::Task;
use im_testkit::disk::Syncs;
use im_testkit::disk::power::{PowerPlan, PowerReport, run};
use im_tests::shim;
use im_tests::stores::{chosen_on_disk, number};

const WORKER: &str = env!("CARGO_BIN_EXE_crash-writer");

/// Runs the cuts. `None` if this machine cannot simulate them.
async fn cut(test: &str, store: &str, cuts: u32, syncs: Syncs) -> Option<PowerReport> {
    let library = match shim::library(Path::new(WORKER)) {
        Ok(library) => library,
        Err(why) => {
            im_tests::skip(test, &why);
            return None;
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{cuts} power cuts on {store}, {syncs:?}, IM_PROVE_SEED={seed}");
    let work = tempfile::tempdir_in(shim::workplace()).unwrap();
    let mut plan = PowerPlan::new(cuts, seed);
    plan.syncs = syncs;
    let command = |folder: &Path, task: &Task| {
        let mut command = Command::new(WORKER);
        command.arg(store).arg(folder).args(task.words());
        command
    };
    let report = run(&plan, &library, work.path(), command).await.unwrap();
    eprintln!("{report}");
    if syncs == Syncs::Recorded && (report.losing() > 0 || !report.violations.is_empty()) {
        eprintln!("images are kept in {}", work.keep().display());
    }
    Some(report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_cuts_lose_nothing() {
    let cuts = number("IM_PROVE_POWER").unwrap_or(60);
    for store in chosen_on_disk() {
        let cuts = u32::try_from(cuts).unwrap();
        let report = cut("power_cuts_lose_nothing", store, cuts, Syncs::Recorded).await;
        let Some(report) = report else { return };
        let shown: Vec<_> = report.violations.iter().take(5).collect();
        assert!(report.violations.is_empty(), "{shown:#?}");
        assert_eq!(report.abandoned, 0, "{:?}", report.first_abandoned);
        assert_eq!(report.cuts, cuts);
        assert!(report.acknowledged > 0, "nothing was written, so this run proves nothing");
    }
}

/// Without any syncs, and without those that sled does not make by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skipped_syncs_are_detected() {
    for store in chosen_on_disk() {
        let own = (store == "sled").then_some(Syncs::FdatasyncLies);
        for syncs in [Syncs::Lies].into_iter().chain(own) {
            let test = "skipped_syncs_are_detected";
            let Some(report) = cut(test, store, 20, syncs).await else { return };
            let found = report.losing() + report.violations.len();
            assert!(found > 0, "{store} without syncs lost nothing: {report}");
        }
    }
}

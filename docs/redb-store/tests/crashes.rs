//! Kills, power cuts and a disk that fails: nothing that was acknowledged is lost or repeated.
//!
//! This program is also the worker that is killed: it starts itself with the words of a task. So it has no
//! harness, and takes names of tests as `cargo test` hands them over. `IM_PROVE_KILLS`, `IM_PROVE_POWER` and
//! `IM_PROVE_FAULTS` say how many, and `IM_PROVE_SEED` repeats the choices of an earlier run.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use im_core::id::random_bytes;
use im_core::ports::{Store, StoreResult};
use im_testkit::crash::{CrashPlan, Task, run, work};
use im_testkit::disk::faults::{self, FaultPlan};
use im_testkit::disk::power::{self, PowerPlan};
use redb_store::OpenAs;

const WORKER: &str = "worker";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [worker, file, task @ ..] = words.as_slice()
        && worker == WORKER
    {
        let task = Task::parse(task).unwrap();
        return work(task, || open(Path::new(file))).await;
    }
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    if wanted("kills_lose_and_duplicate_nothing") {
        kills_lose_and_duplicate_nothing().await;
    }
    if wanted("power_cuts_lose_nothing") {
        power_cuts_lose_nothing().await;
    }
    if wanted("failing_calls_are_reported_without_loss") {
        failing_calls_are_reported_without_loss().await;
    }
    ExitCode::SUCCESS
}

async fn open(file: &Path) -> StoreResult<Arc<dyn Store>> {
    Ok(Arc::new(redb_store::open(file, OpenAs::SameGeneration).await?))
}

/// The command of a worker on the store in this file.
fn worker(file: &Path, task: &Task) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(WORKER).arg(file).args(task.words());
    command
}

/// How many of something, and from which seed.
fn plan(variable: &str, usual: u32) -> (u32, u64) {
    let said = |variable| std::env::var(variable).ok();
    let count = said(variable).map_or(usual, |text| text.parse().unwrap());
    let seed = said("IM_PROVE_SEED").map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|| u64::from_be_bytes(random_bytes()));
    eprintln!("{variable}={count} IM_PROVE_SEED={seed}");
    (count, seed)
}

async fn kills_lose_and_duplicate_nothing() {
    let (kills, seed) = plan("IM_PROVE_KILLS", 10);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("im.redb");
    let plan = CrashPlan::new(kills, seed);
    let report = run(&plan, |task| worker(&file, task), async || open(&file).await.unwrap()).await;
    eprintln!("{report}");
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.acknowledged > 0, "nothing was written: this run shows nothing");
}

async fn power_cuts_lose_nothing() {
    let Some(shim) = shim() else { return };
    let (cuts, seed) = plan("IM_PROVE_POWER", 40);
    let folder = tempfile::tempdir().unwrap();
    let plan = PowerPlan::new(cuts, seed);
    let report = power::run(&plan, &shim, folder.path(), worker).await.unwrap();
    eprintln!("{report}");
    let shown: Vec<_> = report.violations.iter().take(5).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    assert_eq!(report.abandoned, 0, "{:?}", report.first_abandoned);
    assert!(report.acknowledged > 0, "nothing was written: this run shows nothing");
}

async fn failing_calls_are_reported_without_loss() {
    let Some(shim) = shim() else { return };
    let (count, seed) = plan("IM_PROVE_FAULTS", 20);
    let folder = tempfile::tempdir().unwrap();
    let plan = FaultPlan::new(Some(count), seed);
    let report = faults::run(&plan, &shim, folder.path(), worker).await.unwrap();
    eprintln!("{report}");
    let shown: Vec<_> = report.violations.iter().take(5).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    assert!(report.runs > report.missed, "no fault was met: this run shows nothing");
}

/// The library that comes between a worker and its files, built out of this project's workspace.
fn shim() -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        eprintln!("left out: the library under a worker is for Linux on 64 bits");
        return None;
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "im-disk-shim", "--manifest-path", workspace]);
    assert!(build.arg("--target-dir").arg(&target).status().unwrap().success());
    Some(target.join("debug").join("libim_disk_shim.so"))
}

//! Kills and power cuts: nothing that was acknowledged is lost or repeated.
//!
//! This program is also the worker that is killed: it starts itself with the words of a task. So it has no harness, and
//! takes names of tests as `cargo test` hands them over. `IM_PROVE_KILLS` and `IM_PROVE_POWER` say how many, and
//! `IM_PROVE_SEED` repeats the choices of an earlier run.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use im_core::id::random_bytes;
use im_core::ports::{Store, StoreResult};
use im_testkit::crash::{CrashPlan, Task, run, work};
use im_testkit::disk::power::{self, PowerPlan};
use redb_store::Life;

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
    if wanted("kills_lose_and_repeat_nothing") {
        kills_lose_and_repeat_nothing().await;
    }
    if wanted("power_cuts_lose_nothing") {
        power_cuts_lose_nothing().await;
    }
    ExitCode::SUCCESS
}

async fn open(file: &Path) -> StoreResult<Arc<dyn Store>> {
    Ok(Arc::new(redb_store::open(file, Life::Same).await?))
}

/// The command of a worker on the store in this file.
fn worker(file: &Path, task: &Task) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(WORKER).arg(file).args(task.words());
    command
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

fn seed() -> u64 {
    number("IM_PROVE_SEED").unwrap_or_else(|| u64::from_be_bytes(random_bytes()))
}

async fn kills_lose_and_repeat_nothing() {
    let (kills, seed) = (number("IM_PROVE_KILLS").unwrap_or(10) as u32, seed());
    eprintln!("{kills} kills, IM_PROVE_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("im.redb");
    let plan = CrashPlan::new(kills, seed);
    let report = run(&plan, |task| worker(&file, task), async || open(&file).await.unwrap()).await;
    eprintln!("{report}");
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert!(report.acknowledged > 0, "nothing was written: this run shows nothing");
}

async fn power_cuts_lose_nothing() {
    let Some(shim) = shim() else { return eprintln!("power cuts are for Linux on 64 bits") };
    let (cuts, seed) = (number("IM_PROVE_POWER").unwrap_or(40) as u32, seed());
    eprintln!("{cuts} power cuts, IM_PROVE_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let plan = PowerPlan::new(cuts, seed);
    let report = power::run(&plan, &shim, folder.path(), worker).await.unwrap();
    eprintln!("{report}");
    let shown: Vec<_> = report.violations.iter().take(5).collect();
    assert!(shown.is_empty(), "{shown:#?}");
    assert_eq!(report.given_up, 0, "{:?}", report.given_up_first);
    assert!(report.acknowledged > 0, "nothing was written: this run shows nothing");
}

/// The library that records what a worker does to its files, built out of this project's workspace.
fn shim() -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        return None;
    }
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shim");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "im-disk-shim", "--manifest-path", workspace]);
    assert!(build.arg("--target-dir").arg(&target).status().unwrap().success());
    Some(target.join("debug").join("libim_disk_shim.so"))
}

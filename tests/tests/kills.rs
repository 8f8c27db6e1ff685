//! Nothing that was acknowledged is lost or repeated when the process that writes is killed.
//!
//! A short run by default. `IM_PROVE_KILLS=1000` makes it a long one, `IM_PROVE_SEED=…` repeats the choices of an
//! earlier one; `cargo xtask prove kills` sets them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use im_core::ports::Store;
use im_store_sled::{SledConfig, SledStore};
use im_testkit::crash::upkeep::Kept;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_between_the_steps_of_trims_deletions_erasures_and_imports_leave_sled_whole() {
    let kills = number("IM_PROVE_KILLS").unwrap_or(10);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("IM_PROVE_SEED").unwrap_or(now.as_nanos() as u64);
    eprintln!("{kills} kills on sled, IM_PROVE_SEED={seed}");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut kept = Kept::default();
    for kill in 0..kills {
        let worker_seed = seed.wrapping_add(kill);
        let mut worker = Command::new(env!("CARGO_BIN_EXE_crash-writer"))
            .args(["sled-upkeep", data.to_str().unwrap(), &worker_seed.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // After some lines, in the middle of whatever comes next.
        let mut said = BufReader::new(worker.stdout.take().unwrap());
        let lines = 20 + worker_seed % 400;
        let mut line = String::new();
        for _ in 0..lines {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the worker ended by itself");
            kept.hear(line.trim_end());
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        // The last line may be cut short.
        loop {
            line.clear();
            match said.read_line(&mut line) {
                Ok(_) if line.ends_with('\n') => kept.hear(line.trim_end()),
                _ => break,
            }
        }

        let store = SledStore::open(SledConfig::new(&data)).await.unwrap();
        let checked = folder.path().join(format!("copy{kill}"));
        let copied = store.backup(&checked).await;
        let store: Arc<dyn Store> = Arc::new(store);
        let mut wrong = kept.check(&store).await;
        wrong.extend(copied.err().map(|error| error.to_string()));
        store.close().await.unwrap();
        if !wrong.is_empty() {
            let place = folder.keep();
            panic!("kill {kill}: the store is kept in {}:\n{wrong:#?}", place.display());
        }
        std::fs::remove_dir_all(checked).unwrap();
    }
    eprintln!("{} lines were told by {kills} workers", kept.lines);
    assert!(kept.lines > 0, "nothing was done: this run shows nothing");
}

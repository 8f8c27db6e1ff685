//! Kills of the writing process lose and duplicate nothing that was acknowledged. Stores on a
//! server are in `database_kills.rs`.
//!
//! A short run by default. `IM_PROVE_KILLS=1000` makes it a long one, `IM_PROVE_SEED=…` repeats the
//! choices of an earlier one, `IM_PROVE_STORE=…` selects one store; `cargo xtask prove kills` sets
//! them.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use im_testkit::crash::upkeep::Retained;
use im_testkit::crash::{CrashPlan, CrashReport, Task, run};
use im_tests::stores::{self, STORES, chosen, kill_runs, kills};

/// Kills in a short run.
const SHORT: u64 = 10;

/// The command of a worker on the store in this folder.
fn worker(store: &str, data: &str, task: &Task) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-writer"));
    command.arg(store).arg(data).args(task.words());
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_kills_lose_and_duplicate_nothing() {
    for store in chosen(STORES) {
        kill_writers(store).await;
    }
}

async fn kill_writers(store: &str) {
    let (kills, seed) = kills(store, "while writing", SHORT);
    let mut all = CrashReport::default();
    for (kills, seed) in kill_runs(kills, seed) {
        all += kill_writers_in_one_life(store, kills, seed).await;
    }
    eprintln!("{store}, in all: {all}");
    assert_eq!(u64::from(all.kills), kills);
    assert!(all.acknowledged > 0, "nothing was written, so this run proves nothing");
}

async fn kill_writers_in_one_life(store: &str, kills: u32, seed: u64) -> CrashReport {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let open = || async { stores::open(store, data).await.unwrap() };
    let plan = CrashPlan::new(kills, seed);
    let report = run(&plan, |task| worker(store, data, task), open).await;

    eprintln!("{report}");
    if !report.violations.is_empty() {
        let kept = folder.keep();
        panic!("the store is kept in {}:\n{:#?}", kept.display(), report.violations);
    }
    report
}

/// Not for stores on a server, which may still be executing a killed worker's requests during the
/// check.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_during_upkeep_leaves_store_whole() {
    for store in chosen(STORES) {
        kill_keepers(store).await;
    }
}

async fn kill_keepers(store: &str) {
    let (kills, seed) = kills(store, "during upkeep", SHORT);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let mut kept = Retained::default();
    for kill in 0..kills {
        let seed = seed.wrapping_add(kill);
        let task = Task::Keep { seed };
        // At a random point of the worker's output.
        listen(worker(store, data, &task), 20 + seed % 400, &mut kept);

        let opened = stores::open(store, data).await.unwrap();
        let mut wrong = kept.check(&opened).await;
        opened.close().await.unwrap();
        wrong.extend(
            stores::look_through(store, Path::new(data)).await.err().map(|e| e.to_string()),
        );
        if !wrong.is_empty() {
            let place = folder.keep();
            panic!("kill {kill}: the store is kept in {}:\n{wrong:#?}", place.display());
        }
    }
    eprintln!("{} lines were printed by {kills} workers", kept.lines);
    assert!(kept.lines > 0, "nothing was done, so this run proves nothing");
}

/// Kills a worker after so many lines.
fn listen(mut worker: Command, lines: u64, kept: &mut Retained) {
    let mut worker = worker.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(worker.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "the worker ended by itself");
        kept.on_line(line.trim_end());
    }
    worker.kill().unwrap();
    worker.wait().unwrap();
    loop {
        line.clear();
        match said.read_line(&mut line) {
            Ok(_) if line.ends_with('\n') => kept.on_line(line.trim_end()),
            // The line is cut off, or missing.
            _ => return,
        }
    }
}

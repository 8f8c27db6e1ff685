//! A store whose writes the shim cannot see is refused with instructions, before its durability is
//! judged.
//!
//! This program is also the worker: it starts itself with the words of a task, and so has no
//! harness.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_core::ports::{Store, StoreError, StoreErrorKind, StoreResult};
use im_testkit::crash::{Task, work};
use im_testkit::disk::faults::{self, FaultPlan};
use im_testkit::disk::power::{self, PowerPlan};
use rustix::fs::{Mode, OFlags};

const WORKER: &str = "worker";

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [worker, how, folder, task @ ..] = words.as_slice()
        && worker == WORKER
    {
        return work(Task::parse(task).unwrap(), || open(how, Path::new(folder))).await;
    }
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let wanted = |name: &str| filter.is_none_or(|filter| name.contains(filter.as_str()));
    let Some(shim) = shim() else { return ExitCode::SUCCESS };
    if wanted("direct_system_calls_are_refused") {
        direct_system_calls_are_refused(&shim).await;
    }
    if wanted("worker_without_shim_is_refused") {
        worker_without_shim_is_refused(&shim).await;
    }
    if wanted("writes_by_c_library_are_seen") {
        writes_by_c_library_are_seen(&shim).await;
    }
    ExitCode::SUCCESS
}

/// A store that writes its presence to a file: through the C library, or without it.
async fn open(how: &str, folder: &Path) -> StoreResult<Arc<dyn Store>> {
    let fail = |error: std::io::Error| {
        StoreError::new(StoreErrorKind::Unavailable, "no note").because(error)
    };
    std::fs::create_dir_all(folder).map_err(fail)?;
    let (note, text) = (folder.join("note"), b"here");
    if how == "direct" {
        let (flags, mode) = (OFlags::CREATE | OFlags::WRONLY, Mode::RUSR | Mode::WUSR);
        let file = rustix::fs::open(&note, flags, mode).map_err(|e| fail(e.into()))?;
        rustix::io::write(&file, text).map_err(|e| fail(e.into()))?;
    } else {
        std::fs::write(&note, text).map_err(fail)?;
    }
    Ok(Arc::new(MemoryStore::new()))
}

fn worker(how: &str, folder: &Path, task: &Task) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(WORKER).arg(how).arg(folder).args(task.words());
    command
}

/// Returns the messages of both harnesses about such a worker.
async fn printed(shim: &Path, command: impl Fn(&Path, &Task) -> Command) -> [String; 2] {
    let folder = tempfile::tempdir().unwrap();
    let plan = PowerPlan::new(1, 1);
    let power = power::run(&plan, shim, folder.path(), &command).await.unwrap_err();
    let plan = FaultPlan::new(Some(1), 1);
    let faults = faults::run(&plan, shim, folder.path(), &command).await.unwrap_err();
    [power.to_string(), faults.to_string()]
}

async fn direct_system_calls_are_refused(shim: &Path) {
    for told in printed(shim, |folder, task| worker("direct", folder, task)).await {
        assert!(told.contains("Not seen: data/note."), "{told}");
        assert!(told.contains("--cfg rustix_use_libc"), "{told}");
        assert!(told.contains("calls the system without it"), "{told}");
    }
}

async fn worker_without_shim_is_refused(shim: &Path) {
    let without = |folder: &Path, task: &Task| {
        let worker = worker("by-c", folder, task);
        let mut command = Command::new("env");
        command.args(["-u", "LD_PRELOAD"]).arg(worker.get_program()).args(worker.get_args());
        command
    };
    for told in printed(shim, without).await {
        assert!(told.contains("saw nothing at all"), "{told}");
        assert!(told.contains("x86_64-unknown-linux-gnu"), "{told}");
    }
}

/// A store is judged only if its writes are seen. This one keeps nothing.
async fn writes_by_c_library_are_seen(shim: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let command = |folder: &Path, task: &Task| worker("by-c", folder, task);
    let report = power::run(&PowerPlan::new(20, 1), shim, folder.path(), command).await.unwrap();
    assert!(report.losing() > 0, "{report}");
}

/// Returns the library that is loaded into workers.
fn shim() -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        eprintln!("left out: the library under a worker is for Linux on 64 bits");
        return None;
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--package", "im-disk-shim", "--target-dir"]).arg(target);
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    Some(target.join("debug").join("libim_disk_shim.so"))
}

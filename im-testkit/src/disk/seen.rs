//! Checks that the shim sees all writes of a store: otherwise a proof would be incomplete.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Disk;
use super::log::{Act, Record};
use super::worker::{Stage, remove, tail};
use crate::crash::{Ends, Task, WriterPlan};

/// Number of acks of the first worker before it closes its store.
const FEW: u64 = 16;

/// Runs a worker that writes a little and closes its store, and compares its folder with the
/// record.
///
/// # Errors
///
/// If the worker fails, or writes in ways that the shim does not see: then with instructions.
pub(super) async fn try_out<C: Fn(&Path, &Task) -> Command>(
    stage: &Stage<'_, C>,
) -> io::Result<()> {
    let folder = stage.folder("seen")?;
    let disk = Disk::load(&folder)?;
    let mut plan = WriterPlan::new(1);
    (plan.senders, plan.ends) = (1, Ends::Closed(FEW));
    let done = stage.record(&folder, &Task::Write(plan), "seen", "", |shim| shim).await?;
    if !done.status.is_some_and(|status| status.success()) {
        let (status, said) = (done.status, tail(&done.stderr));
        let why =
            format!("the worker cannot write to a new store: it ended with {status:?}: {said}");
        return Err(io::Error::other(why));
    }
    all_seen(disk, &done.records, &folder)?;
    remove(&folder)
}

/// Fails if the folder has content that is not in the record.
///
/// Only valid after a close: otherwise the process may have ended between a call and its record.
pub(super) fn all_seen(mut disk: Disk, records: &[Record], folder: &Path) -> io::Result<()> {
    records.iter().for_each(|record| disk.apply(record));
    let mut unseen = disk.unseen(folder)?;
    // A map beside written files is shared memory, such as SQLite's `-shm`; one alone is the
    // database.
    let writes = records.iter().any(|record| matches!(record.act, Act::Write { .. }));
    unseen.retain(|(_, mapped)| !mapped || !writes);
    if unseen.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other(words(&unseen, records.is_empty())))
    }
}

fn words(unseen: &[(PathBuf, bool)], nothing_seen: bool) -> String {
    let names: Vec<_> = unseen.iter().take(5).map(|(path, _)| path.display().to_string()).collect();
    let more = if unseen.len() > names.len() { ", …" } else { "" };
    let names = format!("{}{more}", names.join(", "));
    let what = if nothing_seen {
        "The shim saw nothing at all of the worker: it is linked statically (a musl target, say), or started by a program that \
         drops LD_PRELOAD. Build it for a target whose C library is shared, such as x86_64-unknown-linux-gnu, and start it \
         directly. Otherwise the database calls the system without the C library."
    } else if unseen.iter().all(|(_, mapped)| *mapped) {
        "The worker writes to them through a memory map, which cannot be followed: let the database write by `pwrite`, if it \
         can, or prove it in another way."
    } else {
        "The shim stands between the worker and the C library: the database calls the system without it, or writes by streams \
         (`fopen`) or io_uring."
    };
    format!(
        "the shim does not see all writes of the worker, so power loss and a failing disk cannot be tested. Not seen: \
         {names}. {what} With `rustix` below it, build the worker in a target folder of its own with \
         RUSTFLAGS=\"--cfg rustix_use_libc\" (or with rustix's feature `use-libc`); io_uring must be disabled. See `im_testkit::disk`, \
         \"What it can show, and what not\""
    )
}

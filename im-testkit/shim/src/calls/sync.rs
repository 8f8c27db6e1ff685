//! Syncs.

use libc::{c_int, c_long, c_uint, off_t};

use crate::config::Sync;
use crate::table::{self, Open, Verdict};

/// A sync covers what had returned when it was called, and is known to have worked when it returns: the record names
/// both moments, and others may write in between.
fn sync(fd: c_int, kind: &'static str, number: c_long) -> c_int {
    // SAFETY: no memory is handed over.
    let real = || unsafe { libc::syscall(number, fd) as c_int };
    let Some(mut table) = table::table() else { return real() };
    let Some(Open::Below(handle)) = table.find(fd) else {
        drop(table);
        return real();
    };
    let call = table.call(kind);
    let begun = table.records as i64;
    if let Verdict::Fail(error) = call.verdict {
        table.record("sync", handle, begun, 1, 0, kind.as_bytes());
        return table.refuse(&call, error);
    }
    if table::lies(kind) {
        table.note(&call);
        return 0;
    }
    drop(table);
    let skip = table::config().is_some_and(|config| config.sync != Sync::Real);
    let done = if skip { 0 } else { real() };
    if let Some(mut table) = table::table() {
        table.record("sync", handle, begun, i64::from(done != 0), call.number, kind.as_bytes());
    }
    done
}

/// fsync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, "fsync", libc::SYS_fsync)
}

/// fdatasync(2).
#[unsafe(no_mangle)]
pub extern "C" fn fdatasync(fd: c_int) -> c_int {
    sync(fd, "fdatasync", libc::SYS_fdatasync)
}

/// sync_file_range(2). Counted, and taken for no barrier: it leaves out the disk's cache and the metadata.
#[unsafe(no_mangle)]
pub extern "C" fn sync_file_range(fd: c_int, at: off_t, len: off_t, flags: c_uint) -> c_int {
    // SAFETY: no memory is handed over.
    let real = || unsafe { libc::syscall(libc::SYS_sync_file_range, fd, at, len, flags) as c_int };
    let Some(mut table) = table::table() else { return real() };
    let Some(Open::Below(_)) = table.find(fd) else {
        drop(table);
        return real();
    };
    let call = table.call("sync_file_range");
    if let Verdict::Fail(error) = call.verdict {
        return table.refuse(&call, error);
    }
    table.note(&call);
    drop(table);
    if table::config().is_some_and(|config| config.sync != Sync::Real) { 0 } else { real() }
}

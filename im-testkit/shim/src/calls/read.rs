//! Reading: counted, and made to fail, and not recorded.

use libc::{c_int, c_void, off_t, size_t, ssize_t};

use crate::raw;
use crate::table::{self, Open, Verdict};

/// Reads, and counts what reaches the disk: what was read or written before is in memory, as long as nobody says that the
/// memory is cold.
fn reads(fd: c_int, at: Option<off_t>, len: size_t, real: impl Fn() -> ssize_t) -> ssize_t {
    let Some(mut table) = table::table() else { return real() };
    let Some(Open::Below(_)) = table.find(fd) else {
        drop(table);
        return real();
    };
    let Some((file, size)) = raw::file(fd) else { return real() };
    let at = u64::try_from(at.unwrap_or_else(|| raw::position(fd))).unwrap_or(0);
    let within = size.saturating_sub(at).min(len as u64);
    if within == 0 || table.is_cached(file, at, within) {
        return real();
    }
    let call = table.call("read");
    if let Verdict::Fail(error) = call.verdict {
        return table.refuse(&call, error) as ssize_t;
    }
    table.note(&call);
    let n = real();
    table.cache(file, at, u64::try_from(n).unwrap_or(0));
    n
}

/// read(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, to: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: handed on as it came.
    reads(fd, None, len, || unsafe { libc::syscall(libc::SYS_read, fd, to, len) as ssize_t })
}

/// pread(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(fd: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: handed on as it came.
    reads(fd, Some(at), len, || unsafe {
        libc::syscall(libc::SYS_pread64, fd, to, len, at) as ssize_t
    })
}

/// pread(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread64(fd: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: handed on as it came.
    unsafe { pread(fd, to, len, at) }
}

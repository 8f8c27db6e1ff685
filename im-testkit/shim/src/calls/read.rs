//! Reading: counted, and made to fail, and not recorded.

use libc::{c_int, c_void, off_t, size_t, ssize_t};

use crate::table::{self, Open, Verdict};

/// Counts a read of ours. Gives what it returns if it is to fail.
fn meets_fault(fd: c_int) -> Option<ssize_t> {
    let mut table = table::table()?;
    let Some(Open::Below(_)) = table.find(fd) else { return None };
    let call = table.call("read");
    if let Verdict::Fail(error) = call.verdict {
        return Some(table.refuse(&call, error) as ssize_t);
    }
    table.note(&call);
    None
}

/// read(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, to: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: handed on as it came.
    meets_fault(fd).unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_read, fd, to, len) as ssize_t })
}

/// pread(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pread(fd: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: handed on as it came.
    meets_fault(fd)
        .unwrap_or_else(|| unsafe { libc::syscall(libc::SYS_pread64, fd, to, len, at) as ssize_t })
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

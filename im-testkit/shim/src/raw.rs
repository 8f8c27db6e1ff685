//! System calls without the C library's functions, which are ours here.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_int, c_long};

/// What the C library's functions return in place of a result.
pub(crate) const FAILED: c_int = -1;

/// Sets what the caller reads as `errno`, and gives what it gets as the result.
pub(crate) fn fail(error: c_int) -> c_int {
    // SAFETY: the address is this thread's own `errno`, valid as long as the thread.
    unsafe { *libc::__errno_location() = error };
    FAILED
}

/// This thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: as in `fail`.
    unsafe { *libc::__errno_location() }
}

/// Opens a file that is read as it is, or appended to.
pub(crate) fn open(path: &Path, flags: c_int) -> Option<c_int> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: `path` ends in a zero and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags | libc::O_CLOEXEC,
            0o644 as c_long,
        )
    };
    c_int::try_from(fd).ok().filter(|fd| *fd >= 0)
}

/// Whether there is something under this name.
pub(crate) fn exists(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: `path` ends in a zero and outlives the call.
    unsafe { libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::F_OK) == 0 }
}

/// Where the next `read` or `write` begins.
pub(crate) fn position(fd: c_int) -> i64 {
    // SAFETY: no memory is handed over.
    unsafe { libc::syscall(libc::SYS_lseek, fd, 0_i64, libc::SEEK_CUR) }
}

/// Which file this is, and how long.
pub(crate) fn file(fd: c_int) -> Option<((u64, u64), u64)> {
    let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` is as large as the call takes it to be, and is read only after it was filled.
    let stat = unsafe {
        if libc::syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()) != 0 {
            return None;
        }
        stat.assume_init()
    };
    Some(((stat.st_dev, stat.st_ino), u64::try_from(stat.st_size).unwrap_or(0)))
}

/// Writes, at a place of its own if one is given.
pub(crate) fn write(fd: c_int, bytes: &[u8], at: Option<i64>) -> isize {
    // SAFETY: `bytes` is valid for its length and outlives the call.
    let n = unsafe {
        match at {
            Some(at) => libc::syscall(libc::SYS_pwrite64, fd, bytes.as_ptr(), bytes.len(), at),
            None => libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()),
        }
    };
    n as isize
}

/// Writes all of it, or gives up.
pub(crate) fn append(fd: c_int, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match write(fd, bytes, None) {
            n if n > 0 => bytes = &bytes[n as usize..],
            _ if errno() == libc::EINTR => {}
            // A log that cannot be written proves nothing: stop before it is believed.
            // SAFETY: ends the process at once; nothing is handed over.
            _ => unsafe { libc::_exit(97) },
        }
    }
}

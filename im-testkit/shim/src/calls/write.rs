//! Writing, and changing a file's size.

use std::slice;

use libc::{c_int, c_uint, c_void, iovec, off_t, size_t, ssize_t};

use crate::raw;
use crate::table::{self, Open, Table, Verdict};

/// Writes to what is ours; `None` if it is not.
fn write_ours(fd: c_int, bytes: impl FnOnce() -> Vec<u8>, at: Option<i64>) -> Option<ssize_t> {
    let mut table = table::table()?;
    let open = table.find(fd)?;
    let bytes = bytes();
    match open {
        Open::Marks => {
            table.mark(bytes.strip_suffix(b"\n").unwrap_or(&bytes));
            Some(bytes.len() as ssize_t)
        }
        Open::Below(handle) => Some(write_below(&mut table, handle, fd, &bytes, at)),
    }
}

fn write_below(
    table: &mut Table,
    handle: u64,
    fd: c_int,
    bytes: &[u8],
    at: Option<i64>,
) -> ssize_t {
    let call = table.call("write");
    let len = match call.verdict {
        Verdict::Fail(error) => return table.refuse(&call, error) as ssize_t,
        Verdict::Short if bytes.len() > 1 => {
            table.record("fault", handle, 0, 0, call.number, b"write");
            bytes.len() / 2
        }
        _ => bytes.len(),
    };
    let n = raw::write(fd, &bytes[..len], at);
    let error = raw::errno();
    if n < 0 {
        table.note(&call);
        raw::fail(error);
        return n;
    }
    let offset = at.unwrap_or_else(|| raw::position(fd) - n as i64);
    table.record("write", handle, offset, 0, call.number, &bytes[..n as usize]);
    if let (Some((file, _)), Ok(at)) = (raw::file(fd), u64::try_from(offset)) {
        table.cache(file, at, n as u64);
    }
    n
}

/// # Safety
///
/// `from` is valid for `len` bytes.
unsafe fn copied(from: *const c_void, len: size_t) -> Vec<u8> {
    if len == 0 || from.is_null() {
        return Vec::new();
    }
    // SAFETY: valid by the caller's word, and not null.
    unsafe { slice::from_raw_parts(from.cast::<u8>(), len) }.to_vec()
}

/// # Safety
///
/// `parts` is valid for `count` parts, and each of these for its length.
unsafe fn gathered(parts: *const iovec, count: c_int) -> Vec<u8> {
    let count = usize::try_from(count).unwrap_or(0);
    if parts.is_null() {
        return Vec::new();
    }
    // SAFETY: valid by the caller's word, and not null.
    let parts = unsafe { slice::from_raw_parts(parts, count) };
    // SAFETY: each is valid by the caller's word.
    parts.iter().flat_map(|part| unsafe { copied(part.iov_base, part.iov_len) }).collect()
}

/// write(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, from: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        write_ours(fd, || copied(from, len), None)
            .unwrap_or_else(|| libc::syscall(libc::SYS_write, fd, from, len) as ssize_t)
    }
}

/// pwrite(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        write_ours(fd, || copied(from, len), Some(at))
            .unwrap_or_else(|| libc::syscall(libc::SYS_pwrite64, fd, from, len, at) as ssize_t)
    }
}

/// pwrite(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    fd: c_int,
    from: *const c_void,
    len: size_t,
    at: off_t,
) -> ssize_t {
    // SAFETY: handed on as it came.
    unsafe { pwrite(fd, from, len, at) }
}

/// writev(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        write_ours(fd, || gathered(parts, count), None)
            .unwrap_or_else(|| libc::syscall(libc::SYS_writev, fd, parts, count) as ssize_t)
    }
}

/// pwritev(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    at: off_t,
) -> ssize_t {
    // SAFETY: the caller's word, as for the C library's; handed on as it came. On 64 bits the second half of the
    // offset is not looked at.
    unsafe {
        write_ours(fd, || gathered(parts, count), Some(at)).unwrap_or_else(|| {
            libc::syscall(libc::SYS_pwritev, fd, parts, count, at, 0_i64) as ssize_t
        })
    }
}

/// pwritev(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    fd: c_int,
    parts: *const iovec,
    count: c_int,
    at: off_t,
) -> ssize_t {
    // SAFETY: handed on as it came.
    unsafe { pwritev(fd, parts, count, at) }
}

/// copy_file_range(2). For files of ours it is not there, so that callers read and write.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_at: *mut off_t,
    to: c_int,
    to_at: *mut off_t,
    len: size_t,
    flags: c_uint,
) -> ssize_t {
    if table::table().is_some_and(|table| table.find(to).is_some()) {
        return raw::fail(libc::ENOSYS) as ssize_t;
    }
    // SAFETY: handed on as it came.
    unsafe {
        libc::syscall(libc::SYS_copy_file_range, from, from_at, to, to_at, len, flags) as ssize_t
    }
}

/// sendfile(2). As [`copy_file_range`].
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t {
    if table::table().is_some_and(|table| table.find(to).is_some()) {
        return raw::fail(libc::ENOSYS) as ssize_t;
    }
    // SAFETY: handed on as it came.
    unsafe { libc::syscall(libc::SYS_sendfile, to, from, at, len) as ssize_t }
}

/// sendfile(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(
    to: c_int,
    from: c_int,
    at: *mut off_t,
    len: size_t,
) -> ssize_t {
    // SAFETY: handed on as it came.
    unsafe { sendfile(to, from, at, len) }
}

/// Changes a size, or what lies within it.
fn resize(
    fd: c_int,
    kind: &'static str,
    record: &str,
    (a, b): (i64, i64),
    real: impl Fn() -> c_int,
) -> c_int {
    let Some(mut table) = table::table() else { return real() };
    let Some(Open::Below(handle)) = table.find(fd) else { return real() };
    let call = table.call(kind);
    if let Verdict::Fail(error) = call.verdict {
        return table.refuse(&call, error);
    }
    let done = real();
    if done == 0 {
        table.record(record, handle, a, b, call.number, &[]);
    } else {
        table.note(&call);
    }
    done
}

/// ftruncate(2).
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate(fd: c_int, len: off_t) -> c_int {
    // SAFETY: no memory is handed over.
    resize(fd, "ftruncate", "size", (len, 0), || unsafe {
        libc::syscall(libc::SYS_ftruncate, fd, len) as c_int
    })
}

/// ftruncate(2) for large files.
#[unsafe(no_mangle)]
pub extern "C" fn ftruncate64(fd: c_int, len: off_t) -> c_int {
    ftruncate(fd, len)
}

/// fallocate(2).
#[unsafe(no_mangle)]
pub extern "C" fn fallocate(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int {
    // With the size kept nothing that a reader sees changes, but for holes.
    let (record, a, b) = match mode {
        0 => ("grow", at + len, 0),
        _ if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 => {
            ("zero", at, len)
        }
        libc::FALLOC_FL_KEEP_SIZE => ("call", 0, 0),
        // Moves what lies behind: nothing here does that, and the log has no word for it.
        _ => return raw::fail(libc::EOPNOTSUPP),
    };
    // SAFETY: no memory is handed over.
    resize(fd, "fallocate", record, (a, b), || unsafe {
        libc::syscall(libc::SYS_fallocate, fd, mode, at, len) as c_int
    })
}

/// fallocate(2) for large files.
#[unsafe(no_mangle)]
pub extern "C" fn fallocate64(fd: c_int, mode: c_int, at: off_t, len: off_t) -> c_int {
    fallocate(fd, mode, at, len)
}

/// posix_fallocate(3), which returns its error.
#[unsafe(no_mangle)]
pub extern "C" fn posix_fallocate(fd: c_int, at: off_t, len: off_t) -> c_int {
    if fallocate(fd, 0, at, len) == 0 { 0 } else { raw::errno() }
}

/// posix_fallocate(3) for large files.
#[unsafe(no_mangle)]
pub extern "C" fn posix_fallocate64(fd: c_int, at: off_t, len: off_t) -> c_int {
    posix_fallocate(fd, at, len)
}

//! Opening, closing, and other descriptors for the same.
//!
//! `open`, `openat` and `fcntl` take a variable number of arguments in C. The last one is declared here as if it were
//! always there: on the targets that this crate is built for it is passed in a register either way, and what is
//! not there is not used.

use std::ffi::c_char;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{c_int, c_long, mode_t, off_t, size_t};

use crate::table::{self, Open, Table, Verdict};
use crate::{paths, raw};

/// Where Linux tells which boot this is.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// # Safety
///
/// As for openat(2).
unsafe fn open_any(folder: c_int, path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: all is handed on as it came.
    let real = || unsafe {
        libc::syscall(libc::SYS_openat, folder, path, flags, c_long::from(mode)) as c_int
    };
    let Some(config) = table::config() else { return real() };
    // SAFETY: openat(2) takes a string that ends in a zero.
    let Some(named) = (unsafe { paths::absolute(folder, path) }) else { return real() };
    let Some(mut table) = table::table() else { return real() };
    if config.boot.is_some() && named == Path::new(BOOT) {
        let instead = config.boot.as_deref().and_then(|boot| raw::open(boot, libc::O_RDONLY));
        return instead.unwrap_or_else(|| raw::fail(libc::ENOENT));
    }
    if config.marks.as_deref() == Some(&named) {
        let fd = raw::open(Path::new("/dev/null"), libc::O_WRONLY);
        table.set(fd.unwrap_or(raw::FAILED), Some(Open::Marks));
        return fd.unwrap_or(raw::FAILED);
    }
    match table::below(&named) {
        Some(below) => open_below(&mut table, &named, &below, flags, real),
        None => {
            let fd = real();
            // It may have been closed by a way that is not seen here.
            table.set(fd, None);
            fd
        }
    }
}

fn open_below(
    table: &mut Table,
    named: &Path,
    below: &Path,
    flags: c_int,
    real: impl Fn() -> c_int,
) -> c_int {
    let there = raw::exists(named);
    let call = table.call("open");
    if let Verdict::Fail(error) = call.verdict {
        // A device without room opens what is there.
        if error != libc::ENOSPC || (!there && flags & libc::O_CREAT != 0) {
            return table.refuse(&call, error);
        }
    }
    let fd = real();
    if fd < 0 {
        table.note(&call);
        return fd;
    }
    let made = !there && flags & libc::O_CREAT != 0;
    let emptied = there && flags & libc::O_TRUNC != 0;
    let handle = table.opened(fd);
    let path = below.as_os_str().as_bytes();
    table.record("open", handle, i64::from(made), i64::from(emptied), call.number, path);
    fd
}

/// open(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// open(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// openat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { open_any(folder, path, flags, mode) }
}

/// openat(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    folder: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { open_any(folder, path, flags, mode) }
}

/// creat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC;
    // SAFETY: handed on as it came.
    unsafe { open_any(libc::AT_FDCWD, path, flags, mode) }
}

/// creat(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { creat(path, mode) }
}

/// close(2).
#[unsafe(no_mangle)]
pub extern "C" fn close(fd: c_int) -> c_int {
    let table = table::table();
    if let Some(mut table) = table {
        table.set(fd, None);
    }
    // SAFETY: no memory is handed over.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// closedir(3), which closes the descriptor by a way of its own.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn closedir(folder: *mut libc::DIR) -> c_int {
    // SAFETY: `folder` is open until this returns.
    let fd = unsafe { libc::dirfd(folder) };
    if let Some(mut table) = table::table() {
        table.set(fd, None);
    }
    // SAFETY: the C library has this function, of this type, and it outlives the process.
    unsafe {
        let real = libc::dlsym(libc::RTLD_NEXT, c"closedir".as_ptr());
        if real.is_null() {
            return raw::fail(libc::ENOSYS);
        }
        let real: unsafe extern "C" fn(*mut libc::DIR) -> c_int = std::mem::transmute(real);
        real(folder)
    }
}

fn same(from: c_int, real: impl FnOnce() -> c_int) -> c_int {
    let Some(mut table) = table::table() else { return real() };
    let open = table.find(from);
    let to = real();
    if to >= 0 {
        table.set(to, open);
    }
    to
}

/// dup(2).
#[unsafe(no_mangle)]
pub extern "C" fn dup(fd: c_int) -> c_int {
    // SAFETY: no memory is handed over.
    same(fd, || unsafe { libc::syscall(libc::SYS_dup, fd) as c_int })
}

/// dup2(2).
#[unsafe(no_mangle)]
pub extern "C" fn dup2(fd: c_int, to: c_int) -> c_int {
    if fd == to {
        return fd;
    }
    dup3(fd, to, 0)
}

/// dup3(2).
#[unsafe(no_mangle)]
pub extern "C" fn dup3(fd: c_int, to: c_int, flags: c_int) -> c_int {
    // SAFETY: no memory is handed over.
    same(fd, || unsafe { libc::syscall(libc::SYS_dup3, fd, to, flags) as c_int })
}

/// fcntl(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: handed on as it came.
    let real = || unsafe { libc::syscall(libc::SYS_fcntl, fd, command, argument) as c_int };
    match command {
        libc::F_DUPFD | libc::F_DUPFD_CLOEXEC => same(fd, real),
        _ => real(),
    }
}

/// fcntl(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { fcntl(fd, command, argument) }
}

/// mmap(2). Noted where writes through it would reach a file of ours: what they write is not seen.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    at: *mut libc::c_void,
    len: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut libc::c_void {
    let shared = flags & (libc::MAP_SHARED | libc::MAP_PRIVATE | libc::MAP_SHARED_VALIDATE);
    if fd >= 0
        && access & libc::PROT_WRITE != 0
        && shared != libc::MAP_PRIVATE
        && let Some(mut table) = table::table()
        && let Some(Open::Below(handle)) = table.find(fd)
    {
        table.record("map", handle, offset, len as i64, 0, &[]);
    }
    // SAFETY: handed on as it came.
    unsafe {
        libc::syscall(libc::SYS_mmap, at, len, access, flags, fd, offset) as *mut libc::c_void
    }
}

/// mmap(2) for large files.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    at: *mut libc::c_void,
    len: size_t,
    access: c_int,
    flags: c_int,
    fd: c_int,
    offset: off_t,
) -> *mut libc::c_void {
    // SAFETY: handed on as it came.
    unsafe { mmap(at, len, access, flags, fd, offset) }
}

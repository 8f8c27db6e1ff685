//! Names: making, moving and removing them.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use libc::{c_int, c_long, c_uint, mode_t};

use crate::table::{self, Verdict};
use crate::{paths, raw};

/// A call on one name, or two, recorded if one of them lies below the folder.
fn on_names(
    kind: &'static str,
    names: [Option<PathBuf>; 2],
    a: i64,
    real: impl Fn() -> c_int,
) -> c_int {
    let [first, second] = names.map(|name| table::below(&name?));
    let Some(mut table) = table::table() else { return real() };
    if first.is_none() && second.is_none() {
        return real();
    }
    let call = table.call(kind);
    if let Verdict::Fail(error) = call.verdict {
        return table.refuse(&call, error);
    }
    let done = real();
    if done != 0 {
        let error = raw::errno();
        table.note(&call);
        return raw::fail(error);
    }
    let bytes = |path: &Option<PathBuf>| {
        path.as_ref().map_or(&b"/"[..], |path| OsStr::as_bytes(path.as_os_str())).to_vec()
    };
    let mut data = bytes(&first);
    if matches!(kind, "rename" | "link") {
        data.push(0);
        data.extend(bytes(&second));
    }
    table.record(kind, 0, a, 0, call.number, &data);
    0
}

/// # Safety
///
/// As for renameat2(2).
unsafe fn rename_any(
    from: (c_int, *const c_char),
    to: (c_int, *const c_char),
    flags: c_uint,
) -> c_int {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        let names = [paths::absolute(from.0, from.1), paths::absolute(to.0, to.1)];
        on_names("rename", names, i64::from(flags), || {
            libc::syscall(libc::SYS_renameat2, from.0, from.1, to.0, to.1, flags) as c_int
        })
    }
}

/// rename(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { rename_any((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), 0) }
}

/// renameat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { rename_any((from_folder, from), (to_folder, to), 0) }
}

/// renameat2(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { rename_any((from_folder, from), (to_folder, to), flags) }
}

/// # Safety
///
/// As for unlinkat(2).
unsafe fn remove(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    let kind = if flags & libc::AT_REMOVEDIR == 0 { "unlink" } else { "rmdir" };
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        on_names(kind, [paths::absolute(folder, path), None], 0, || {
            libc::syscall(libc::SYS_unlinkat, folder, path, flags) as c_int
        })
    }
}

/// unlink(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { remove(libc::AT_FDCWD, path, 0) }
}

/// unlinkat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { remove(folder, path, flags) }
}

/// rmdir(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { remove(libc::AT_FDCWD, path, libc::AT_REMOVEDIR) }
}

/// remove(3).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(export_name = "remove")]
pub unsafe extern "C" fn remove_either(path: *const c_char) -> c_int {
    // SAFETY: handed on as it came.
    unsafe {
        let done = unlink(path);
        if done != 0 && raw::errno() == libc::EISDIR { rmdir(path) } else { done }
    }
}

/// mkdirat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(folder: c_int, path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        on_names("mkdir", [paths::absolute(folder, path), None], 0, || {
            libc::syscall(libc::SYS_mkdirat, folder, path, c_long::from(mode)) as c_int
        })
    }
}

/// mkdir(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { mkdirat(libc::AT_FDCWD, path, mode) }
}

/// linkat(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_folder: c_int,
    from: *const c_char,
    to_folder: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's word, as for the C library's; handed on as it came.
    unsafe {
        let names = [paths::absolute(from_folder, from), paths::absolute(to_folder, to)];
        on_names("link", names, 0, || {
            libc::syscall(libc::SYS_linkat, from_folder, from, to_folder, to, flags) as c_int
        })
    }
}

/// link(2).
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: handed on as it came.
    unsafe { linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

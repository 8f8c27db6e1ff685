//! From what a call names to a path below the folder.

use std::ffi::{CStr, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use libc::c_int;

/// The absolute path that a call means, without `.` and `..`.
///
/// # Safety
///
/// `path` is null or ends in a zero.
pub(crate) unsafe fn absolute(folder: c_int, path: *const c_char) -> Option<PathBuf> {
    if path.is_null() {
        return None;
    }
    // SAFETY: not null, and by the caller's word it ends in a zero.
    let path = Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()));
    if path.is_absolute() {
        return Some(normal(path));
    }
    let base = match folder {
        libc::AT_FDCWD => std::env::current_dir().ok()?,
        fd => std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?,
    };
    Some(normal(&base.join(path)))
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

//! The library that simulates disk faults, and the folder for proofs with it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Builds the shim, if needed, beside the worker `program`, and returns its library.
///
/// No crate can depend on a library that is only loaded, so a test that runs alone has to build it.
///
/// # Errors
///
/// The reason in words: another platform, or a failed build.
pub fn library(program: &Path) -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", target_pointer_width = "64")) {
        return Err("the shim for the disk is for Linux on 64 bits".into());
    }
    let folder = program.parent().ok_or("the worker is in no folder")?;
    let target = folder.parent().ok_or("the worker is in no target folder")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--package", "im-disk-shim", "--target-dir"]).arg(target);
    build.args((folder.file_name() == Some(OsStr::new("release"))).then_some("--release"));
    let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
    if !built.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return Err(format!("the shim for the disk cannot be built: {built:?}"));
    }
    Ok(folder.join("libim_disk_shim.so"))
}

/// The folder for disk images: in memory, if there is such a folder.
pub fn workplace() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

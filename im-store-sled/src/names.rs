//! Names of sled's log: it has one, and is found under it. A second name is a second folder around the same log, and what
//! is written to a log that was moved away is missing at the next start.

use std::fs::{self, File};
use std::path::Path;

use im_core::ports::{StoreError, StoreErrorKind, StoreResult};

/// Refuses a log with several names. The lock of the folder does not see what lies in two of them.
#[cfg(unix)]
pub(crate) fn one(log: &Path) -> StoreResult<()> {
    use std::os::unix::fs::MetadataExt;
    let Ok(found) = fs::metadata(log) else { return Ok(()) };
    if found.nlink() < 2 {
        return Ok(());
    }
    let (path, count) = (log.display(), found.nlink());
    let message = format!(
        "{path} has {count} names (hard links): two folders with one log overwrite each other. Copy the folder in place of \
         linking its files; `find FOLDER -samefile {path}` shows the other names"
    );
    Err(StoreError::new(StoreErrorKind::Unavailable, message))
}

/// Refuses where another file than `open` has the name, or none.
#[cfg(unix)]
pub(crate) fn same(log: &Path, open: &File) -> StoreResult<()> {
    use std::os::unix::fs::MetadataExt;
    let identity = |found: fs::Metadata| (found.dev(), found.ino());
    let (named, held) = (fs::metadata(log).map(identity).ok(), open.metadata().map(identity).ok());
    if named.is_some() && named == held {
        return Ok(());
    }
    let message = format!(
        "{} is not the file any more that this store has open: the folder was moved, removed or replaced. Put it back, or \
         stop the server and start it with the folder's new name",
        log.display()
    );
    Err(StoreError::new(StoreErrorKind::Unavailable, message))
}

#[cfg(not(unix))]
pub(crate) fn one(_: &Path) -> StoreResult<()> {
    Ok(())
}

#[cfg(not(unix))]
pub(crate) fn same(_: &Path, _: &File) -> StoreResult<()> {
    Ok(())
}

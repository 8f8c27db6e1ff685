//! What sled and the file system say, as the store's own errors.

use std::io;
use std::path::Path;

use im_core::ports::{StoreError, StoreErrorKind};

/// Whether the device has no room left.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What sort of failure an I/O error is, where nothing was written.
pub(crate) fn io_kind(error: &io::Error) -> StoreErrorKind {
    if is_full(error) { StoreErrorKind::Full } else { StoreErrorKind::Unavailable }
}

/// What sort of failure sled's error is, where nothing was written.
pub(crate) fn sled_kind(error: &sled::Error) -> StoreErrorKind {
    match error {
        sled::Error::Io(error) => io_kind(error),
        sled::Error::Corruption { .. } => StoreErrorKind::Corrupt,
        _ => StoreErrorKind::Unavailable,
    }
}

/// A read that sled could not do.
pub(crate) fn reading(error: sled::Error) -> StoreError {
    let message = format!("the data folder could not be read: {error}");
    StoreError::new(sled_kind(&error), message).because(error)
}

/// A file that could not be handled while doing `what`.
pub(crate) fn file(what: &str, path: &Path, error: io::Error) -> StoreError {
    let message = format!("cannot {what} {}: {error}", path.display());
    StoreError::new(io_kind(&error), message).because(error)
}

/// A record that makes no sense.
pub(crate) fn damaged(what: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Corrupt, format!("a stored {what} is damaged"))
}

/// The store was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Closed, "the store was closed")
}

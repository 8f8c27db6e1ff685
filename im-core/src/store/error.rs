//! Failures of backends as failures of the store.

use crate::backend::{BackendError, BackendErrorKind};
use crate::ports::{StoreError, StoreErrorKind};

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        let kind = match error.kind() {
            BackendErrorKind::Full => StoreErrorKind::Full,
            BackendErrorKind::InDoubt => StoreErrorKind::Unknown,
            BackendErrorKind::Corrupt => StoreErrorKind::Corrupt,
            BackendErrorKind::Closed => StoreErrorKind::Closed,
            BackendErrorKind::Unavailable | BackendErrorKind::Misuse => StoreErrorKind::Unavailable,
        };
        Self::new(kind, error.to_string()).because(error)
    }
}

//! How a backend fails.

use std::error::Error as StdError;
use std::fmt;

/// What a failure means for what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// No space on the device. Nothing was written; the same may succeed later.
    Full,
    /// The database is away or failing. Nothing was written; the same may succeed later.
    Unavailable,
    /// It is not known whether it was written. What is repeated finds out: its guards conflict if it was.
    InDoubt,
    /// What was read is damaged.
    Corrupt,
    /// The backend was closed.
    Closed,
    /// What was asked breaks the contract: a table that was not declared, a row with a column too few. Nothing was
    /// written. It is a fault of the caller's, and comes again.
    Misuse,
}

/// A failure of a backend.
///
/// It is shared by all whom it concerns, so it can be cloned.
#[derive(Debug, Clone)]
pub struct BackendError {
    kind: BackendErrorKind,
    message: String,
    source: Option<std::sync::Arc<dyn StdError + Send + Sync>>,
}

/// A result of a backend.
pub type BackendResult<T> = Result<T, BackendError>;

impl BackendError {
    /// A failure, in words for the operator: what happened, which value, what to do.
    pub fn new(kind: BackendErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into().into());
        self
    }

    /// [`BackendErrorKind::Misuse`].
    pub fn misuse(message: impl Into<String>) -> Self {
        Self::new(BackendErrorKind::Misuse, message)
    }

    /// [`BackendErrorKind::Corrupt`]: `what` is damaged.
    pub fn corrupt(what: impl fmt::Display) -> Self {
        Self::new(BackendErrorKind::Corrupt, format!("{what} is damaged"))
    }

    /// [`BackendErrorKind::Closed`].
    pub fn closed() -> Self {
        Self::new(BackendErrorKind::Closed, "the backend was closed")
    }

    /// What the failure means.
    pub fn kind(&self) -> BackendErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            BackendErrorKind::Full | BackendErrorKind::Unavailable | BackendErrorKind::InDoubt
        )
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for BackendError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

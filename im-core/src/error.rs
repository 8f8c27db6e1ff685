//! The one public error of the engine.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use crate::code::{Advice, Code};

/// The side that caused an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer or the caller asked for something that cannot be done.
    Caller,
    /// A backend (store, bus, hook) failed.
    Backend,
}

/// A failure: numbered [`Code`], operation, message for the peer, cause.
#[derive(Debug)]
pub struct Error {
    code: Code,
    operation: &'static str,
    message: Box<str>,
    retry_after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// A result with the engine's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Creates an error of `operation`. `message` goes to the peer: it says what to do and contains
    /// no secret.
    pub fn new(code: Code, operation: &'static str, message: impl Into<String>) -> Self {
        Self { code, operation, message: message.into().into(), retry_after: None, source: None }
    }

    /// Creates an error whose message is the code's own meaning.
    pub fn of(code: Code, operation: &'static str) -> Self {
        Self::new(code, operation, code.meaning())
    }

    /// Adds the cause. The cause is logged and never sent to the peer.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Sets the delay before a retry.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The code that the peer sees.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The operation that failed.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The message for the peer.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The delay before a retry, where it is known.
    pub fn delay(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns whether the same request may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.code.advice(), Advice::Retry | Advice::BackOff)
    }

    /// The side that caused the error.
    pub fn fault(&self) -> Fault {
        match self.code {
            Code::Unknown | Code::StoreUnavailable | Code::Overloaded => Fault::Backend,
            _ => Fault::Caller,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.operation, self.message, self.code.number())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|e| e as _)
    }
}

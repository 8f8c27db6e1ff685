//! Why there is no server.

use std::fmt;

/// Why there is no server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// This machine has no such server. A test skips.
    Absent(String),
    /// It is here and does not do what it should. A test fails.
    Failed(String),
}

impl Error {
    /// `what` could not be done, and why.
    pub(crate) fn failed(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self::Failed(format!("{what}: {why}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Absent(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for Error {}

/// What the operating system refused, with what we were about.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|error| Error::failed(what(), error))
    }
}

//! Errors of calls.

use std::fmt;
use std::time::Duration;

use im_core::code::{Advice, advice};
use im_core::wire::{ErrorReply, WireError};
use im_core::{Code, MessageId};

/// Kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused the command, with the code. The connection stays open.
    Refused,
    /// The connection was cut before the answer, and the command is not idempotent: it may or may
    /// not have been carried out.
    Unknown,
    /// There is no connection, and the command is not queued for the next one: an ephemeral
    /// message.
    Offline,
    /// The client has ended; [`ClientEvent::Closed`](crate::ClientEvent::Closed) contains the
    /// reason.
    Closed,
    /// The command exceeds a limit that the server announced, or an address is invalid. Nothing was
    /// sent.
    Invalid,
    /// The server's answer is invalid.
    Protocol,
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    code: Option<u16>,
    message: Box<str>,
    retry_after: Option<Duration>,
    message_id: Option<MessageId>,
}

/// A result with the client's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, code: Option<u16>, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into().into(), retry_after: None, message_id: None }
    }

    pub(crate) fn closed(code: Option<u16>, message: &str) -> Self {
        Self::new(ErrorKind::Closed, code, format!("the client has ended: {message}"))
    }

    pub(crate) fn unknown(code: Option<u16>, message: &str) -> Self {
        Self::new(ErrorKind::Unknown, code, format!("the outcome is unknown: {message}"))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, None, message)
    }

    #[must_use]
    pub(crate) fn with_code(mut self, code: im_core::Code) -> Self {
        self.code = Some(code.number());
        self
    }

    /// Adds the id of the message that the error is about.
    #[must_use]
    pub(crate) fn about(mut self, id: Option<MessageId>) -> Self {
        self.message_id = id;
        self
    }

    /// Returns the kind of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the code as a number, if there is one. This version may not know it.
    pub fn number(&self) -> Option<u16> {
        self.code
    }

    /// Returns the code, if there is one that this version knows.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code?)
    }

    /// Returns what the code advises to do.
    pub fn advice(&self) -> Option<Advice> {
        self.code.map(advice)
    }

    /// Returns the text for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns how long to wait before a retry, if the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the id of the message that could not be sent. A retry under the same id is safe: if
    /// the first send was stored after all, its ack is returned.
    pub fn message_id(&self) -> Option<&MessageId> {
        self.message_id.as_ref()
    }
}

impl From<ErrorReply> for Error {
    fn from(reply: ErrorReply) -> Self {
        let mut error = Self::new(ErrorKind::Refused, Some(reply.code), reply.message);
        error.retry_after = reply.retry_after;
        error
    }
}

impl From<WireError> for Error {
    fn from(error: WireError) -> Self {
        Self::new(ErrorKind::Protocol, Some(error.code.number()), error.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match self.code {
            Some(code) => write!(f, " ({code})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

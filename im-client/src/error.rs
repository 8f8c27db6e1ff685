//! What can go wrong for a caller.

use std::fmt;
use std::time::Duration;

use im_core::code::{Advice, advice};
use im_core::wire::{ErrorReply, WireError};
use im_core::{Code, MessageId};

/// What sort of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server refused, with the code. The connection lives on.
    Refused,
    /// The connection was cut before the answer came, and the command is none that could be repeated safely: it may or
    /// may not have been carried out.
    Unknown,
    /// There is no connection now, and the command makes no sense later: a signal.
    Offline,
    /// The client has ended, for the reason that [`ClientEvent::Closed`](crate::ClientEvent::Closed) told.
    Closed,
    /// The command breaks a limit that the server has named, or an address cannot be understood. Nothing was sent.
    Invalid,
    /// The server's answer makes no sense.
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

    /// Names the message that the error is about.
    #[must_use]
    pub(crate) fn about(mut self, id: Option<MessageId>) -> Self {
        self.message_id = id;
        self
    }

    /// What sort of failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The code as a number, where there is one. It may be one that this version does not know.
    pub fn number(&self) -> Option<u16> {
        self.code
    }

    /// The code, where there is one that this version knows.
    pub fn code(&self) -> Option<Code> {
        Code::from_number(self.code?)
    }

    /// What the code says to do.
    pub fn advice(&self) -> Option<Advice> {
        self.code.map(advice)
    }

    /// Words for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// How long to wait before trying again, where the server said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The id of the message that could not be sent. A later try under the same id is safe: if the first one was kept
    /// after all, its ack comes back.
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

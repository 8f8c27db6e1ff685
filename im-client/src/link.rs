//! The interface between the client and a transport.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Sink, Stream};
use im_core::wire::Encoding;

/// Opens connections to a server, one after the other.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Opens a connection for this encoding. The caller bounds the time; dropping the future
    /// cancels.
    ///
    /// # Errors
    ///
    /// [`LinkError`], with the server's code if it sent one.
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError>;
}

/// A connection as two halves that work independently. Dropping both cuts it.
pub struct Connected {
    /// Accepts whole messages. Closing it closes the connection cleanly.
    pub sink: Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>,
    /// Yields what arrives; ends when the connection does.
    pub stream: Pin<Box<dyn Stream<Item = Incoming> + Send>>,
}

/// What arrives on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Bytes),
    /// A sign of life that is no message: the transport's own ping or pong.
    Heard,
    /// Whether a connection over a better transport is ready: [`Link::connect`] would return it.
    /// The client moves to it when no command is in flight whose outcome would then be unknown; it
    /// need not.
    Better(bool),
    /// The connection ended. Nothing follows.
    Closed(LinkError),
}

/// Why a connection ended or could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LinkError {
    /// The close code, or the code that fits the server's refusal.
    pub code: Option<u16>,
    /// Text for people.
    pub message: String,
    /// How long the server asks the client to wait.
    pub retry_after: Option<Duration>,
    /// This transport does not work here; another one may. [`Fallback`](crate::Fallback) then uses
    /// the next one, whatever the code.
    pub unfit: bool,
    /// A gateway had no answer from the server (HTTP 502, 503 or 504). This says nothing about the
    /// transport: the same one may work in a moment.
    pub gateway: bool,
}

impl LinkError {
    /// An end without a code: the connection was cut, or could not be opened.
    pub fn cut(message: impl Into<String>) -> Self {
        let (code, message, retry_after) = (None, message.into(), None);
        Self { code, message, retry_after, unfit: false, gateway: false }
    }

    /// An error of a transport that does not work here.
    pub fn unfit(message: impl Into<String>) -> Self {
        Self { unfit: true, ..Self::cut(message) }
    }

    /// An end with a code.
    pub fn coded(code: u16, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::cut(message) }
    }
}

//! The seam between the client and what carries its messages.

use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Sink, Stream};
use im_core::wire::Encoding;

/// Opens connections to a server, one after the other.
#[async_trait]
pub trait Link: Send + Sync + 'static {
    /// Opens a connection for this encoding. The caller bounds the time that it takes; dropping the future gives up.
    ///
    /// # Errors
    ///
    /// [`LinkError`], with a numbered code where the server gave one.
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError>;
}

/// A connection, as two halves that work side by side. Dropping both cuts it.
pub struct Connected {
    /// Takes whole messages. Closing it says good-bye.
    pub sink: Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>,
    /// Gives what arrives; ends when the connection does.
    pub stream: Pin<Box<dyn Stream<Item = Incoming> + Send>>,
}

/// What arrives on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Bytes),
    /// A sign of life that is no message: the transport's own ping or pong.
    Heard,
    /// Whether a connection over a better transport waits: [`Link::connect`] would return it. The client changes over when
    /// nothing is under way whose outcome would be unknown then; it may as well stay.
    Better(bool),
    /// The connection ended. Nothing follows.
    Closed(LinkError),
}

/// Why a connection ended or could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LinkError {
    /// The close code, or the one that fits the server's refusal.
    pub code: Option<u16>,
    /// Words for a person.
    pub message: String,
    /// When the server would like us back.
    pub retry_after: Option<Duration>,
    /// This transport does not get through to the server; another one may. [`Fallback`](crate::Fallback) then takes the next
    /// one, whatever the code.
    pub unfit: bool,
    /// A gateway before the server had no answer from it (HTTP 502, 503 or 504), so that nothing is said about this
    /// transport: the same one may work in a moment.
    pub gateway: bool,
}

impl LinkError {
    /// An end without a code: the connection was cut, or never came about.
    pub fn cut(message: impl Into<String>) -> Self {
        let (code, message, retry_after) = (None, message.into(), None);
        Self { code, message, retry_after, unfit: false, gateway: false }
    }

    /// This transport does not get through.
    pub fn unfit(message: impl Into<String>) -> Self {
        Self { unfit: true, ..Self::cut(message) }
    }

    /// An end with a code.
    pub fn coded(code: u16, message: impl Into<String>) -> Self {
        Self { code: Some(code), ..Self::cut(message) }
    }
}

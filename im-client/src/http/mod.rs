//! Messages over plain HTTP: commands by POST, pushes by an event stream or by polling.
//!
//! | module | what it does |
//! |---|---|
//! | `driver` | one connection's task: posts, reads, and keeps both in order |
//! | `queue` | messages that wait to be posted |
//! | `down` | the downlink, by stream or poll |
//! | `request` | HTTP/1.1 requests over connections that are kept |
//! | `dial` | opening the streams for requests |
//! | `sse` | parsing an event stream |

mod dial;
mod down;
mod driver;
mod queue;
mod request;
mod sse;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, Sink, Stream, StreamExt};
use hyper::header::{HeaderName, HeaderValue};
use im_core::Code;
use im_core::wire::Encoding;
use tokio::task::AbortHandle;

use crate::link::{Connected, Incoming, Link, LinkError};

use driver::Driver;
use queue::Queue;
use request::Server;

pub use dial::{ByteStream, Dial};

/// How pushes arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// As an event stream (SSE).
    Stream,
    /// By requests that the server holds for up to this long.
    LongPoll(Duration),
    /// By requests that are answered at once, with this pause after one that returned nothing.
    ShortPoll(Duration),
}

/// Connects over plain HTTP/1.1, for networks that block WebSocket.
#[derive(Debug, Clone)]
pub struct Http {
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    down: Down,
    dial: Option<Arc<dyn Dial>>,
}

/// Messages that wait to be posted together.
const QUEUE: usize = 16;

impl Http {
    /// Connects to a server at `http://host:port/prefix`, which has `/send`, `/sse` and `/poll`
    /// below it.
    pub fn new(url: impl Into<String>, down: Down) -> Self {
        Self { url: url.into(), headers: Vec::new(), down, dial: None }
    }

    /// Connects with an event stream as the downlink.
    pub fn stream(url: impl Into<String>) -> Self {
        Self::new(url, Down::Stream)
    }

    /// Connects with long polling, each poll for up to 25 s.
    pub fn long_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::LongPoll(Duration::from_secs(25)))
    }

    /// Connects with short polls: every two seconds, and at once after one that returned something
    /// and after every answer to a command.
    pub fn short_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::ShortPoll(Duration::from_secs(2)))
    }

    /// Adds a header to every request: for example a cookie or a bearer token.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Sets how streams to the server are opened, instead of by TCP.
    #[must_use]
    pub fn dial(mut self, dial: impl Dial) -> Self {
        self.dial = Some(Arc::new(dial));
        self
    }

    fn server(&self) -> Result<Server, LinkError> {
        let wrong = |e: String| LinkError::coded(Code::BadField.number(), e);
        let mut server = Server::parse(&self.url).map_err(wrong)?;
        server.headers.extend(self.headers.iter().cloned());
        server.dial = self.dial.clone().unwrap_or(server.dial);
        Ok(server)
    }
}

#[async_trait]
impl Link for Http {
    /// Sends nothing before the first message, which has to be the greeting.
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let server = self.server()?;
        let (messages, outgoing) = mpsc::channel(QUEUE);
        // No buffer: pushes wait in the network, or the answers to commands would wait behind them.
        let (incoming, arrives) = mpsc::channel(0);
        let (running, ended) = oneshot::channel();
        let (open, closing) = oneshot::channel();
        let outgoing = Queue::new(outgoing, encoding);
        let driver = Driver::new(server, encoding, self.down, outgoing, (incoming, closing));
        let task = tokio::spawn(async move {
            driver.run().await;
            drop(running);
        });
        let stream = Arriving { arrives, driver: task.abort_handle() };
        let sink = Outgoing { messages, open: Some(open), ended };
        Ok(Connected { sink: Box::pin(sink), stream: Box::pin(stream) })
    }
}

/// Sends messages to the driver.
struct Outgoing {
    messages: mpsc::Sender<Bytes>,
    /// Dropped on close: the driver need not deliver what arrives any more.
    open: Option<oneshot::Sender<()>>,
    /// Resolves when the driver ends.
    ended: oneshot::Receiver<()>,
}

fn has_ended<E>(_: E) -> LinkError {
    LinkError::cut("the connection has ended")
}

impl Sink<Bytes> for Outgoing {
    type Error = LinkError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.messages.poll_ready(cx).map_err(has_ended)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), LinkError> {
        self.messages.start_send(message).map_err(has_ended)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when all messages have been posted and answered; there is no other closing handshake.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.messages.disconnect();
        self.open = None;
        // No value is ever sent: the future resolves when the driver drops the sender.
        let _ended = ready!(self.ended.poll_unpin(cx));
        Poll::Ready(Ok(()))
    }
}

/// What arrives, and the task that fetches it. Dropping this aborts the task and its requests.
struct Arriving {
    arrives: mpsc::Receiver<Incoming>,
    driver: AbortHandle,
}

impl Stream for Arriving {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.arrives.poll_next_unpin(cx)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

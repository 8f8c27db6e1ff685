//! Messages over plain HTTP: commands by POST, pushes by an event stream or by polling.
//!
//! | module | what it does |
//! |---|---|
//! | `driver` | one connection's task: posts, reads, and keeps both in order |
//! | `queue` | what waits on its way up |
//! | `down` | what comes down, by stream or poll |
//! | `request` | HTTP/1.1 requests over connections that are kept |
//! | `dial` | where their bytes go |
//! | `sse` | reading an event stream |

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

/// How pushes come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// As an event stream (SSE).
    Stream,
    /// By requests that wait at the server for up to this long.
    LongPoll(Duration),
    /// By requests that are answered at once, with this pause after one that brought nothing.
    ShortPoll(Duration),
}

/// Connects over plain HTTP/1.1, where WebSocket does not get through.
#[derive(Debug, Clone)]
pub struct Http {
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    down: Down,
    dial: Option<Arc<dyn Dial>>,
}

/// Messages that wait on their way up, to go together.
const QUEUE: usize = 16;

impl Http {
    /// To a server at `http://host:port/prefix`, where it has `/send`, `/sse` and `/poll`.
    pub fn new(url: impl Into<String>, down: Down) -> Self {
        Self { url: url.into(), headers: Vec::new(), down, dial: None }
    }

    /// By an event stream.
    pub fn stream(url: impl Into<String>) -> Self {
        Self::new(url, Down::Stream)
    }

    /// By long polling, each poll for up to 25 s.
    pub fn long_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::LongPoll(Duration::from_secs(25)))
    }

    /// By short polls: every two seconds, and at once after one that brought something and after every answer to a command.
    pub fn short_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::ShortPoll(Duration::from_secs(2)))
    }

    /// Sends a header with every request: a cookie, say, or a bearer token.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Reaches the server another way than by TCP.
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
    /// Nothing is sent before the first message, which has to be the greeting.
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let server = self.server()?;
        let (messages, outgoing) = mpsc::channel(QUEUE);
        // What came down waits in the network, or the answers to commands would have to wait behind it.
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

/// What the driver is given to post.
struct Outgoing {
    messages: mpsc::Sender<Bytes>,
    /// Dropped when it closes: nobody has to be waited for any more who reads what arrives.
    open: Option<oneshot::Sender<()>>,
    /// Ends with the driver.
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

    /// Ready when all has been posted and answered: there is no good-bye but that.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.messages.disconnect();
        self.open = None;
        // Nothing is ever sent: it ends when the driver does.
        let _ended = ready!(self.ended.poll_unpin(cx));
        Poll::Ready(Ok(()))
    }
}

/// What arrives, and the task that fetches it, which ends with this: requests that are under way are cut off.
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

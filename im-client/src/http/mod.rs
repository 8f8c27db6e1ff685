//! Messages over plain HTTP: commands by POST, pushes by an event stream or by polling.
//!
//! | module | what it does |
//! |---|---|
//! | `driver` | one connection's task: posts, reads, and keeps both in order |
//! | `down` | what comes down, by stream or poll |
//! | `request` | HTTP/1.1 requests over connections that are kept |
//! | `sse` | reading an event stream |

mod down;
mod driver;
mod request;
mod sse;

use std::time::Duration;

use async_trait::async_trait;
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use hyper::header::{HeaderName, HeaderValue};
use im_core::Code;
use im_core::wire::Encoding;

use crate::link::{Connected, Link, LinkError};

use driver::Driver;
use request::Server;

/// How pushes come down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Down {
    /// As an event stream (SSE).
    Stream,
    /// By requests that wait at the server for up to this long.
    LongPoll(Duration),
    /// By requests that are answered at once, with this pause between them.
    ShortPoll(Duration),
}

/// Connects over plain HTTP/1.1, where WebSocket does not get through.
#[derive(Debug, Clone)]
pub struct Http {
    url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    down: Down,
}

/// Messages that wait on their way through.
const QUEUE: usize = 16;

impl Http {
    /// To a server at `http://host:port/prefix`, where it has `/send`, `/sse` and `/poll`.
    pub fn new(url: impl Into<String>, down: Down) -> Self {
        Self { url: url.into(), headers: Vec::new(), down }
    }

    /// By an event stream.
    pub fn stream(url: impl Into<String>) -> Self {
        Self::new(url, Down::Stream)
    }

    /// By long polling, each poll for up to 25 s.
    pub fn long_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::LongPoll(Duration::from_secs(25)))
    }

    /// By a short poll every two seconds.
    pub fn short_poll(url: impl Into<String>) -> Self {
        Self::new(url, Down::ShortPoll(Duration::from_secs(2)))
    }

    /// Sends a header with every request: a cookie, say, or a bearer token.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    fn server(&self) -> Result<Server, LinkError> {
        let wrong = |e: String| LinkError::coded(Code::BadField.number(), e);
        let mut server = Server::parse(&self.url).map_err(wrong)?;
        server.headers.extend(self.headers.iter().cloned());
        Ok(server)
    }
}

#[async_trait]
impl Link for Http {
    /// Nothing is sent before the first message, which has to be the greeting.
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let server = self.server()?;
        let (messages, outgoing) = mpsc::channel(QUEUE);
        let (incoming, stream) = mpsc::channel(QUEUE);
        tokio::spawn(Driver::new(server, encoding, self.down, outgoing, incoming).run());
        let sink = messages.sink_map_err(|_| LinkError::cut("the connection has ended"));
        Ok(Connected { sink: Box::pin(sink), stream: stream.boxed() })
    }
}

//! What a transport's author implements: how to serve engines, and how a raw client reaches them.

use async_trait::async_trait;
use bytes::Bytes;
use im_core::engine::Engine;
use im_core::wire::{Encoding, Secret};

/// What of a session a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Commands and pushes both, in the order in which the engine made them; the connection takes its session.
    Duplex,
    /// Commands and pushes each for themselves, pushes by a stream. A room is followed from when its status comes down;
    /// what replies say is a preview. Some cases do not apply: see [`transport_suite!`](crate::transport_suite!).
    RequestStream,
    /// The same, with pushes by polls, so that there is nothing that could be cut off.
    Polls,
}

/// Serves engines over a transport and dials them.
#[async_trait]
pub trait TransportFactory: Sized + Send + Sync + 'static {
    /// What of a session a connection carries.
    fn kind() -> Kind {
        Kind::Duplex
    }

    /// The encodings that a connection may agree on. A transport whose connections agree on nothing before `hello` has
    /// JSON only, and takes the form `transport_suite!(bare: …)`.
    fn encodings() -> &'static [Encoding] {
        &Encoding::ALL
    }

    /// Serves each of these engines at an address of its own, until the factory is dropped.
    async fn serve(engines: &[Engine]) -> Self;

    /// Connects as a client. The connection says nothing by itself: `hello` is the suite's to send.
    ///
    /// # Errors
    ///
    /// The server refused the connection before it came about.
    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused>;
}

/// Whom to connect to, and how.
#[derive(Debug, Clone)]
pub struct Dial {
    /// Which of the engines, from 0.
    pub engine: usize,
    /// The encoding to agree on: one of [`TransportFactory::encodings`].
    pub encoding: Encoding,
    /// A bearer token to show with the connection itself, in a header, say. Never for `bare` transports.
    pub token: Option<Secret>,
}

/// The server refused a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The numbered code, where the transport can tell it.
    pub code: Option<u16>,
}

/// A raw client connection: bytes in, bytes out. It must not read ahead of [`RawLink::receive`] beyond what the operating
/// system buffers, so that a client that does not read can be played.
#[async_trait]
pub trait RawLink: Send {
    /// Sends one message, of the type that belongs to `encoding`, which need not be the one agreed on (but for `bare`
    /// transports), and with bytes that need not be right. A connection that is gone swallows it. It must not wait for
    /// the server to read.
    async fn send(&mut self, message: Bytes, encoding: Encoding);

    /// Sends one message cut into `pieces` parts, where the transport knows such a thing.
    async fn send_in_pieces(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        let _ = pieces;
        self.send(message, encoding).await;
    }

    /// What comes next; heartbeats are passed over. Cancel-safe.
    async fn receive(&mut self) -> Received;

    /// Cuts the connection without any good-bye, as a bad network would.
    fn cut(self: Box<Self>);
}

/// What a raw client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message: one frame or a batch.
    Message(Bytes),
    /// The end, with the close code if the transport has one. If it has none, the frame `disconnect` before it counts.
    Closed(Option<u16>),
}

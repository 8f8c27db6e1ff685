//! The traits of a transport under test: serving engines and dialling them as a raw client.

use async_trait::async_trait;
use bytes::Bytes;
use im_core::engine::Engine;
use im_core::wire::{Encoding, Secret};

/// Which halves of a session a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Commands and pushes, in the order in which the engine made them; the connection owns its
    /// session.
    Duplex,
    /// Commands by requests, pushes by a stream. A subscription starts with its status on the
    /// stream; the statuses in replies are previews. Some cases do not apply: see
    /// [`transport_suite!`](crate::transport_suite!).
    RequestStream,
    /// As [`Kind::RequestStream`], with pushes by polls: there is no connection to disconnect.
    Polls,
}

/// Serves engines over a transport and dials them.
#[async_trait]
pub trait TransportFactory: Sized + Send + Sync + 'static {
    /// Returns which halves of a session a connection carries.
    fn kind() -> Kind {
        Kind::Duplex
    }

    /// Returns the encodings that a connection can agree on. A transport without a handshake before
    /// `hello` has JSON only, and uses the form `transport_suite!(bare: …)`.
    fn encodings() -> &'static [Encoding] {
        &Encoding::ALL
    }

    /// Serves each engine at an address of its own, until the factory is dropped.
    async fn serve(engines: &[Engine]) -> Self;

    /// Connects as a client. The connection sends nothing by itself: the suite sends `hello`.
    ///
    /// # Errors
    ///
    /// If the server refuses the connection before it is established.
    async fn dial(&self, dial: Dial) -> Result<Box<dyn RawLink>, Refused>;
}

/// The engine, encoding and credentials of a connection.
#[derive(Debug, Clone)]
pub struct Dial {
    /// The index of the engine, from 0.
    pub engine: usize,
    /// The encoding to agree on, one of [`TransportFactory::encodings`].
    pub encoding: Encoding,
    /// A bearer token for the transport's own handshake, such as a header. Never set for `bare`
    /// transports.
    pub token: Option<Secret>,
}

/// A connection that the server refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// The numbered code, if the transport carries one.
    pub code: Option<u16>,
}

/// A raw client connection: bytes in, bytes out.
///
/// It must not read ahead of [`RawLink::receive`] beyond what the operating system buffers: some
/// cases simulate a client that does not read.
#[async_trait]
pub trait RawLink: Send {
    /// Sends one message, of the type that belongs to `encoding`. The encoding may differ from the
    /// agreed one (except for `bare` transports), and the bytes may be invalid. A closed connection
    /// discards the message. Must not wait for the server to read.
    async fn send(&mut self, message: Bytes, encoding: Encoding);

    /// Sends one message in `pieces` parts, if the transport supports it.
    async fn send_in_pieces(&mut self, message: Bytes, encoding: Encoding, pieces: usize) {
        let _ = pieces;
        self.send(message, encoding).await;
    }

    /// Returns the next message or the end, without heartbeats. Cancel-safe.
    async fn receive(&mut self) -> Received;

    /// Cuts the connection without a close message, as a network failure would.
    fn cut(self: Box<Self>);
}

/// A message or the end of a raw connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A message: one frame or a batch.
    Message(Bytes),
    /// The end, with the close code if the transport has one; otherwise the `disconnect` frame
    /// before it counts.
    Closed(Option<u16>),
}

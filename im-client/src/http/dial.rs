//! Opening the streams that requests go over.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Opens the byte streams for requests: TCP by default, or a proxy, a Unix socket, or a network
/// that a test disturbs.
#[async_trait]
pub trait Dial: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream to `authority`, a host and a port as in a URL. The caller bounds the time.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    async fn dial(&self, authority: &str) -> io::Result<Box<dyn ByteStream>>;
}

/// Bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Dials by TCP.
#[derive(Debug)]
pub(super) struct Tcp;

#[async_trait]
impl Dial for Tcp {
    async fn dial(&self, authority: &str) -> io::Result<Box<dyn ByteStream>> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

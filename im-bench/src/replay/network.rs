//! The sockets of HTTP requests, which end with their wire.
//!
//! A send counts as written when the socket has taken its bytes. So a cut strikes between a POST
//! and its answer, and also ends the stream half, which is another socket of the same wire.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use im_client::{ByteStream, Dial};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::{Watched, count};

/// Opens the sockets of one wire.
#[derive(Debug)]
pub(super) struct Network(pub(super) Watched);

#[async_trait]
impl Dial for Network {
    async fn dial(&self, authority: &str) -> io::Result<Box<dyn ByteStream>> {
        let watched = self.0.clone();
        let kills = watched.kills();
        let socket = TcpStream::connect(authority).await?;
        socket.set_nodelay(true)?;
        Ok(Box::new(Socket { socket, watched, kills, tail: Vec::new(), asked: false }))
    }
}

/// A socket whose writes are observed.
struct Socket<S> {
    socket: S,
    watched: Watched,
    kills: u64,
    /// The last bytes that were written, in which a send may have started.
    tail: Vec<u8>,
    /// Set when the first request was written.
    asked: bool,
}

impl<S> Socket<S> {
    fn check(&self) -> io::Result<()> {
        if self.watched.wire.is_cut() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        let first = !std::mem::replace(&mut self.asked, true);
        if bytes.starts_with(b"GET ") {
            self.watched.listens(bytes, first);
        }
        let marker = self.watched.send_marker();
        self.tail.extend_from_slice(bytes);
        let sends = count(&self.tail, marker);
        // Shorter than a marker, so that none is counted twice.
        let seen = self.tail.len().saturating_sub(marker.len() - 1);
        self.tail.drain(..seen);
        if sends > 0 {
            self.watched.wrote(sends, self.kills);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let written = ready!(Pin::new(&mut self.socket).poll_write(cx, bytes))?;
        self.wrote(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

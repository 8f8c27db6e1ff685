//! The socket of an HTTP/1.1 connection: read ahead during a response, unwrapped by an upgrade.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket_limiter::SocketPermit;
use crate::turns::Turns;
use crate::write_timeout::WriteTimeout;

/// A socket that hyper and [`Watch`](crate::watch::Watch) share; clones share one socket. Both run
/// in one task, so the lock is never contended.
pub(crate) struct Socket<T>(Arc<Mutex<Inner<T>>>);

struct Inner<T> {
    /// `None` once an upgrade has unwrapped the socket.
    stream: Option<(T, SocketPermit)>,
    /// A byte read during a response and not yet returned by a read.
    ahead: Option<u8>,
    /// Whether the peer has ended its half.
    ended: bool,
    turns: Arc<Turns>,
}

impl<T> Clone for Socket<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: AsyncRead + Unpin> Socket<T> {
    pub(crate) fn new(stream: T, permit: SocketPermit, turns: Arc<Turns>) -> Self {
        let inner = Inner { stream: Some((stream, permit)), ahead: None, ended: false, turns };
        Self(Arc::new(Mutex::new(inner)))
    }

    /// Ready once the peer has ended its half, or with an error if it is gone. At most one byte is
    /// read ahead: nothing after it is read before a read has returned it.
    pub(crate) fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        if inner.ended {
            return Poll::Ready(Ok(()));
        }
        let (None, Some((stream, _))) = (inner.ahead, &mut inner.stream) else {
            return Poll::Pending;
        };
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        match Pin::new(stream).poll_read(cx, &mut buf) {
            Poll::Pending => return Poll::Pending,
            // TLS that ends without `close_notify` counts as an end as well: the request was
            // complete.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {}
        }
        // Wakes the other reader of this socket, whose waker this read has replaced.
        cx.waker().wake_by_ref();
        match buf.filled() {
            [] => {
                inner.ended = true;
                Poll::Ready(Ok(()))
            }
            [byte, ..] => {
                inner.ahead = Some(*byte);
                Poll::Pending
            }
        }
    }
}

/// Unwraps an upgraded connection of our own listener.
///
/// Returns its socket, the bytes that were read from it already, and its permit, to be kept for as
/// long as the socket lives.
///
/// # Errors
///
/// The connection itself, if it is of another kind: TLS, or another server's socket. `None` if the
/// socket was unwrapped before, which cannot happen: a connection is upgraded once.
pub fn into_tcp(upgraded: Upgraded) -> Result<(TcpStream, Bytes, SocketPermit), Option<Upgraded>> {
    let parts = upgraded.downcast::<TokioIo<Socket<WriteTimeout<TcpStream>>>>().map_err(Some)?;
    let socket = parts.io.into_inner();
    let (taken, ahead) = {
        let inner = &mut *socket.0.lock();
        (inner.stream.take(), inner.ahead.take())
    };
    let early = match ahead {
        None => parts.read_buf,
        Some(byte) => {
            let mut early = BytesMut::from(&parts.read_buf[..]);
            early.extend_from_slice(&[byte]);
            early.freeze()
        }
    };
    let (stream, permit) = taken.ok_or(None)?;
    Ok((stream.into_inner(), early, permit))
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.lock();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(byte) = inner.ahead.take() {
            buf.put_slice(&[byte]);
            inner.turns.heard();
            return Poll::Ready(Ok(()));
        }
        let Some((stream, _)) = inner.stream.as_mut().filter(|_| !inner.ended) else {
            return Poll::Ready(Ok(()));
        };
        let before = buf.filled().len();
        let read = Pin::new(stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read {
            match buf.filled().len() > before {
                true => inner.turns.heard(),
                false => inner.ended = true,
            }
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> Socket<T> {
    fn write<R>(
        &self,
        write: impl FnOnce(Pin<&mut T>) -> Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        match &mut self.0.lock().stream {
            Some((stream, _)) => write(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(|stream| stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().stream.as_ref().is_some_and(|(stream, _)| stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write(|stream| stream.poll_shutdown(cx))
    }
}

//! A socket that fails when its peer reads nothing for too long.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use crate::turns::Turns;

/// Sets how long a peer may acknowledge no sent bytes (`TCP_USER_TIMEOUT`, RFC 5482).
///
/// [`WriteTimeout`] sees only what the socket accepts, and a socket accepts many bytes for a peer
/// that has vanished silently. On systems other than Linux and Android the system's own time-out
/// applies.
pub(crate) fn set_user_timeout(stream: &TcpStream, within: Duration) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // Zero would mean the system's own time-out, a quarter of an hour.
        let within = within.max(Duration::from_millis(1));
        socket2::SockRef::from(stream).set_tcp_user_timeout(Some(within))?;
    }
    let _ = (stream, within);
    Ok(())
}

/// A socket whose writes fail once none succeeded for `within`. No timer runs while writes succeed.
///
/// It lies below TLS, so it sees the bytes that are sent, and reports them to the connection's
/// [`Turns`].
#[derive(Debug)]
pub(crate) struct WriteTimeout<T> {
    inner: T,
    turns: Arc<Turns>,
    within: Duration,
    stuck: Option<Pin<Box<Sleep>>>,
}

impl<T> WriteTimeout<T> {
    pub(crate) fn new(inner: T, within: Duration, turns: Arc<Turns>) -> Self {
        Self { inner, turns, within, stuck: None }
    }

    /// Unwraps the socket.
    pub(crate) fn into_inner(self) -> T {
        self.inner
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if matches!(written, Poll::Ready(Ok(bytes)) if *bytes > 0) {
            self.turns.wrote();
        }
    }

    fn watch<R>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        let within = self.within;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep(within)));
        match stuck.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WriteTimeout<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WriteTimeout<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.count(&written);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.count(&written);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        // A flush without pending bytes does not prove that the peer reads.
        if flushed.is_ready() { flushed } else { self.watch(cx, flushed) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.watch(cx, shut)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A write waits as long as the peer reads some bytes, and times out otherwise.
    #[tokio::test(start_paused = true)]
    async fn slow_peer_waits_idle_times_out() {
        let (mut reader, writer) = tokio::io::duplex(16);
        let mut writer = WriteTimeout::new(writer, Duration::from_secs(30), Arc::default());
        let reading = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_secs(20)).await;
                reader.read_exact(&mut [0; 8]).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let writing = async {
            writer.write_all(&[7; 88]).await.unwrap();
            writer.flush().await.unwrap();
            writer.write_all(&[7; 16]).await.unwrap_err().kind()
        };
        tokio::select! {
            kind = writing => assert_eq!(kind, io::ErrorKind::TimedOut),
            () = reading => {}
        }
    }
}

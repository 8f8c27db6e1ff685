//! The socket between tungstenite and the system, without buffers while idle.
//!
//! tungstenite keeps a read and a write buffer per connection for its whole life, and neither ever
//! shrinks. With ten thousand idle connections these buffers would be most of the memory. So
//! tungstenite has buffers of a few hundred bytes, and this link compensates: it reads into a
//! buffer on the stack and keeps only the bytes that tungstenite does not accept at once, and it
//! collects outgoing frames in a buffer that is freed as soon as they are written.
//!
//! tungstenite assembles the fragments of a message by itself, and reads on as long as there are
//! any, also empty ones without end. The link therefore counts the bytes that it returns for one
//! message, and fails beyond a bound.

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::{fmt, io};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;

/// Bytes requested from the system in one read.
const READ: usize = 4096;

/// Maximum bytes of control frames (pongs, a close) that wait while the peer does not read.
const MAX_CONTROL: usize = 1024;

/// A socket with its surplus of read bytes and its unwritten bytes.
#[derive(Debug)]
pub(crate) struct Link<S> {
    socket: S,
    early: Bytes,
    late: Vec<u8>,
    written: usize,
    /// Whether bytes have arrived since the last query.
    arrived: bool,
    /// Bytes that may still be read for the current message, frame headers included.
    left: u32,
}

/// The error for a message that exceeds its bound of bytes, frame headers included.
#[derive(Debug)]
pub(crate) struct Flooded;

impl fmt::Display for Flooded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("too many frames for one message")
    }
}

impl std::error::Error for Flooded {}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// Creates a link over `socket`, from which `early` has been read already.
    pub(crate) fn new(socket: S, early: Bytes, left: u32) -> Self {
        // A copy, because `early` may be a slice of a larger buffer.
        let early = Bytes::copy_from_slice(&early);
        Self { socket, early, late: Vec::new(), written: 0, arrived: false, left }
    }

    /// Returns whether bytes have arrived since the last call.
    pub(crate) fn take_arrived(&mut self) -> bool {
        std::mem::take(&mut self.arrived)
    }

    /// Returns how many pending bytes the socket has accepted.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Resets the budget of bytes for the next message.
    pub(crate) fn begin_message(&mut self, left: u32) {
        self.left = left;
    }

    /// Refunds a control frame with a payload of that many bytes, which belongs to no message.
    pub(crate) fn control_read(&mut self, payload: usize) {
        // Two bytes of header and four of mask.
        self.left = self.left.saturating_add(u32::try_from(payload + 6).unwrap_or(u32::MAX));
    }

    /// Counts bytes that are returned to tungstenite.
    fn count(&mut self, bytes: usize) -> io::Result<()> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.left = self.left.checked_sub(bytes).ok_or_else(|| io::Error::other(Flooded))?;
        Ok(())
    }

    /// Queues a whole frame, unmasked as a server sends it (RFC 6455 section 5.1). The next flush
    /// writes it.
    pub(crate) fn push(&mut self, opcode: OpCode, payload: &[u8]) -> io::Result<()> {
        let header = FrameHeader { opcode, ..FrameHeader::default() };
        let length = payload.len() as u64;
        self.late.reserve(header.len(length) + payload.len());
        header.format(length, &mut self.late).map_err(io::Error::other)?;
        self.late.extend_from_slice(payload);
        Ok(())
    }

    fn poll_write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.late.len() {
            let count =
                ready!(Pin::new(&mut self.socket).poll_write(cx, &self.late[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.late = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Link<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            if out.remaining() >= READ {
                let before = out.filled().len();
                ready!(Pin::new(&mut self.socket).poll_read(cx, out))?;
                let arrived = out.filled().len() - before;
                self.arrived |= arrived > 0;
                return Poll::Ready(self.count(arrived));
            }
            let mut stack = [MaybeUninit::uninit(); READ];
            let mut read = ReadBuf::uninit(&mut stack);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut read))?;
            self.arrived |= !read.filled().is_empty();
            let (now, later) = read.filled().split_at(read.filled().len().min(out.remaining()));
            out.put_slice(now);
            if !later.is_empty() {
                self.early = Bytes::copy_from_slice(later);
            }
            return Poll::Ready(self.count(now.len()));
        }
        let count = self.early.len().min(out.remaining());
        out.put_slice(&self.early[..count]);
        self.early.advance(count);
        if self.early.is_empty() {
            self.early = Bytes::new();
        }
        Poll::Ready(self.count(count))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Link<S> {
    /// Accepts tungstenite's writes, which are control frames. Data frames are pushed.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.late.len() - self.written > MAX_CONTROL {
            ready!(self.poll_write_out(cx))?;
        }
        self.late.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_out(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data};

    use super::*;

    /// Bytes read with the handshake come first, and none are lost.
    #[tokio::test]
    async fn early_bytes_come_first() {
        let (mut peer, socket) = duplex(1 << 16);
        let mut link = Link::new(socket, Bytes::from_static(b"early "), u32::MAX);
        let sent: Vec<u8> = (0..9000_u32).map(|n| n as u8).collect();
        peer.write_all(&sent).await.unwrap();
        peer.shutdown().await.unwrap();
        let mut read = Vec::new();
        let mut part = [0; 7];
        loop {
            match link.read(&mut part).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&part[..count]),
            }
        }
        assert_eq!(read, [b"early ".as_slice(), &sent].concat());
        assert_eq!(link.early.len(), 0);
    }

    /// Frames are written together, and the buffer is freed afterwards.
    #[tokio::test]
    async fn frames_share_writes_and_buffer_shrinks() {
        let (mut peer, socket) = duplex(1 << 16);
        let mut link = Link::new(socket, Bytes::new(), u32::MAX);
        link.push(OpCode::Data(Data::Text), b"one").unwrap();
        link.push(OpCode::Data(Data::Binary), &[7; 200]).unwrap();
        link.push(OpCode::Control(Control::Ping), b"").unwrap();
        link.flush().await.unwrap();
        assert_eq!(link.late.capacity(), 0);
        let mut read = [0; 5 + 204 + 2];
        peer.read_exact(&mut read).await.unwrap();
        assert_eq!(&read[..9], b"\x81\x03one\x82\x7e\x00\xc8");
        assert_eq!(&read[209..], b"\x89\x00");
    }

    #[tokio::test]
    async fn unread_control_frames_are_bounded() {
        let (_peer, socket) = duplex(16);
        let mut link = Link::new(socket, Bytes::new(), u32::MAX);
        let mut kept = 0;
        while let Some(written) = futures::FutureExt::now_or_never(link.write(&[0; 100])) {
            kept += written.unwrap();
            assert!(kept < 10 * MAX_CONTROL);
        }
        assert!(link.late.len() <= MAX_CONTROL + 100);
    }
}

//! The body of the response to a message of commands.
//!
//! Acks count against the engine's bounds until the HTTP server drops their bytes, which it does
//! once they are written. If all acks are ready, the length of the body is known. Otherwise the
//! list is streamed, and further commands are executed as the peer reads.
//!
//! The server receives the bytes in pieces. Each dropped piece counts as progress, so the engine
//! sees how far a slow peer is. Acks count until their last piece is dropped, because until then
//! they occupy memory.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use im_core::engine::{AckChunk, Acks, HeldAcks};
use im_core::wire::{Encoding, list_encoded, list_end, list_head, list_part};

use crate::body::Body;

/// Returns the body that holds all acks in `answers`.
pub(crate) async fn body(mut answers: Acks, encoding: Encoding) -> Body {
    if answers.is_complete() {
        let Some(AckChunk { frames, held }) = answers.next().await else {
            return Body::from(list_encoded(&[], encoding));
        };
        return Body::new(WholeBody(Pieces::new(list_encoded(&frames, encoding), held)));
    }
    let missing = answers.commands();
    let head = Some(list_head(missing, encoding));
    Body::new(Streamed {
        encoding,
        head,
        first: true,
        missing,
        pieces: None,
        state: State::Idle(answers),
        ended: false,
    })
}

/// Bytes of a piece: what a peer of the slowest tolerated rate reads in 4 s. That is less than the
/// five ticks after which a peer that reads nothing is dropped.
const PIECE: usize = 2048;

/// Encoded acks, iterated in pieces.
struct Pieces {
    left: Bytes,
    held: Arc<HeldAcks>,
}

impl Pieces {
    fn new(bytes: Bytes, held: HeldAcks) -> Self {
        Self { left: bytes, held: Arc::new(held) }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.left.is_empty() {
            return None;
        }
        let bytes = self.left.split_to(PIECE.min(self.left.len()));
        Some(Bytes::from_owner(Piece { bytes, held: self.held.clone() }))
    }
}

/// A piece that was not written yet.
struct Piece {
    bytes: Bytes,
    held: Arc<HeldAcks>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.held.write_progressed();
    }
}

/// A complete list of acks.
struct WholeBody(Pieces);

impl HttpBody for WholeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.left.len() as u64)
    }
}

type Next = Pin<Box<dyn Future<Output = (Acks, Option<AckChunk>)> + Send>>;

enum State {
    Idle(Acks),
    Waiting(Next),
    Ended,
}

/// A list of acks that is streamed.
struct Streamed {
    encoding: Encoding,
    /// The start of a list.
    head: Option<Bytes>,
    /// Whether no ack was written yet.
    first: bool,
    /// Acks that are still due.
    missing: usize,
    /// The part that is being written.
    pieces: Option<Pieces>,
    state: State,
    /// Whether the end of the list was written.
    ended: bool,
}

impl Streamed {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<AckChunk>> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Ended => return Poll::Ready(None),
                State::Idle(mut answers) => {
                    self.state = State::Waiting(Box::pin(async move {
                        let part = answers.next().await;
                        (answers, part)
                    }));
                }
                State::Waiting(mut next) => match next.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Waiting(next);
                        return Poll::Pending;
                    }
                    Poll::Ready((answers, Some(part))) => {
                        self.state = State::Idle(answers);
                        return Poll::Ready(Some(part));
                    }
                    Poll::Ready((_, None)) => {}
                },
            }
        }
    }
}

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(head) = self.head.take() {
            return Poll::Ready(Some(Ok(Frame::data(head))));
        }
        let encoding = self.encoding;
        loop {
            if let Some(piece) = self.pieces.as_mut().and_then(Iterator::next) {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            self.pieces = None;
            let Some(AckChunk { frames, held }) = ready!(self.poll_part(cx)) else { break };
            self.missing = self.missing.saturating_sub(frames.len());
            let bytes = list_part(&frames, std::mem::take(&mut self.first), encoding);
            self.pieces = Some(Pieces::new(bytes, held));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        if encoding == Encoding::MsgPack && self.missing > 0 {
            // The head announced a count, and the session has ended since.
            let disconnect_unread =
                io::Error::other("the session ended before all commands were answered");
            return Poll::Ready(Some(Err(disconnect_unread)));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(list_end(encoding))))))
    }
}

//! The body of the answer to a message of commands.
//!
//! Answers count against the engine's bounds until the HTTP server drops the bytes, which it does when they were written.
//! Where all are there at once their length is known; otherwise the list is streamed, and the commands behind those that were
//! answered are carried out as the peer reads.
//!
//! The server is handed the bytes in pieces, so that the engine learns how far a slow peer is: each piece that is dropped is
//! progress. Answers count until the last piece of them is dropped, since until then they take their place in memory.

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

/// The body that holds all of `answers`.
pub(crate) async fn body(mut answers: Acks, encoding: Encoding) -> Body {
    if answers.is_complete() {
        let Some(AckChunk { frames, held }) = answers.next().await else {
            return Body::from(list_encoded(&[], encoding));
        };
        return Body::new(Whole(Pieces::new(list_encoded(&frames, encoding), held)));
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

/// Bytes of a piece: what the slowest peer that is waited for takes in four seconds, which is less than the five ticks after
/// which one that takes nothing is given up.
const PIECE: usize = 2048;

/// Answers on their way, a piece at a time.
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

/// Bytes that were not written yet.
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

/// A list of answers that are all there.
struct Whole(Pieces);

impl HttpBody for Whole {
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

/// A list of answers on its way.
struct Streamed {
    encoding: Encoding,
    /// What a list begins with.
    head: Option<Bytes>,
    /// No answer was written yet.
    first: bool,
    /// Answers that are to come.
    missing: usize,
    /// The part that is on its way.
    pieces: Option<Pieces>,
    state: State,
    /// The end of the list was written.
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
            // How many there would be was said before the session ended meanwhile.
            let disconnect_unread =
                io::Error::other("the session ended before all commands were answered");
            return Poll::Ready(Some(Err(disconnect_unread)));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(list_end(encoding))))))
    }
}

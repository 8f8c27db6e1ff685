//! The body of the answer to a message of commands.
//!
//! Answers count against the engine's bounds until the HTTP server drops the bytes, which it does when they were written.
//! Where all are there at once they are one piece of known length; otherwise the list is streamed, and the commands behind
//! those that were answered are carried out as the peer reads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use im_core::engine::{AnswerPart, Answers, HeldAnswers};
use im_core::wire::{Encoding, list_encoded, list_end, list_head, list_part};

use crate::body::Body;

/// The body that holds all of `answers`.
pub(crate) async fn body(mut answers: Answers, encoding: Encoding) -> Body {
    if answers.is_complete() {
        let Some(AnswerPart { frames, held }) = answers.next().await else {
            return Body::from(list_encoded(&[], encoding));
        };
        let list = list_encoded(&frames, encoding);
        return Body::from(Bytes::from_owner(Written { bytes: list, _held: held }));
    }
    let missing = answers.commands();
    let head = Some(list_head(missing, encoding));
    Body::new(Streamed {
        encoding,
        head,
        first: true,
        missing,
        state: State::Idle(answers),
        ended: false,
    })
}

/// Bytes that count until they are dropped.
struct Written {
    bytes: Bytes,
    _held: HeldAnswers,
}

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

type Next = Pin<Box<dyn Future<Output = (Answers, Option<AnswerPart>)> + Send>>;

enum State {
    Idle(Answers),
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
    state: State,
    /// The end of the list was written.
    ended: bool,
}

impl Streamed {
    fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<AnswerPart>> {
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
        if let Some(AnswerPart { frames, held }) = ready!(self.poll_part(cx)) {
            self.missing = self.missing.saturating_sub(frames.len());
            let bytes = list_part(&frames, std::mem::take(&mut self.first), encoding);
            let chunk = Bytes::from_owner(Written { bytes, _held: held });
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        self.ended = true;
        if encoding == Encoding::MsgPack && self.missing > 0 {
            // How many there would be was said before the session ended meanwhile.
            let cut_off = io::Error::other("the session ended before all commands were answered");
            return Poll::Ready(Some(Err(cut_off)));
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(list_end(encoding))))))
    }
}

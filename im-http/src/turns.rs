//! Whose turn it is on a connection of HTTP/1.1: the peer's, to ask, or ours, to answer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio_util::sync::CancellationToken;

/// Whose turn it is. All of it happens in the connection's one task.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    answering: AtomicUsize,
    begun: AtomicUsize,
    heard: AtomicBool,
    written: AtomicUsize,
    ended: CancellationToken,
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The peer writes the head of a request, or has still to say its first word.
    Head,
    /// A request is being answered.
    Answer,
    /// Nothing, between two requests.
    Idle,
}

impl Turns {
    /// A request came in; it is being answered for as long as this lives.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        self.answering.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
        self.heard.store(false, Relaxed);
        Turn(self.clone())
    }

    /// Something was read.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Relaxed);
    }

    /// The socket took some bytes: of an answer that hyper has buffered, perhaps, and counts as written.
    pub(crate) fn wrote(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    /// How often the socket took something, around zero again after many times.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Relaxed)
    }

    /// What the connection is doing, and after how many requests.
    pub(crate) fn phase(&self) -> (Phase, usize) {
        let begun = self.begun.load(Relaxed);
        let phase = if self.answering.load(Relaxed) > 0 {
            Phase::Answer
        } else if self.heard.load(Relaxed) || begun == 0 {
            Phase::Head
        } else {
            Phase::Idle
        };
        (phase, begun)
    }

    /// The peer sends nothing more.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    pub(crate) fn half_closed(&self) -> HalfClosed {
        HalfClosed(self.ended.clone())
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        // What was heard meanwhile was the rest of this request.
        self.0.heard.store(false, Relaxed);
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// Whether the peer of a request has ended its half of the connection; among the request's extensions on our own listener.
///
/// It sends nothing more then, and may still read: what was asked is answered. Where an answer waits for something to
/// happen, this says that perhaps nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct HalfClosed(CancellationToken);

impl HalfClosed {
    /// Waits until the peer has ended its half.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.clone().cancelled_owned()
    }
}

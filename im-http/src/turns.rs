//! The turn on a connection of HTTP/1.1: the peer's request, or our response.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio_util::sync::CancellationToken;

/// The turn of one connection. Only the connection's one task changes it.
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
    /// The peer sends the head of a request, or has not sent its first byte.
    Head,
    /// A request is being answered.
    Answer,
    /// The connection is idle between two requests.
    Idle,
}

impl Turns {
    /// Records a request; it counts as being answered while the returned value lives.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        self.answering.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
        self.heard.store(false, Relaxed);
        Turn(self.clone())
    }

    /// Records that bytes were read.
    pub(crate) fn heard(&self) {
        self.heard.store(true, Relaxed);
    }

    /// Records that the socket accepted bytes, perhaps of a response that hyper had buffered.
    pub(crate) fn wrote(&self) {
        self.written.fetch_add(1, Relaxed);
    }

    /// Returns how often the socket accepted bytes; wraps around.
    pub(crate) fn written(&self) -> usize {
        self.written.load(Relaxed)
    }

    /// Returns the phase, and the number of requests so far.
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

    /// Records that the peer has ended its half.
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
        // Bytes read during the response belonged to this request.
        self.0.heard.store(false, Relaxed);
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// Whether the peer of a request has ended its half of the connection. Our own listener stores it
/// in the request's extensions.
///
/// Such a peer sends nothing more and may still read, so its request is answered. If a response
/// waits for an event, the peer may have stopped waiting for it.
#[derive(Debug, Clone)]
pub struct HalfClosed(CancellationToken);

impl HalfClosed {
    /// Waits until the peer has ended its half.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.clone().cancelled_owned()
    }
}

//! Detection of a peer that has ended its half of the connection and no longer reads.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use im_http::HalfClosed;

/// Time for the response to a first write: a peer that is gone resets the connection within it.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// Schedules two writes to a peer that has ended its half: one at once, which makes a peer that is
/// gone reset the connection, and one a second later, which then fails. A peer that still reads
/// accepts both, and its stream continues.
pub(crate) struct Probe {
    next: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    written: bool,
}

impl Probe {
    pub(crate) fn new(half_closed: &HalfClosed) -> Self {
        Self { next: Some(Box::pin(half_closed.wait())), written: false }
    }

    /// Ready twice, then never again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = &mut self.next else { return Poll::Pending };
        std::task::ready!(next.as_mut().poll(cx));
        let again = !std::mem::replace(&mut self.written, true);
        self.next = again.then(|| Box::pin(tokio::time::sleep(ROUND_TRIP)) as Pin<Box<_>>);
        Poll::Ready(())
    }
}

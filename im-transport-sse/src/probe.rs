//! Whether a peer that has ended its half of the connection still reads.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use im_http::HalfClosed;

/// How long the answer to a first write may take on its way: a peer that has gone resets the connection by then.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// Says when to write something to a peer that has ended its half: at once, which makes a peer that has gone reset the
/// connection, and once more a second later, which then fails. A peer that only reads takes both, and its stream goes on.
pub(crate) struct Probe {
    next: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    written: bool,
}

impl Probe {
    pub(crate) fn new(half_closed: &HalfClosed) -> Self {
        Self { next: Some(Box::pin(half_closed.wait())), written: false }
    }

    /// Ready twice, and never again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(next) = &mut self.next else { return Poll::Pending };
        std::task::ready!(next.as_mut().poll(cx));
        let again = !std::mem::replace(&mut self.written, true);
        self.next = again.then(|| Box::pin(tokio::time::sleep(ROUND_TRIP)) as Pin<Box<_>>);
        Poll::Ready(())
    }
}

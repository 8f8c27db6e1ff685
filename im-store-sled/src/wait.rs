//! Waiting on a thread of our own, and not for ever.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What `future` gives, if it does so within this time. Blocks the thread.
pub(crate) fn within<T>(longest: Duration, future: impl Future<Output = T>) -> Option<T> {
    let until = Instant::now() + longest;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A future that does not complete is awaited no longer than the limit.
    #[test]
    fn wait_ends_at_its_limit() {
        assert_eq!(within(Duration::ZERO, std::future::pending::<()>()), None);
        let (send, receive) = tokio::sync::oneshot::channel();
        let sender = thread::spawn(move || send.send(7));
        assert_eq!(within(Duration::from_secs(60), receive), Some(Ok(7)));
        sender.join().unwrap().unwrap();
    }
}

//! The body of a request, bounded in time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::BoxError;
use crate::metrics;

/// Rate of the slowest body that is read to its end, in bytes a second.
const SLOWEST: f64 = 500.0;

/// The error of a body that took too long to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTooSlow;

impl fmt::Display for BodyTooSlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body of the request took too long to arrive")
    }
}

impl std::error::Error for BodyTooSlow {}

impl BodyTooSlow {
    /// Returns whether this caused a body's error, also if a router has wrapped the error.
    pub(crate) fn caused(error: &BoxError) -> bool {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
        while let Some(error) = next {
            if error.is::<Self>() {
                return true;
            }
            next = error.source();
        }
        false
    }
}

/// The time-out and the state of one body, stored in the request's extensions.
#[derive(Debug, Clone)]
pub(crate) struct BodyTime(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// In milliseconds.
    within: AtomicU64,
    whole: AtomicBool,
    late: AtomicBool,
}

impl BodyTime {
    pub(crate) fn new(within: Duration) -> Self {
        let (whole, late) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Shared { within: AtomicU64::new(millis(within)), whole, late }))
    }

    /// Sets the time-out, before a service with a time-out of its own reads the body.
    pub(crate) fn set(&self, within: Duration) {
        self.0.within.store(millis(within), Relaxed);
    }

    /// Returns whether the body was read completely.
    pub(crate) fn is_whole(&self) -> bool {
        self.0.whole.load(Relaxed)
    }

    /// Returns whether the body took too long.
    pub(crate) fn is_late(&self) -> bool {
        self.0.late.load(Relaxed)
    }

    fn within(&self) -> Duration {
        Duration::from_millis(self.0.within.load(Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The body of a request to our own listener, bounded in time.
///
/// It fails with [`BodyTooSlow`] once it exceeds
/// [`ListenerConfig::body_timeout`](crate::ListenerConfig::body_timeout). Only time in which the
/// service waits for the body counts: while a service is busy, it reads nothing from the peer.
#[derive(Debug)]
pub struct TimedBody<B = Incoming> {
    inner: B,
    time: BodyTime,
    arrived: usize,
    /// Total time waited for the bytes that have arrived.
    waited: Duration,
    /// Start of the current wait.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B: Body<Data = Bytes>> TimedBody<B> {
    pub(crate) fn new(inner: B, time: BodyTime) -> Self {
        let body =
            Self { inner, time, arrived: 0, waited: Duration::ZERO, since: None, timer: None };
        body.note_end();
        body
    }

    fn note_end(&self) {
        if self.inner.is_end_stream() {
            self.time.0.whole.store(true, Relaxed);
        }
    }

    fn on_frame<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>) {
        self.waited += self.since.take().map_or(Duration::ZERO, |since| since.elapsed());
        match frame {
            None => self.time.0.whole.store(true, Relaxed),
            Some(Ok(frame)) => {
                self.arrived += frame.data_ref().map_or(0, Bytes::len);
                self.note_end();
            }
            Some(Err(_)) => {}
        }
    }

    /// Ready once the body counts as too slow for the bytes that have arrived.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let earned = Duration::from_secs_f64(self.arrived as f64 / SLOWEST);
        let left = self.time.within().saturating_add(earned).saturating_sub(self.waited);
        // A deadline beyond the range of `Instant` is none.
        let Some(latest) = since.checked_add(left) else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(latest)));
        if timer.deadline() != latest {
            timer.as_mut().reset(latest);
        }
        timer.as_mut().poll(cx)
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.time.is_late() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.on_frame(frame.as_ref());
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        std::task::ready!(self.poll_late(cx));
        self.time.0.late.store(true, Relaxed);
        ::metrics::counter!(metrics::BODIES_TOO_SLOW).increment(1);
        Poll::Ready(Some(Err(BodyTooSlow.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.time.is_late() || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

//! The best transport that works: the next one where one does not get through, and back again when it does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use im_core::Code;
use im_core::code::{Advice, advice};
use im_core::wire::Encoding;

use crate::link::{Connected, Incoming, Link, LinkError};

/// Several links, the best one first. Each connection goes over the best one that has not failed; a connection that ends,
/// for whatever the network does, before anything was heard on it, makes the next one go over the next link; where only a gateway
/// had no answer from the server (502, 503, 504), that takes three in a row. While a lesser one is in
/// use, the better ones are tried from time to time, and the connection changes over when one works.
///
/// A change in mid-stream is a reconnection: what is unanswered is sent again under its id, and every room goes on from
/// its cursor, so nothing is lost and nothing comes twice.
#[derive(Clone)]
pub struct Fallback {
    links: Arc<[Arc<dyn Link>]>,
    /// The link that the next connection goes over.
    current: Arc<AtomicUsize>,
    /// Errors of gateways in a row. They say nothing about the link.
    gateway_errors: Arc<AtomicU32>,
    /// How often a link turned out not to get through: better ones are tried more and more rarely.
    setbacks: Arc<AtomicU32>,
    try_better: Duration,
}

/// Errors of gateways in a row after which the same link is still tried.
const GATEWAY_ERRORS: u32 = 2;

/// How long a better link may take to show that it works.
const PATIENCE: Duration = Duration::from_secs(10);

impl Fallback {
    /// Over these links, the best one first. At least one.
    pub fn new(links: impl IntoIterator<Item = Arc<dyn Link>>) -> Self {
        let links = links.into_iter().collect();
        let (current, setbacks, gateway_errors) = Default::default();
        let try_better = Duration::from_secs(60);
        Self { links, current, gateway_errors, setbacks, try_better }
    }

    /// How long a lesser link is used before the better ones are tried again. 60 s by default; twice as long after each
    /// link that did not get through, 64 times at most.
    #[must_use]
    pub fn try_better_after(mut self, time: Duration) -> Self {
        self.try_better = time;
        self
    }

    /// Which link is in use, counted from 0, the best one.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// The link at `at` does not get through: the next one is for next time, or the best one again after the last. While a
    /// gateway has no answer from the server, the same link is tried a few times first.
    fn failed(&self, at: usize, error: Option<&LinkError>) {
        if error.is_some_and(|error| error.gateway)
            && self.gateway_errors.fetch_add(1, Ordering::Relaxed) < GATEWAY_ERRORS
        {
            return;
        }
        self.gateway_errors.store(0, Ordering::Relaxed);
        let next = if at + 1 < self.links.len() { at + 1 } else { 0 };
        self.setbacks.fetch_add(1, Ordering::Relaxed);
        // Somebody may have changed over meanwhile.
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Waits until a better link than `at` works.
    async fn better(self, at: usize, encoding: Encoding) {
        loop {
            let setbacks = self.setbacks.load(Ordering::Relaxed).saturating_sub(1).min(6);
            tokio::time::sleep(self.try_better * (1 << setbacks)).await;
            for better in 0..at {
                let Some(link) = self.links.get(better) else { continue };
                // Links that only connect with their first message are taken at their word.
                let trial = tokio::time::timeout(PATIENCE, link.connect(encoding)).await;
                if let Ok(Ok(_)) = trial {
                    self.current.store(better, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

#[async_trait]
impl Link for Fallback {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let at = self.current().min(self.links.len().saturating_sub(1));
        let none = || LinkError::coded(Code::BadField.number(), "there is no link to connect by");
        let link = self.links.get(at).ok_or_else(none)?;
        let connected = link.connect(encoding).await.map_err(|error| match is_answer(&error) {
            true => error,
            false => {
                self.failed(at, Some(&error));
                // Nothing that the client should end for: another link comes next.
                LinkError { code: None, ..error }
            }
        });
        let Connected { sink, stream } = connected?;
        let better = (at > 0).then(|| self.clone().better(at, encoding).boxed());
        let watched =
            Watched { fallback: self.clone(), at, stream, better, heard: false, over: false };
        Ok(Connected { sink, stream: Box::pin(watched) })
    }
}

/// Whether it is the server that said no. Then another link would be told the same; but for what is not at its address.
fn is_answer(error: &LinkError) -> bool {
    let says_no = |code| (4000..5000).contains(&code) && advice(code) != Advice::Retry;
    error.code.is_some_and(|code| says_no(code) && code != Code::NotFound.number())
}

/// What arrives on a connection, and how it begins and ends.
struct Watched {
    fallback: Fallback,
    at: usize,
    stream: Pin<Box<dyn Stream<Item = Incoming> + Send>>,
    /// Ready when a better link works.
    better: Option<BoxFuture<'static, ()>>,
    heard: bool,
    over: bool,
}

impl Stream for Watched {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.stream.as_mut().poll_next(cx) {
            match &item {
                Some(Incoming::Message(_) | Incoming::Heard) => {
                    this.heard = true;
                    this.fallback.gateway_errors.store(0, Ordering::Relaxed);
                }
                Some(Incoming::Closed(error)) if is_answer(error) => {}
                Some(Incoming::Closed(error)) if error.unfit || !this.heard => {
                    this.fallback.failed(this.at, Some(error));
                }
                None if !this.heard => this.fallback.failed(this.at, None),
                Some(Incoming::Closed(_)) | None => {}
            }
            return Poll::Ready(item);
        }
        match this.better.as_mut().map(|better| better.poll_unpin(cx)) {
            Some(Poll::Ready(())) => {
                this.over = true;
                let words = "a better transport works";
                let end = LinkError::coded(Code::Closed.number(), words);
                Poll::Ready(Some(Incoming::Closed(end)))
            }
            _ => Poll::Pending,
        }
    }
}

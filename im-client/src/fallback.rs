//! Fallback to the next transport where one does not work, and back when it does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};
use im_core::Code;
use im_core::wire::Encoding;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ladder::{Failure, Ladder, Rung};
use crate::link::{Connected, Incoming, Link, LinkError};
use crate::refusal::is_ours;

/// Several links, the best one first. Each connection goes over the best one that is not known to
/// fail.
///
/// | a connection | the next one goes over |
/// |---|---|
/// | ends through the network before anything was received on it, or is abandoned in silence | the next link; if this link has worked before, or only a gateway had no answer from the server (502, 503, 504), after the third time in a row |
/// | shows that the link does not work here ([`LinkError::unfit`]) | the next link |
/// | ends otherwise, or the server refuses it with a code | the same link |
///
/// While a lesser link is in use, the better ones are tried from time to time. A connection that
/// works is kept open, and the client moves to it ([`Incoming::Better`]) when no command is in
/// flight whose outcome would then be unknown.
///
/// A move is a reconnection: unanswered commands are sent again under their ids, and every room
/// continues from its cursor, so that nothing is lost and nothing is delivered twice.
#[derive(Clone)]
pub struct Fallback {
    links: Arc<[Arc<dyn Link>]>,
    ladder: Arc<Mutex<Ladder>>,
    /// Unused connections over better links: at most one of each link and encoding.
    ready: Arc<Mutex<Vec<Ready>>>,
}

/// An open connection that has carried nothing yet.
struct Ready {
    at: usize,
    encoding: Encoding,
    connected: Connected,
}

impl Ready {
    /// Whether the connection is still open. Before the greeting, only its end can arrive.
    fn poll_is_open(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            match self.connected.stream.as_mut().poll_next(cx) {
                Poll::Pending => return true,
                Poll::Ready(Some(Incoming::Heard | Incoming::Better(_))) => {}
                Poll::Ready(Some(Incoming::Message(_) | Incoming::Closed(_)) | None) => {
                    return false;
                }
            }
        }
    }
}

/// Time within which a better link must show that it works.
const PATIENCE: Duration = Duration::from_secs(10);

/// A silent connection that is dropped sooner than this says nothing about its link: the
/// application may have closed it.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection that turns out to be unfit sooner than this after its first message has not worked:
/// the greeting was answered, and the downlink failed.
const LASTS: Duration = Duration::from_secs(120);

impl Fallback {
    /// Uses these links, the best one first.
    pub fn new(links: impl IntoIterator<Item = Arc<dyn Link>>) -> Self {
        let links: Arc<[_]> = links.into_iter().collect();
        let ladder = Arc::new(Mutex::new(Ladder::new(links.len(), Duration::from_secs(60))));
        Self { links, ladder, ready: Arc::default() }
    }

    /// Sets how long a lesser link is used before a better one is tried again. 60 s by default. The
    /// time doubles after each failure of the better link, up to ten minutes (or `time`, if that is
    /// longer), and starts over after it has worked.
    #[must_use]
    pub fn try_better_after(self, time: Duration) -> Self {
        self.ladder.lock().first = time;
        self
    }

    /// Returns the index of the link for the next connection, from 0, the best one.
    pub fn current(&self) -> usize {
        self.ladder.lock().choose(Instant::now())
    }

    /// Opens a connection over the best link that is not known to fail.
    async fn open(&self, encoding: Encoding) -> Result<(Attempt, Connected), (Attempt, LinkError)> {
        if let Some(mut ready) = self.take_ready(encoding)
            && std::future::poll_fn(|cx| Poll::Ready(ready.poll_is_open(cx))).await
        {
            return Ok((Attempt::new(self, ready.at, true), ready.connected));
        }
        let attempt = Attempt::new(self, self.current(), false);
        let Some(link) = self.links.get(attempt.at) else {
            let words = "no link is configured";
            return Err((attempt, LinkError::coded(Code::BadField.number(), words)));
        };
        match link.connect(encoding).await {
            Ok(connected) => Ok((attempt, connected)),
            Err(error) => Err((attempt, error)),
        }
    }

    fn take_ready(&self, encoding: Encoding) -> Option<Ready> {
        let mut all = self.ready.lock();
        let fits = |(_, ready): &(usize, &Ready)| ready.encoding == encoding;
        let best = all.iter().enumerate().filter(fits).min_by_key(|(_, ready)| ready.at);
        best.map(|(n, _)| n).map(|n| all.swap_remove(n))
    }

    fn keep(&self, ready: Ready) {
        let mut all = self.ready.lock();
        // Another client that shares this may have stored one first.
        if !all.iter().any(|kept| (kept.at, kept.encoding) == (ready.at, ready.encoding)) {
            all.push(ready);
        }
    }

    /// Waits until a better link than `at` works, and keeps its connection.
    async fn better(self, at: usize, encoding: Encoding) {
        loop {
            let next = self.ladder.lock().better(at);
            let Some((better, until)) = next else { return std::future::pending().await };
            if let Some(until) = until.filter(|until| *until > Instant::now()) {
                // The link may have been passed over once more meanwhile.
                tokio::time::sleep_until(until).await;
                continue;
            }
            let Some(link) = self.links.get(better) else { return std::future::pending().await };
            // Other clients that share this need not try the same link at the same time.
            self.ladder.lock().due_at(better, Instant::now() + PATIENCE);
            // A link that connects only with its first message counts as working.
            let trial = tokio::time::timeout(PATIENCE, link.connect(encoding)).await;
            let now = Instant::now();
            let Ok(Ok(connected)) = trial else {
                self.ladder.lock().pass_over(better, now);
                continue;
            };
            self.ladder.lock().due_at(better, now);
            return self.keep(Ready { at: better, encoding, connected });
        }
    }

    /// Whether a connection over a better link than `at` is ready. Drops those that have ended.
    fn poll_is_ready(&self, at: usize, encoding: Encoding, cx: &mut Context<'_>) -> bool {
        let fits = |ready: &Ready| ready.at < at && ready.encoding == encoding;
        let mut all = self.ready.lock();
        let mut ended = Vec::new();
        all.retain_mut(|ready| {
            let stays = !fits(ready) || ready.poll_is_open(cx);
            if !stays {
                ended.push(ready.at);
            }
            stays
        });
        let is_ready = all.iter().any(fits);
        drop(all);
        let mut ladder = self.ladder.lock();
        let later = Instant::now() + ladder.first;
        ended.into_iter().for_each(|link| ladder.due_at(link, later));
        is_ready
    }
}

#[async_trait]
impl Link for Fallback {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let (attempt, Connected { sink, stream }) =
            self.open(encoding).await.map_err(|(mut attempt, error)| attempt.ended(error))?;
        let fallback = self.clone();
        let better = Better::None;
        let watched = Watched { fallback, attempt, encoding, stream, better };
        Ok(Connected { sink, stream: Box::pin(watched) })
    }
}

/// Whether the server refused. Another link would get the same answer, except where nothing is at
/// this link's address.
fn is_answer(error: &LinkError) -> bool {
    !error.unfit && error.code.is_some_and(|code| is_ours(code) && code != Code::NotFound.number())
}

/// One connection and its result for the ladder. Silence counts when this is dropped.
struct Attempt {
    ladder: Arc<Mutex<Ladder>>,
    at: usize,
    begun: Instant,
    /// The client moved to this link from a lesser one that works.
    moved: bool,
    /// Set once something was received: the link's rung before that.
    heard: Option<Rung>,
    over: bool,
}

impl Attempt {
    fn new(fallback: &Fallback, at: usize, moved: bool) -> Self {
        let (ladder, begun) = (fallback.ladder.clone(), Instant::now());
        Self { ladder, at, begun, moved, heard: None, over: false }
    }

    /// Records that something was received. Returns whether it is the first time.
    fn hears(&mut self) -> bool {
        let is_first = self.heard.is_none();
        if is_first {
            self.heard = Some(self.ladder.lock().works(self.at, Instant::now()));
        }
        is_first
    }

    /// Records that the connection ended, or could not be opened. Returns the error for the client,
    /// without a final code where another link comes next.
    fn ended(&mut self, error: LinkError) -> LinkError {
        if is_answer(&error) {
            self.over = true;
            return error;
        }
        let how = match (error.unfit, error.gateway) {
            (true, _) => Failure::Unfit,
            (false, true) => Failure::Gateway,
            (false, false) => Failure::Cut,
        };
        self.fails(how);
        LinkError { code: error.code.filter(|code| !is_ours(*code)), ..error }
    }

    fn fails(&mut self, how: Failure) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let mut ladder = self.ladder.lock();
        match self.heard.take() {
            Some(before) if how == Failure::Unfit && self.begun.elapsed() < LASTS => {
                ladder.unfit_after_all(self.at, before);
            }
            Some(_) if how == Failure::Unfit => ladder.failed(self.at, how),
            // The connection was cut after it had worked.
            Some(_) => {}
            // The lesser link works, so this link is at fault.
            None if self.moved => ladder.failed(self.at, Failure::Unfit),
            None => ladder.failed(self.at, how),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.heard.is_none() && self.begun.elapsed() >= SILENCE {
            self.fails(Failure::Cut);
        }
    }
}

/// The search for a better link.
enum Better {
    /// Not started: the link in use has to work first.
    None,
    /// Running; resolves when a better link works.
    Awaited(BoxFuture<'static, ()>),
    /// A better link works, and its connection is open.
    Ready,
}

/// The incoming half of a connection, which records how it begins and ends.
struct Watched {
    fallback: Fallback,
    attempt: Attempt,
    encoding: Encoding,
    stream: Pin<Box<dyn Stream<Item = Incoming> + Send>>,
    better: Better,
}

impl Watched {
    fn on_item(&mut self, item: Option<Incoming>) -> Option<Incoming> {
        match item {
            Some(Incoming::Closed(error)) => Some(Incoming::Closed(self.attempt.ended(error))),
            None => {
                self.attempt.fails(Failure::Cut);
                None
            }
            Some(item) => {
                if self.attempt.hears() && self.attempt.at > 0 {
                    self.look_out();
                }
                Some(item)
            }
        }
    }

    fn look_out(&mut self) {
        let better = self.fallback.clone().better(self.attempt.at, self.encoding);
        self.better = Better::Awaited(better.boxed());
    }

    fn poll_better(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        match &mut self.better {
            Better::None => Poll::Pending,
            Better::Awaited(better) => {
                ready!(better.poll_unpin(cx));
                self.better = Better::Ready;
                Poll::Ready(Incoming::Better(true))
            }
            Better::Ready => {
                if self.fallback.poll_is_ready(self.attempt.at, self.encoding, cx) {
                    return Poll::Pending;
                }
                self.look_out();
                Poll::Ready(Incoming::Better(false))
            }
        }
    }
}

impl Stream for Watched {
    type Item = Incoming;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        let this = self.get_mut();
        if this.attempt.over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(item) = this.stream.as_mut().poll_next(cx) {
            return Poll::Ready(this.on_item(item));
        }
        this.poll_better(cx).map(Some)
    }
}

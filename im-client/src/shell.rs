//! Drives the [`Machine`] on tokio: one task for each client.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{Sink, StreamExt};
use im_core::wire::{CommandBody, Encoding, Reply, Secret, ServerFrame};
use im_core::{CommandId, Timestamp};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{debug, trace};

use crate::error::Error;
use crate::event::ClientEvent;
use crate::link::{Connected, Incoming, Link, LinkError};
use crate::proto::{Cause, Machine, Output, Saved};

/// A function that is called with every frame as it arrives, redelivered events included, and with
/// the number of the connection (1, 2 …).
pub type Tap = Arc<dyn Fn(u64, &ServerFrame) + Send + Sync>;

/// Fetches a valid token, or returns why there is none.
pub type TokenSource = Arc<dyn Fn() -> BoxFuture<'static, Result<Secret, String>> + Send + Sync>;

/// A request of a handle to its task.
pub(crate) enum Ask {
    /// A command, and where to send its answer. The permit is held until then.
    Command(CommandBody, Answer),
    /// Returns what another client needs to resume from here.
    Saved(oneshot::Sender<Saved>),
    /// Cut the connection without closing it, as a bad network would.
    Cut,
    /// End the client.
    Close,
}

pub(crate) struct Answer {
    pub(crate) to: oneshot::Sender<Result<Reply, Error>>,
    pub(crate) permit: OwnedSemaphorePermit,
}

/// Time limit for closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Shell {
    pub(crate) machine: Machine,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) encoding: Encoding,
    pub(crate) tokens: Option<TokenSource>,
    pub(crate) tap: Option<Tap>,
    pub(crate) asks: mpsc::UnboundedReceiver<Ask>,
    pub(crate) events: mpsc::Sender<ClientEvent>,
}

/// The connection and the operations in progress.
#[derive(Default)]
struct Wire {
    connecting: Option<BoxFuture<'static, Result<Connected, LinkError>>>,
    fetching: Option<BoxFuture<'static, Result<Secret, String>>>,
    connected: Option<Connected>,
    outgoing: Outgoing,
    /// The number of connections so far.
    count: u64,
    /// A connection over a better transport is ready.
    better: bool,
}

/// Messages to write.
#[derive(Default)]
struct Outgoing {
    queue: VecDeque<Bytes>,
    /// The sink may hold messages that it has not written yet.
    unflushed: bool,
}

enum Happened {
    Ask(Option<Ask>),
    Opened(Result<Connected, LinkError>),
    Token(Result<Secret, String>),
    Arrived(Option<Incoming>),
    Written(Result<(), LinkError>),
    Consumed,
    NobodyListens,
    Time,
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn on_the_wall() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Shell {
    /// Runs until the client ends, or all its handles are dropped.
    pub(crate) async fn run(mut self) {
        let mut wire = Wire::default();
        let mut answers = HashMap::new();
        let (mut asked, mut heard) = (true, true);
        self.machine.start(now());
        while asked || heard {
            self.perform(&mut wire, &mut answers).await;
            if wire.better && self.machine.on_move(now()) {
                debug!("a better transport works");
                wire.cut();
                self.perform(&mut wire, &mut answers).await;
            }
            self.add_unreleased(heard);
            if self.machine.is_ended() && !self.machine.has_event() {
                return self.answer_late(asked).await;
            }
            match self.next(&mut wire, asked, heard).await {
                Happened::Ask(None) => asked = false,
                Happened::Ask(Some(ask)) => self.on_asks(ask, &mut wire, &mut answers),
                Happened::Opened(Ok(connected)) => {
                    wire.connected = Some(connected);
                    wire.count += 1;
                    self.machine.on_clock(now(), on_the_wall());
                    self.machine.on_connected();
                }
                Happened::Opened(Err(error)) => self.lost(&mut wire, error),
                Happened::Token(token) => {
                    if let Err(error) = &token {
                        debug!(%error, "no credentials");
                    }
                    self.machine.on_clock(now(), on_the_wall());
                    self.machine.on_token(now(), token);
                }
                Happened::Arrived(incoming) => self.on_incoming(incoming, &mut wire),
                Happened::Written(Ok(())) => {}
                Happened::Written(Err(error)) => self.lost(&mut wire, error),
                Happened::Consumed => self.machine.on_events_consumed(now()),
                Happened::NobodyListens => heard = false,
                Happened::Time => self.machine.on_time(now()),
            }
        }
        self.machine.close();
        self.perform(&mut wire, &mut answers).await;
    }

    /// Moves as many events to the application's channel as fit.
    fn add_unreleased(&mut self, heard: bool) {
        if !heard {
            while self.machine.event().is_some() {}
            return;
        }
        while self.machine.has_event() {
            let Ok(permit) = self.events.try_reserve() else { return };
            if let Some(event) = self.machine.event() {
                permit.send(event);
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe.
    async fn next(&mut self, wire: &mut Wire, asked: bool, heard: bool) -> Happened {
        let deadline = self.machine.deadline().map(tokio::time::Instant::from_std);
        let reads = self.machine.wants_input();
        let (machine, events) = (&mut self.machine, &self.events);
        let Wire { connecting, fetching, connected, outgoing, .. } = wire;
        let (sink, stream) = match connected {
            Some(Connected { sink, stream }) => (Some(sink), Some(stream)),
            None => (None, None),
        };
        tokio::select! {
            biased;
            // Order: events that the application has room for, then its calls, then the network.
            permit = events.reserve(), if heard && machine.has_event() => match permit {
                Ok(permit) => {
                    if let Some(event) = machine.event() {
                        permit.send(event);
                    }
                    Happened::Consumed
                }
                Err(_) => Happened::NobodyListens,
            },
            () = events.closed(), if heard => Happened::NobodyListens,
            ask = self.asks.recv(), if asked => Happened::Ask(ask),
            opened = poll_some(connecting) => Happened::Opened(opened),
            token = poll_some(fetching) => Happened::Token(token),
            written = write(sink, outgoing), if !outgoing.is_idle() => Happened::Written(written),
            arrived = read(stream), if reads => Happened::Arrived(arrived),
            () = sleep_until(deadline) => Happened::Time,
        }
    }

    /// Carries out the machine's actions.
    async fn perform(&mut self, wire: &mut Wire, answers: &mut HashMap<CommandId, Answer>) {
        while let Some(output) = self.machine.output() {
            match output {
                Output::Connect => {
                    let (link, encoding) = (self.link.clone(), self.encoding);
                    wire.connecting = Some(Box::pin(async move { link.connect(encoding).await }));
                }
                Output::Transmit(message) => wire.outgoing.queue.push_back(message),
                Output::Disconnect => close(wire).await,
                Output::FetchToken => {
                    let fetched = self.tokens.as_ref().map(|fetch| fetch());
                    wire.fetching = Some(fetched.unwrap_or_else(|| {
                        Box::pin(std::future::ready(Err("no token source is configured".into())))
                    }));
                }
                Output::Reply(id, reply) => {
                    if let Some(answer) = answers.remove(&id) {
                        drop(answer.permit);
                        // An error means that the caller has dropped the future.
                        let _ = answer.to.send(reply);
                    }
                }
            }
        }
    }

    /// Drains all waiting calls, so that they are written together.
    fn on_asks(&mut self, first: Ask, wire: &mut Wire, answers: &mut HashMap<CommandId, Answer>) {
        let mut next = Some(first);
        let mut bodies = Vec::new();
        while let Some(ask) = next {
            match ask {
                Ask::Command(body, answer) => bodies.push((body, answer)),
                Ask::Saved(to) => _ = to.send(self.machine.saved()),
                Ask::Cut => {
                    wire.cut();
                    self.machine.on_lost(now(), Cause::new(None, "cut by the application"));
                }
                Ask::Close => self.machine.close(),
            }
            next = self.asks.try_recv().ok();
        }
        let (bodies, waiting): (Vec<_>, Vec<_>) = bodies.into_iter().unzip();
        for (id, answer) in self.machine.on_commands(now(), bodies).into_iter().zip(waiting) {
            answers.insert(id, answer);
        }
    }

    fn on_incoming(&mut self, incoming: Option<Incoming>, wire: &mut Wire) {
        match incoming {
            Some(Incoming::Message(message)) => {
                let (tap, count) = (self.tap.as_ref(), wire.count);
                self.machine.on_message(now(), &message, &mut |frame| {
                    trace!(connection = count, "frame");
                    if let Some(tap) = tap {
                        tap(count, frame);
                    }
                });
            }
            Some(Incoming::Heard) => self.machine.on_heard(now()),
            Some(Incoming::Better(waits)) => wire.better = waits,
            Some(Incoming::Closed(error)) => self.lost(wire, error),
            None => self.lost(wire, LinkError::cut("the connection was cut")),
        }
    }

    fn lost(&mut self, wire: &mut Wire, error: LinkError) {
        debug!(code = error.code, message = %error.message, "connection lost");
        wire.cut();
        let cause =
            Cause { code: error.code, message: error.message, retry_after: error.retry_after };
        self.machine.on_lost(now(), cause);
    }

    /// Answers all remaining calls: the client has ended.
    async fn answer_late(mut self, asked: bool) {
        drop(self.events);
        while let Some(ask) = if asked { self.asks.recv().await } else { None } {
            match ask {
                Ask::Command(body, answer) => {
                    let id = self.machine.on_commands(now(), vec![body]);
                    while let Some(output) = self.machine.output() {
                        if let Output::Reply(to, reply) = output
                            && id.contains(&to)
                        {
                            // There is one command, so this is its answer.
                            let _ = answer.to.send(reply);
                            break;
                        }
                    }
                }
                Ask::Saved(to) => _ = to.send(self.machine.saved()),
                Ask::Cut | Ask::Close => {}
            }
        }
    }
}

impl Wire {
    fn cut(&mut self) {
        (self.connecting, self.connected, self.better) = (None, None, false);
        self.outgoing = Outgoing::default();
    }
}

/// Writes the remaining messages and closes, within a bounded time.
async fn close(wire: &mut Wire) {
    if let Some(mut connected) = wire.connected.take() {
        let outgoing = &mut wire.outgoing;
        let last = async {
            write(Some(&mut connected.sink), outgoing).await?;
            poll_fn(|cx| connected.sink.as_mut().poll_close(cx)).await
        };
        // Whether the server receives the close makes no difference any more.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, last).await;
    }
    wire.cut();
}

type BoxSink = Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>;

/// Writes all of `outgoing`. Cancel-safe.
async fn write(sink: Option<&mut BoxSink>, outgoing: &mut Outgoing) -> Result<(), LinkError> {
    match sink {
        Some(sink) => poll_fn(|cx| outgoing.poll_write(sink, cx)).await,
        None => std::future::pending().await,
    }
}

impl Outgoing {
    fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.unflushed
    }

    fn poll_write(
        &mut self,
        sink: &mut BoxSink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), LinkError>> {
        while !self.queue.is_empty() {
            ready!(sink.as_mut().poll_ready(cx))?;
            if let Some(message) = self.queue.pop_front() {
                self.unflushed = true;
                sink.as_mut().start_send(message)?;
            }
        }
        ready!(sink.as_mut().poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

async fn read(
    stream: Option<&mut Pin<Box<dyn futures::Stream<Item = Incoming> + Send>>>,
) -> Option<Incoming> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

/// Awaits the future, if there is one, and removes it when it is done.
async fn poll_some<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(future) = slot else { return std::future::pending().await };
    let done = future.await;
    *slot = None;
    done
}

async fn sleep_until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

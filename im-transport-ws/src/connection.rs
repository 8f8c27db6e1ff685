//! The one task of a connection.
//!
//! Its future is small, because there is one per connection and most of them wait. Whatever is rare
//! or large is boxed while it lasts: a message that the engine processes, a write that does not
//! complete at once, closing.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use im_core::Code;
use im_core::engine::{Batch, Connection};
use im_core::wire::{Disconnect, Encoding};
use tokio::io::AsyncWrite;
use tokio::task::coop::has_budget_remaining;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::closing;
use crate::codec::{self, Socket};
use crate::link::Link;
use crate::service::Live;

/// Minimum rate of a slow peer, in bytes a second: below that of any network in use.
const SLOWEST: f64 = 500.0;

/// The time window in which control frames are counted.
pub(crate) const CONTROL_WINDOW: Duration = Duration::from_secs(10);

type Boxed<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A connection after the upgrade.
pub(crate) struct Session<S> {
    ws: WebSocketStream<Link<S>>,
    live: Live,
    /// Control frames since `controls_since`, at most [`CONTROL_WINDOW`] ago.
    controls: u32,
    controls_since: Instant,
}

/// How a connection ended.
enum End {
    /// The engine disconnects.
    Disconnect(Box<Disconnect>),
    /// The peer sent a close frame.
    PeerClosed,
    /// The peer has ended its half without a close frame. It may still read.
    HalfClosed,
    /// The socket is unusable.
    Gone,
}

/// A received input.
enum Received {
    /// A message, being processed by the engine.
    Message(Boxed<'static>),
    /// A ping or a pong.
    Control,
    /// A violation of the protocol by the peer.
    Fault(Code),
    /// The end of the input.
    End(End),
}

/// The next event of a connection.
enum Event {
    Taken,
    Rested,
    Out(Batch),
    In(Option<Result<Message, WsError>>),
}

impl<S: Socket> Session<S> {
    /// Creates a connection over `socket`, from which `early` has been read already.
    pub(crate) async fn new(socket: S, early: Bytes, live: Live) -> Self {
        let shared = live.shared();
        let (message, framed) = (shared.max_message_bytes(), shared.max_bytes_of_a_message());
        let ws = codec::over(Link::new(socket, early, framed), message).await;
        Self { ws, live, controls: 0, controls_since: Instant::now() }
    }

    /// Runs the connection to its end.
    #[allow(clippy::manual_async_fn, reason = "an async fn would hold the session twice")]
    pub(crate) fn run(mut self) -> impl Future<Output = ()> + Send {
        async move {
            let mut taking = None;
            let end = self.talk(&mut taking).await;
            let within = self.live.shared().config().close_timeout;
            let closing = async {
                match end {
                    End::Disconnect(disconnect) => {
                        closing::send_close(&mut self.ws, &disconnect, within).await
                    }
                    End::PeerClosed => closing::answer_close(&mut self.ws, within).await,
                    End::HalfClosed => self.flush_and_close(within).await,
                    End::Gone => {}
                }
            };
            // The engine may be processing a message. The connection is closed, so this ends soon.
            tokio::join!(closing, wait_for(&mut taking));
        }
    }

    async fn talk(&mut self, taking: &mut Option<Boxed<'static>>) -> End {
        let mut resting = None;
        let mut listening = true;
        loop {
            let max = self.live.shared().config().max_write_bytes;
            // Not biased, so that neither a flood of events nor a flood of commands starves the
            // other.
            let event = tokio::select! {
                () = wait_for(taking), if taking.is_some() => Event::Taken,
                () = wait_for(&mut resting), if resting.is_some() => Event::Rested,
                batch = self.live.connection().next(max), if resting.is_none() => Event::Out(batch),
                message = next_message(&mut self.ws, self.live.connection()),
                    if listening && taking.is_none() => Event::In(message),
            };
            match event {
                Event::Taken => *taking = None,
                Event::Rested => resting = None,
                Event::Out(batch) => {
                    let full = size(&batch) >= max;
                    let sent = {
                        let mut sending = pin!(self.send(batch));
                        poll_fn(|cx| {
                            go_on(taking, cx);
                            sending.as_mut().poll(cx)
                        })
                        .await
                    };
                    match sent {
                        Ok(None) => resting = self.rest(full),
                        Ok(Some(disconnect)) => return End::Disconnect(disconnect),
                        Err(code) => return self.gone(code),
                    }
                }
                Event::In(message) => match self.receive(message) {
                    Received::Message(future) => *taking = Some(future),
                    Received::Control => {}
                    Received::Fault(code) => {
                        listening = false;
                        self.live.connection().close(code);
                    }
                    Received::End(end) => return end,
                },
            }
        }
    }

    /// Writes the pending acks and the disconnect to a peer that has ended its half.
    fn flush_and_close(&mut self, within: Duration) -> Boxed<'_> {
        let connection = self.live.connection().clone();
        let words = async {
            let max = self.live.shared().config().max_write_bytes;
            loop {
                let batch = self.live.connection().next(max).await;
                match self.send(batch).await {
                    Ok(None) => {}
                    Ok(Some(disconnect)) => {
                        return closing::close_half_closed(self.ws.get_mut(), &disconnect).await;
                    }
                    Err(_) => return,
                }
            }
        };
        Box::pin(async move {
            let both = async { tokio::join!(connection.finish(), words) };
            if tokio::time::timeout(within, both).await.is_err() {
                tracing::debug!("the peer did not read the disconnect within close_timeout");
            }
        })
    }

    fn gone(&self, code: Code) -> End {
        tracing::debug!(%code, "the peer is gone");
        self.live.connection().close(code);
        End::Gone
    }

    fn receive(&mut self, message: Option<Result<Message, WsError>>) -> Received {
        let bytes: Bytes = match (message, self.live.connection().encoding()) {
            (Some(Ok(Message::Text(text))), Encoding::Json) => text.into(),
            (Some(Ok(Message::Binary(bytes))), Encoding::MsgPack) => bytes,
            (Some(Ok(Message::Text(_) | Message::Binary(_))), _) => {
                return Received::Fault(Code::WrongEncoding);
            }
            (Some(Ok(Message::Close(_))), _) => {
                self.live.connection().close(Code::Closed);
                return Received::End(End::PeerClosed);
            }
            (Some(Ok(control)), _) => return self.control(control.len()),
            (Some(Err(error)), _) => return self.fault(&error),
            (None, _) => return Received::End(self.gone(Code::Closed)),
        };
        tracing::trace!(bytes = bytes.len(), "message in");
        let next = self.live.shared().max_bytes_of_a_message();
        self.ws.get_mut().begin_message(next);
        let connection = self.live.connection().clone();
        Received::Message(Box::pin(async move { connection.submit(bytes).await }))
    }

    /// Handles a ping, which tungstenite answers, or a pong, with a payload of that many bytes.
    fn control(&mut self, payload: usize) -> Received {
        self.ws.get_mut().control_read(payload);
        self.live.connection().heard();
        let now = Instant::now();
        if now - self.controls_since >= CONTROL_WINDOW {
            self.controls_since = now;
            self.controls = 0;
        }
        self.controls += 1;
        match self.controls > self.live.shared().config().max_controls {
            true => Received::Fault(Code::RateLimited),
            false => Received::Control,
        }
    }

    fn fault(&self, error: &WsError) -> Received {
        match codec::fault(error) {
            Some(code) => {
                tracing::debug!(%error, "the peer violated the protocol");
                Received::Fault(code)
            }
            None if is_end_of_stream(error) => {
                tracing::debug!("the peer sends nothing more");
                Received::End(End::HalfClosed)
            }
            None => Received::End(self.gone(Code::Closed)),
        }
    }

    /// Writes a batch in one go. Returns the engine's disconnect if this was the last batch.
    async fn send(&mut self, batch: Batch) -> Result<Option<Box<Disconnect>>, Code> {
        let Batch { id, frames, heartbeat, close, .. } = batch;
        self.queue(&frames, heartbeat).map_err(|_| Code::Closed)?;
        drop(frames);
        self.flush().await?;
        self.live.connection().release(id);
        Ok(close.map(Box::new))
    }

    fn queue(&mut self, frames: &[Bytes], heartbeat: bool) -> io::Result<()> {
        let data = match self.live.connection().encoding() {
            Encoding::Json => Data::Text,
            Encoding::MsgPack => Data::Binary,
        };
        tracing::trace!(frames = frames.len(), heartbeat, "batch out");
        let link = self.ws.get_mut();
        frames.iter().try_for_each(|frame| link.push(OpCode::Data(data), frame))?;
        if heartbeat {
            link.push(OpCode::Control(Control::Ping), &[])?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Code> {
        let within = self.live.shared().config().write_timeout;
        let link = self.ws.get_mut();
        // Usually the system accepts everything at once; only otherwise a timer is needed.
        let flushed = match poll_fn(|cx| Poll::Ready(Pin::new(&mut *link).poll_flush(cx))).await {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Box::pin(flush_slowly(link, self.live.connection(), within)).await?,
        };
        flushed.map_err(|_| Code::Closed)
    }

    /// Returns the pause until the next write, if configured. No pause while the outbox holds more
    /// than a batch.
    fn rest(&self, full: bool) -> Option<Boxed<'static>> {
        let interval = self.live.shared().config().write_interval;
        (interval > Duration::ZERO && !full)
            .then(|| Box::pin(tokio::time::sleep(interval)) as Boxed<'static>)
    }
}

/// Returns the next message. Bytes of an incomplete message also count as a sign of life.
async fn next_message<S: Socket>(
    ws: &mut WebSocketStream<Link<S>>,
    connection: &Connection,
) -> Option<Result<Message, WsError>> {
    let mut watched = Watched { connection, is_read_up: false };
    poll_fn(|cx| {
        let polled = ws.poll_next_unpin(cx);
        // A task out of its cooperative budget reads nothing either.
        watched.is_read_up |= polled.is_pending() && has_budget_remaining();
        if ws.get_mut().take_arrived() && polled.is_pending() {
            connection.heard();
        }
        polled
    })
    .await
}

/// Reports to the engine, once reading stops, that the socket was read to exhaustion, if it was.
struct Watched<'a> {
    connection: &'a Connection,
    is_read_up: bool,
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if self.is_read_up {
            self.connection.input_drained();
        }
    }
}

/// Writes bytes that the system did not accept at once, and counts progress as a sign of life.
///
/// The peer counts as slow if it reads nothing for `within`, or less than [`SLOWEST`] bytes a
/// second beyond that time. Once the connection is to end, it has `within` in total.
async fn flush_slowly<S: Socket>(
    link: &mut Link<S>,
    connection: &Connection,
    within: Duration,
) -> Result<io::Result<()>, Code> {
    let latest = |written: usize| within + Duration::from_secs(1).mul_f64(written as f64 / SLOWEST);
    let begin = Instant::now();
    let (mut before, mut written) = (link.written(), 0);
    let mut stuck = pin!(tokio::time::sleep(within));
    poll_fn(|cx| {
        if let Poll::Ready(flushed) = Pin::new(&mut *link).poll_flush(cx) {
            return Poll::Ready(Ok(flushed));
        }
        let now = link.written();
        if now > before && !connection.is_closed() {
            (written, before) = (written + now - before, now);
            connection.write_progressed();
            stuck.as_mut().reset((Instant::now() + within).min(begin + latest(written)));
        }
        stuck.as_mut().poll(cx).map(|()| Err(Code::SlowSubscriber))
    })
    .await
}

/// Polls the message that the engine processes while the task does other work. Without polling it
/// might block others, for example while it holds a permit of the store.
fn go_on(taking: &mut Option<Boxed<'static>>, cx: &mut Context<'_>) {
    if taking.as_mut().is_some_and(|taking| taking.as_mut().poll(cx).is_ready()) {
        *taking = None;
    }
}

async fn wait_for(future: &mut Option<Boxed<'static>>) {
    if let Some(future) = future {
        future.await;
    }
}

fn size(batch: &Batch) -> usize {
    batch.frames.iter().map(Bytes::len).sum()
}

/// Whether the stream ended without a close frame. The other direction may still be open.
fn is_end_of_stream(error: &WsError) -> bool {
    matches!(error, WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use tokio::net::TcpStream;

    use super::*;

    fn size_of_future<F>(_: impl Fn(Session<TcpStream>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn connection_future_stays_small() {
        let size = size_of_future(Session::<TcpStream>::run);
        assert!(size <= 1040, "{size} bytes for each connection");
    }
}

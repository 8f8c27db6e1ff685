//! Time-outs of an HTTP/1.1 connection: slow heads, idleness, and peers that are gone.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::AsyncRead;
use tokio::time::{Instant, Sleep};

use crate::listener_config::ListenerConfig;
use crate::socket::Socket;
use crate::turns::{Phase, Turns};

/// The reason to end a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer has gone during a response.
    Gone,
    /// The head of a request did not arrive in time.
    Slow,
    /// No further request arrived in time.
    Idle,
}

/// Watches one connection. Must be polled after hyper, in the same task.
pub(crate) struct Watch<T> {
    socket: Socket<T>,
    turns: Arc<Turns>,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// The phase when the timer was set, and the number of requests until then.
    phase: (Phase, usize),
    /// The count of writes at that time.
    written: usize,
    timer: Pin<Box<Sleep>>,
}

impl<T: AsyncRead + Unpin> Watch<T> {
    pub(crate) fn new(socket: Socket<T>, turns: Arc<Turns>, config: &ListenerConfig) -> Self {
        let (header_timeout, idle_timeout) = (config.header_timeout, config.idle_timeout);
        let timer = Box::pin(tokio::time::sleep(header_timeout));
        let (phase, written) = ((Phase::Head, 0), 0);
        Self { socket, turns, header_timeout, idle_timeout, phase, written, timer }
    }

    pub(crate) async fn verdict(mut self) -> Verdict {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        let (phase, written) = (self.turns.phase(), self.turns.written());
        // hyper buffers a response of one piece at once, and a slow peer may read it for minutes.
        // The connection is idle only from the last byte written on.
        let goes_out = phase.0 == Phase::Idle && written != self.written;
        self.written = written;
        if phase != self.phase || goes_out {
            self.phase = phase;
            match phase.0 {
                Phase::Answer => {}
                Phase::Head => self.timer.as_mut().reset(Instant::now() + self.header_timeout),
                Phase::Idle => self.timer.as_mut().reset(Instant::now() + self.idle_timeout),
            }
        }
        match phase.0 {
            Phase::Answer => match self.socket.poll_ended(cx) {
                Poll::Ready(Ok(())) => {
                    self.turns.end();
                    Poll::Pending
                }
                Poll::Ready(Err(_)) => Poll::Ready(Verdict::Gone),
                Poll::Pending => Poll::Pending,
            },
            Phase::Head => self.timer.as_mut().poll(cx).map(|()| Verdict::Slow),
            Phase::Idle => self.timer.as_mut().poll(cx).map(|()| Verdict::Idle),
        }
    }
}

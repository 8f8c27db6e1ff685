//! What ends a connection of HTTP/1.1 beside its requests: heads that take too long, idleness, and peers that are gone.

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

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer has gone in the middle of an answer.
    Gone,
    /// The head of a request did not come in time.
    Slow,
    /// There was no further request in time.
    Idle,
}

/// Looks after one connection. It is to be polled after hyper, in the same task.
pub(crate) struct Watch<T> {
    socket: Socket<T>,
    turns: Arc<Turns>,
    header_timeout: Duration,
    idle_timeout: Duration,
    /// What the connection was doing when the timer was set, and after how many requests.
    phase: (Phase, usize),
    /// How often the socket had taken something then.
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
        // An answer in one piece is hyper's as soon as it is begun, and a slow reader takes it for minutes after that: the
        // connection is idle from the last byte on that goes out.
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

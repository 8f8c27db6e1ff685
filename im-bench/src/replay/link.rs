//! The network between a client and the server, which can be cut.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::task::AtomicWaker;
use futures::{Sink, Stream};
use im_client::{Connected, Incoming, Link, LinkError, WebSocket};
use im_core::wire::Encoding;

use super::ledger::Ledger;

/// One connection, seen from the network.
#[derive(Debug, Default)]
pub(super) struct Wire {
    written: AtomicU64,
    answered: AtomicU64,
    cut: AtomicBool,
    reader: AtomicWaker,
}

impl Wire {
    pub(super) fn wrote(&self, sends: u64) {
        self.written.fetch_add(sends, Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Sends that were written on this connection and not answered on it.
    pub(super) fn pending(&self) -> u64 {
        self.written.load(Ordering::Relaxed).saturating_sub(self.answered.load(Ordering::Relaxed))
    }

    /// From now on nothing passes in either direction; the client finds the connection gone and drops its socket.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// Connects one client by WebSocket, over wires that the ledger may cut.
#[derive(Debug)]
pub(super) struct Cuttable {
    pub(super) client: usize,
    pub(super) server: WebSocket,
    pub(super) ledger: Arc<Ledger>,
}

#[async_trait]
impl Link for Cuttable {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let Connected { sink, stream } = self.server.connect(encoding).await?;
        let wire = Arc::new(Wire::default());
        self.ledger.opened(self.client, wire.clone());
        let ledger = self.ledger.clone();
        let sink =
            Outgoing { sink, wire: wire.clone(), ledger, mark: send_mark(encoding), buffered: 0 };
        Ok(Connected { sink: Box::pin(sink), stream: Box::pin(Arriving { stream, wire }) })
    }
}

/// How a send begins in each encoding. It can stand nowhere else in a message: quotes inside a JSON text are escaped,
/// and the first byte of the other is no beginning of a character.
fn send_mark(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Json => br#""t":"send""#,
        Encoding::MsgPack => b"\xa1t\xa4send",
    }
}

fn count(message: &[u8], mark: &[u8]) -> u64 {
    message.windows(mark.len()).filter(|window| *window == mark).count() as u64
}

struct Outgoing {
    sink: Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>,
    wire: Arc<Wire>,
    ledger: Arc<Ledger>,
    mark: &'static [u8],
    /// Sends that were taken and may not have been written yet.
    buffered: u64,
}

impl Outgoing {
    fn check(&self) -> Result<(), LinkError> {
        if self.wire.is_cut() { Err(LinkError::cut("the network was cut")) } else { Ok(()) }
    }
}

impl Sink<Bytes> for Outgoing {
    type Error = LinkError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.check()?;
        self.sink.as_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Bytes) -> Result<(), LinkError> {
        self.check()?;
        self.buffered += count(&message, self.mark);
        self.sink.as_mut().start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.check()?;
        let flushed = self.sink.as_mut().poll_flush(cx);
        if flushed.is_ready() && self.buffered > 0 {
            let sends = std::mem::take(&mut self.buffered);
            self.ledger.wrote(&self.wire, sends);
        }
        flushed
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.check()?;
        self.sink.as_mut().poll_close(cx)
    }
}

struct Arriving {
    stream: Pin<Box<dyn Stream<Item = Incoming> + Send>>,
    wire: Arc<Wire>,
}

impl Stream for Arriving {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.wire.reader.register(cx.waker());
        if self.wire.is_cut() {
            return Poll::Ready(None);
        }
        self.stream.as_mut().poll_next(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::wire::{Command, CommandBody, Map, Target, encode_batch};
    use im_core::{CommandId, EventKind, MessageId, RoomId};

    #[test]
    fn sends_are_counted_in_both_encodings_whatever_they_say() {
        let send = |n: u64| {
            let body = CommandBody::Send {
                to: Target::Room(RoomId::new("r").unwrap()),
                id: MessageId::random(),
                kind: EventKind::message(),
                content: Map::from_iter([("text", r#"{"t":"send"}"#)]).into(),
            };
            Command { id: CommandId(n), body }.to_value()
        };
        let ping = Command { id: CommandId(9), body: CommandBody::Ping }.to_value();
        for encoding in Encoding::ALL {
            let message = encode_batch(&[send(1), ping.clone(), send(2)], encoding);
            assert_eq!(count(&message, send_mark(encoding)), 2, "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn nothing_passes_a_wire_that_was_cut() {
        use futures::StreamExt;
        let wire = Arc::new(Wire::default());
        let stream = Box::pin(futures::stream::iter([Incoming::Heard, Incoming::Heard]));
        let mut arriving = Arriving { stream, wire: wire.clone() };
        assert_eq!(arriving.next().await, Some(Incoming::Heard));
        wire.cut();
        assert_eq!(arriving.next().await, None);
    }
}

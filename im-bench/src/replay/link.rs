//! The network between a client and the server, which can be cut.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures::task::AtomicWaker;
use futures::{Sink, SinkExt, Stream};
use im_client::{Connected, Incoming, Link, LinkError};
use im_core::CommandId;
use im_core::wire::{Command, CommandBody, Encoding, Limits, decode};
use parking_lot::Mutex;

use super::delivery_check::DeliveryCheck;
use super::ledger::Ledger;
use super::network::Network;
use super::trace::Trace;
use super::transport::{Transport, Turns, Way};

/// One connection: one WebSocket, or all open HTTP sockets of one client.
#[derive(Debug, Default)]
pub(super) struct Wire {
    written: AtomicU64,
    answered: AtomicU64,
    /// Number of stream halves, one after the other.
    downlinks: AtomicU64,
    cut: AtomicBool,
    reader: AtomicWaker,
    /// The ids of its sends.
    sends: Mutex<HashSet<CommandId>>,
}

impl Wire {
    /// Records a send that the client writes.
    pub(super) fn takes(&self, command: CommandId) {
        self.sends.lock().insert(command);
    }

    /// Records a refusal. Returns whether the command was a send, which then is not pending any
    /// more.
    pub(super) fn refused(&self, command: CommandId) -> bool {
        let was_send = self.sends.lock().remove(&command);
        if was_send {
            self.answered();
        }
        was_send
    }

    pub(super) fn wrote(&self, sends: u64) {
        self.written.fetch_add(sends, Ordering::Relaxed);
    }

    /// Records the ack of a send.
    pub(super) fn acknowledged(&self, command: CommandId) {
        self.sends.lock().remove(&command);
        self.answered();
    }

    fn answered(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of sends that were written and not answered on this connection.
    pub(super) fn pending(&self) -> u64 {
        self.written.load(Ordering::Relaxed).saturating_sub(self.answered.load(Ordering::Relaxed))
    }

    /// Cuts both directions from now on; the client notices the end and drops its sockets.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }
}

/// A wire, and the recorders of its events.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    pub(super) wire: Arc<Wire>,
    client: usize,
    ledger: Arc<Ledger>,
    send_marker: &'static [u8],
    trace: Option<Arc<Trace>>,
}

impl Watched {
    /// Returns the kills of the server so far: read before a socket is opened, recorded with its
    /// writes.
    pub(super) fn kills(&self) -> u64 {
        self.ledger.kills()
    }

    /// Records sends that were written on a socket opened after `kills` kills.
    pub(super) fn wrote(&self, sends: u64, kills: u64) {
        self.ledger.wrote(self.client, &self.wire, sends, kills);
    }

    /// Records a request for pushes with this head, possibly on a `new` socket. If there was one
    /// before, it resumes that stream half.
    pub(super) fn listens(&self, head: &[u8], new: bool) {
        if let Some(trace) = &self.trace {
            trace.listens(head, new);
        }
        if new && self.wire.downlinks.fetch_add(1, Ordering::Relaxed) > 0 {
            self.ledger.resumes(self.client);
        }
    }

    /// Returns the start of a send.
    pub(super) fn send_marker(&self) -> &'static [u8] {
        self.send_marker
    }
}

/// Connects one client, over wires that the ledger may cut.
#[derive(Debug)]
pub(super) struct Cuttable {
    pub(super) client: usize,
    pub(super) server: SocketAddr,
    pub(super) turns: Arc<Turns>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) check: Arc<DeliveryCheck>,
}

#[async_trait]
impl Link for Cuttable {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let transport = self.turns.now();
        let watched = Watched {
            wire: Arc::default(),
            client: self.client,
            ledger: self.ledger.clone(),
            send_marker: send_marker(encoding),
            trace: self.check.trace(),
        };
        let kills = watched.kills();
        if let Some(trace) = &watched.trace {
            trace.connects(transport, kills);
        }
        let Connected { sink, stream } = match transport.link(self.server) {
            Way::WebSocket(link) => {
                let Connected { sink, stream } = link.connect(encoding).await?;
                let outgoing = Outgoing { sink, watched: watched.clone(), kills, buffered: 0 };
                Connected { sink: Box::pin(outgoing), stream }
            }
            // A message counts as written once its POST is on a socket.
            Way::Http(link) => link.dial(Network(watched.clone())).connect(encoding).await?,
        };
        let recorder =
            SendRecorder { wire: watched.wire.clone(), encoding, check: self.check.clone() };
        let sink = Box::pin(sink.with(move |message: Bytes| {
            recorder.note(&message);
            std::future::ready(Ok(message))
        }));
        self.ledger.opened(self.client, watched.wire.clone());
        let turns = self.turns.clone();
        let arriving = Arriving { stream, watched, transport, turns, heard: false };
        Ok(Connected { sink, stream: Box::pin(arriving) })
    }
}

/// Records the sends of a connection, and passes other commands to the delivery check.
struct SendRecorder {
    wire: Arc<Wire>,
    encoding: Encoding,
    check: Arc<DeliveryCheck>,
}

impl SendRecorder {
    fn note(&self, message: &[u8]) {
        // The client wrote the message, so it decodes.
        for command in decode(message, self.encoding, &Limits::default()).unwrap_or_default() {
            match Command::from_value(command) {
                Ok(Command { id, body: CommandBody::Send { .. } }) => self.wire.takes(id),
                Ok(command) => self.check.writes(&command),
                Err(_) => {}
            }
        }
    }
}

/// Returns the start of a send in each encoding. It occurs nowhere else in a message: quotes inside
/// a JSON text are escaped, and the first byte of the other cannot start a character.
fn send_marker(encoding: Encoding) -> &'static [u8] {
    match encoding {
        Encoding::Json => br#""t":"send""#,
        Encoding::MsgPack => b"\xa1t\xa4send",
    }
}

pub(super) fn count(message: &[u8], marker: &[u8]) -> u64 {
    message.windows(marker.len()).filter(|window| *window == marker).count() as u64
}

/// The writing side of a WebSocket.
struct Outgoing {
    sink: Pin<Box<dyn Sink<Bytes, Error = LinkError> + Send>>,
    watched: Watched,
    kills: u64,
    /// Sends that were taken and may not be written yet.
    buffered: u64,
}

impl Outgoing {
    fn check(&self) -> Result<(), LinkError> {
        let cut = self.watched.wire.is_cut();
        if cut { Err(LinkError::cut("the network was cut")) } else { Ok(()) }
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
        self.buffered += count(&message, self.watched.send_marker);
        self.sink.as_mut().start_send(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        self.check()?;
        let flushed = self.sink.as_mut().poll_flush(cx);
        if flushed.is_ready() && self.buffered > 0 {
            let sends = std::mem::take(&mut self.buffered);
            self.watched.wrote(sends, self.kills);
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
    watched: Watched,
    transport: Transport,
    turns: Arc<Turns>,
    /// Set when a frame has arrived: the connection is established.
    heard: bool,
}

impl Stream for Arriving {
    type Item = Incoming;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Incoming>> {
        self.watched.wire.reader.register(cx.waker());
        if self.watched.wire.is_cut() {
            return Poll::Ready(None);
        }
        let arrived = self.stream.as_mut().poll_next(cx);
        if !self.heard && matches!(arrived, Poll::Ready(Some(Incoming::Message(_)))) {
            self.heard = true;
            self.turns.next();
            self.watched.ledger.came_about(self.watched.client, self.transport);
        }
        arrived
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::wire::{Map, Target, encode_batch};
    use im_core::{EventKind, MessageId, RoomId};
    use im_testkit::history::Checker;

    use super::super::fault::Faults;

    /// Sends are counted whatever their content contains.
    #[test]
    fn sends_are_counted_in_both_encodings() {
        let send = |n: u64| {
            let body = CommandBody::Send {
                to: Target::Room(RoomId::new("r").unwrap()),
                id: MessageId::now_v7(),
                kind: EventKind::message(),
                content: Map::from_iter([("text", r#"{"t":"send"}"#)]).into(),
            };
            Command { id: CommandId(n), body }.to_value()
        };
        let ping = Command { id: CommandId(9), body: CommandBody::Ping }.to_value();
        for encoding in Encoding::ALL {
            let message = encode_batch(&[send(1), ping.clone(), send(2)], encoding);
            let marker = send_marker(encoding);
            assert_eq!(count(&message, marker), 2, "{encoding:?}");
            let wire = Arc::new(Wire::default());
            let (ledger, _corpses) = Ledger::new(1, 10, Faults::default(), 1).unwrap();
            let check = DeliveryCheck::new(0, "bob", &Checker::new(), Arc::new(ledger));
            SendRecorder { wire: wire.clone(), encoding, check: Arc::new(check) }.note(&message);
            assert_eq!(*wire.sends.lock(), [CommandId(1), CommandId(2)].into(), "{encoding:?}");
        }
    }

    #[tokio::test]
    async fn cut_wire_passes_nothing() {
        use super::super::transport::{Choice, Shares};
        use futures::StreamExt;
        let wire = Arc::new(Wire::default());
        let (ledger, _corpses) = Ledger::new(1, 10, Faults::default(), 1).unwrap();
        let ledger = Arc::new(ledger);
        let marker = send_marker(Encoding::Json);
        let watched = Watched {
            wire: wire.clone(),
            client: 0,
            ledger: ledger.clone(),
            send_marker: marker,
            trace: None,
        };
        let stream = Box::pin(futures::stream::iter(vec![Incoming::Message(Bytes::new()); 2]));
        let turns = Arc::new(Choice::Mix.route(&Shares::default()).turns(0));
        let turned = turns.clone();
        let transport = turns.now();
        let mut arriving = Arriving { stream, watched, transport, turns, heard: false };
        assert!(arriving.next().await.is_some());
        assert_eq!(
            turned.now(),
            Transport::Sse,
            "after an established connection the next transport follows"
        );
        wire.cut();
        assert_eq!(arriving.next().await, None);
        assert_eq!(ledger.close().tally.connections[&Transport::Ws], 1);
    }
}

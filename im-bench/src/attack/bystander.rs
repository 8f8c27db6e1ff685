//! The user whose sends are timed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use im_core::wire::{
    self, Command, CommandBody, Encoding, Limits, Map, RoomKind, ServerFrame, Target,
};
use im_core::{CommandId, EventKind, MessageId, RoomId, UserId};
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use super::At;
use crate::socket::{Socket, Talker};

/// The longest wait for the last acks.
const PATIENCE: Duration = Duration::from_secs(60);

/// A user that sends at a fixed rate, whatever the answers. It has a thread of its own, so that the
/// attackers in this process do not affect the measurement.
pub(super) struct Bystander {
    /// Ends its thread when dropped.
    _thread: oneshot::Sender<()>,
    shared: Arc<Shared>,
    sending: JoinHandle<Result<u64>>,
    reading: JoinHandle<Result<()>>,
}

struct Shared {
    /// The due time of each send without an answer.
    due: Mutex<HashMap<u64, Instant>>,
    times: Mutex<Histogram<u64>>,
    ended: tokio::sync::Notify,
}

impl Bystander {
    /// Connects, creates a room and starts to send.
    ///
    /// # Errors
    ///
    /// If the server does not accept the connection or refuses a command.
    pub(super) async fn begin(server: At, every: Duration) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let own = runtime.handle().clone();
        let (thread, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || runtime.block_on(ended));
        let (socket, room) = own.spawn(connect(server)).await??;
        let (sink, stream) = socket.split();
        let shared = Arc::new(Shared {
            due: Mutex::default(),
            times: Mutex::new(Histogram::new(3)?),
            ended: tokio::sync::Notify::new(),
        });
        let sending = own.spawn(send(sink, room, every, shared.clone()));
        let reading = own.spawn(read(stream, shared.clone()));
        Ok(Self { _thread: thread, shared, sending, reading })
    }

    /// Returns the latencies so far in microseconds, and resets them.
    pub(super) fn take(&self) -> Histogram<u64> {
        let mut times = self.shared.times.lock();
        let taken = times.clone();
        times.reset();
        taken
    }

    /// Stops sending and waits for the open answers.
    ///
    /// # Errors
    ///
    /// If a send is refused or never answered.
    pub(super) async fn end(self) -> Result<Histogram<u64>> {
        self.shared.ended.notify_one();
        self.sending.await??;
        let answered = async {
            while !self.shared.due.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            read = self.reading => { read??; bail!("the server closed the bystander's connection") }
            answered = tokio::time::timeout(PATIENCE, answered) => {
                answered.context("sends of the bystander were not answered in time")?;
            }
        }
        Ok(self.shared.times.lock().clone())
    }
}

async fn connect(server: At) -> Result<(Socket, RoomId)> {
    let user = UserId::new("bystander")?;
    let mut talker = Talker::open_in(Encoding::MsgPack, server, &user, 0).await?;
    let room = RoomId::new("bystanders-room")?;
    let (kind, members) = (RoomKind::Group, Vec::new());
    talker.call(CommandBody::Create { room: room.clone(), kind, open: false, members }).await?;
    Ok((talker.into_socket(), room))
}

async fn send(
    mut sink: SplitSink<Socket, Message>,
    room: RoomId,
    every: Duration,
    shared: Arc<Shared>,
) -> Result<u64> {
    let begun = Instant::now();
    for n in 1_u32.. {
        let due = begun + every * n;
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = shared.ended.notified() => return Ok(n.into()),
        }
        let id = CommandId(u64::from(n) + 1000);
        shared.due.lock().insert(id.0, due);
        let body = CommandBody::Send {
            to: Target::Room(room.clone()),
            id: MessageId::now_v7(),
            kind: EventKind::message(),
            content: Map::from_iter([("text", "Does anybody hear me?")]).into(),
        };
        let frame = wire::encode(&Command { id, body }.to_value(), Encoding::MsgPack);
        sink.send(Message::Binary(frame)).await.context("the bystander's send failed")?;
    }
    Ok(u64::from(u32::MAX))
}

async fn read(mut stream: SplitStream<Socket>, shared: Arc<Shared>) -> Result<()> {
    while let Some(message) = stream.next().await {
        let Message::Binary(bytes) = message? else { continue };
        let now = Instant::now();
        for frame in wire::decode(&bytes, Encoding::MsgPack, &Limits::default())? {
            match ServerFrame::from_value(frame)? {
                ServerFrame::Ok { id, .. } => {
                    let Some(due) = shared.due.lock().remove(&id.0) else { continue };
                    let time = now.saturating_duration_since(due).as_micros();
                    shared.times.lock().record(u64::try_from(time)?)?;
                }
                ServerFrame::Err(error) => {
                    bail!("a send of the bystander: {} ({})", error.message, error.code)
                }
                _ => {}
            }
        }
    }
    Ok(())
}

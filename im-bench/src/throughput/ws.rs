//! Connections to a server. Their frames are encoded except for the message id, and of a reply only
//! `ok` is checked: that keeps the senders' share of the machine small.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::SinkExt;
use futures::stream::{StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use im_core::wire::{
    self, Command, CommandBody, Encoding, Limits, Map, RoomKind, ServerFrame, Target,
};
use im_core::{CommandId, EventKind, MessageId, RoomId, UserId};
use im_stores::StoreAddress;
use tokio_tungstenite::tungstenite::Message;

use super::{Options, Run, Span, Times, Turn};
use crate::child::Server;
use crate::socket::{Socket, Talker};
use crate::{host, serve};

/// Connections that are opened concurrently.
const OPENING: usize = 32;

/// Starts a server and sends for the configured time.
pub(super) async fn measure(options: &Options, store: &StoreAddress, turn: Turn) -> Result<Run> {
    host::allow_open_files(u64::from(options.senders) + 100)?;
    let server = Server::start(&serve::batched(store, turn.batch)).await?;
    let sockets = open(options, turn, &server).await?;
    let span = Span::from_now(options);
    let mut senders = Vec::new();
    for (socket, room) in sockets {
        let frame = Frame::new(room, options.size)?;
        senders.push(tokio::spawn(Sender { socket, frame }.send(span)));
    }
    let used = || Ok::<_, anyhow::Error>((host::cpu_time(server.pid())?, own_time()?));
    tokio::time::sleep_until(span.begin.into()).await;
    let before = used()?;
    tokio::time::sleep_until(span.end.into()).await;
    let after = used()?;
    let mut times = Histogram::<u64>::new(3)?;
    for sender in senders {
        times.add(sender.await??)?;
    }
    server.stop().await?;
    let run = Run::new(turn, times, &span)?;
    let each = |time: Duration| time.div_f64(run.times.len() as f64);
    Ok(Run { cpu: Some((each(after.0 - before.0), each(after.1 - before.1))), ..run })
}

fn own_time() -> Result<Duration> {
    host::cpu_time(std::process::id())
}

/// Creates the rooms, and connections that are each a member of one and subscribe to none.
async fn open(options: &Options, turn: Turn, server: &Server) -> Result<Vec<(Socket, RoomId)>> {
    let talker = async |user: String, nth: usize| {
        Talker::open_in(Encoding::MsgPack, server.address, &UserId::new(user)?, nth).await
    };
    let mut owner = talker("bench".into(), 0).await?;
    for n in 0..options.rooms {
        let room = turn.room(n)?;
        let members = Vec::new();
        let body = CommandBody::Create { room, kind: RoomKind::Group, open: true, members };
        owner.call(body).await?;
    }
    let join = async |n: u32| {
        let mut talker = talker(format!("user{n}"), n as usize + 1).await?;
        let room = turn.room(n % options.rooms)?;
        talker.call(CommandBody::Join { room: room.clone() }).await?;
        anyhow::Ok((talker.into_socket(), room))
    };
    futures::stream::iter(0..options.senders)
        .map(&join)
        .buffer_unordered(OPENING)
        .try_collect()
        .await
}

/// A `send` in MessagePack in which only the message id changes.
struct Frame {
    bytes: Vec<u8>,
    /// The range of the id, which has a fixed length.
    id: std::ops::Range<usize>,
}

impl Frame {
    fn new(room: RoomId, size: usize) -> Result<Self> {
        let id = MessageId::now_v7();
        let body = CommandBody::Send {
            to: Target::Room(room),
            id: id.clone(),
            kind: EventKind::message(),
            content: Map::from_iter([("text", "x".repeat(size))]).into(),
        };
        // No connection has two commands in flight, so one command id serves all.
        let command = Command { id: CommandId(1), body };
        let bytes = wire::encode(&command.to_value(), Encoding::MsgPack).to_vec();
        let id = id.as_str().as_bytes();
        let at = bytes.windows(id.len()).position(|part| part == id);
        let at = at.context("the frame does not contain its id")?;
        Ok(Self { id: at..at + id.len(), bytes })
    }

    /// Returns the next message, with an unused id.
    fn next(&mut self) -> Bytes {
        self.bytes[self.id.clone()].copy_from_slice(MessageId::now_v7().as_str().as_bytes());
        Bytes::copy_from_slice(&self.bytes)
    }
}

struct Sender {
    socket: Socket,
    frame: Frame,
}

impl Sender {
    /// Sends one message after another.
    async fn send(mut self, span: Span) -> Result<Histogram<u64>> {
        let mut times = Times::new(span)?;
        loop {
            let frame = self.frame.next();
            let sent = Instant::now();
            self.socket.send(Message::Binary(frame)).await.context("send")?;
            self.until_acknowledged().await?;
            if !times.acknowledged(sent)? {
                return Ok(times.times);
            }
        }
    }

    async fn until_acknowledged(&mut self) -> Result<()> {
        loop {
            let message = self.socket.next().await.context("the server closed a connection")??;
            if let Message::Binary(bytes) = message
                && is_acknowledged(&bytes)?
            {
                return Ok(());
            }
        }
    }
}

/// The start of an `ok` reply, after the byte with the number of fields.
const OK: &[u8] = b"\xa1t\xa2ok";

/// Returns whether it is the ack: only one command is in flight.
fn is_acknowledged(bytes: &[u8]) -> Result<bool> {
    if bytes.get(1..).is_some_and(|fields| fields.starts_with(OK)) {
        return Ok(true);
    }
    for frame in wire::decode(bytes, Encoding::MsgPack, &Limits::default())? {
        match ServerFrame::from_value(frame)? {
            ServerFrame::Ok { .. } => return Ok(true),
            ServerFrame::Err(error) => {
                bail!("a send was refused: {} ({})", error.message, error.code)
            }
            _ => {}
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::wire::{ErrorReply, Reply, Value};

    #[test]
    fn frames_have_unique_message_ids() {
        let mut frame = Frame::new(RoomId::new("room").unwrap(), 100).unwrap();
        let mut read = || {
            let values =
                wire::decode(&frame.next(), Encoding::MsgPack, &Limits::default()).unwrap();
            let [value] = values.try_into().unwrap();
            match Command::from_value(value).unwrap().body {
                CommandBody::Send { id, content, .. } => (id, content),
                other => panic!("{other:?}"),
            }
        };
        let (one, two) = (read(), read());
        assert_ne!(one.0, two.0);
        assert_eq!(one.1, two.1);
        assert_eq!(one.1.get("text").unwrap().as_text().unwrap().len(), 100);
    }

    #[test]
    fn only_ok_acknowledges() {
        let packed = |value: &Value| wire::encode(value, Encoding::MsgPack);
        let ok = Reply::Done.to_value(CommandId(1));
        assert!(packed(&ok)[1..].starts_with(OK));
        assert!(is_acknowledged(&packed(&ok)).unwrap());
        assert!(is_acknowledged(&wire::encode_batch(&[ok], Encoding::MsgPack)).unwrap());
        let error = ErrorReply {
            id: Some(CommandId(1)),
            code: 4203,
            message: "no".into(),
            retry_after: None,
        };
        is_acknowledged(&packed(&error.to_value())).unwrap_err();
        is_acknowledged(b"\xc1").unwrap_err();
    }
}

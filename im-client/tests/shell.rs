//! The task and the handle, over a link in memory, with a scripted server. Time is paused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use im_client::{
    Client, ClientEvent, Connected, ErrorKind, Events, Incoming, Link, LinkError, Message,
    Reconnect,
};
use im_core::wire::{
    AppendAck, Command, CommandBody, Content, Disconnect, Encoding, Event, Limits, Push, Reply,
    RoomStatus, Secret, ServerFrame, ServerLimits, Status, Value, Welcome, decode, encode,
};
use im_core::{
    Code, CommandId, Cursor, DeviceId, Epoch, EventKind, MessageId, RoomId, Seq, SessionId,
    Timestamp, UserId,
};
use tokio::sync::mpsc;

#[path = "shell/moves.rs"]
mod moves;

const EPOCH: Epoch = Epoch { generation: 1, incarnation: 1 };

/// The server's end of one connection.
struct Peer {
    from_client: futures::channel::mpsc::Receiver<Bytes>,
    to_client: futures::channel::mpsc::UnboundedSender<Incoming>,
    commands: std::collections::VecDeque<Command>,
}

struct MemoryLink(mpsc::UnboundedSender<Peer>);

#[async_trait]
impl Link for MemoryLink {
    async fn connect(&self, _: Encoding) -> Result<Connected, LinkError> {
        let (sink, from_client) = futures::channel::mpsc::channel(1);
        let (to_client, stream) = futures::channel::mpsc::unbounded();
        let peer = Peer { from_client, to_client, commands: Default::default() };
        self.0.send(peer).map_err(|_| LinkError::cut("the server is gone"))?;
        let sink = sink.sink_map_err(|_| LinkError::cut("the connection was cut"));
        Ok(Connected { sink: Box::pin(sink), stream: Box::pin(stream) })
    }
}

impl Peer {
    async fn next(&mut self) -> Command {
        while self.commands.is_empty() {
            let message = self.from_client.next().await.expect("the client writes");
            let frames = decode(&message, Encoding::Json, &Limits::default()).unwrap();
            self.commands
                .extend(frames.into_iter().map(|frame| Command::from_value(frame).unwrap()));
        }
        self.commands.pop_front().unwrap()
    }

    fn write(&self, frame: &Value) {
        self.to_client
            .unbounded_send(Incoming::Message(encode(frame, Encoding::Json)))
            .expect("the client reads");
    }

    fn reply(&self, id: CommandId, reply: &Reply) {
        self.write(&reply.to_value(id));
    }

    async fn greet(&mut self) {
        let hello = self.next().await;
        assert!(matches!(hello.body, CommandBody::Hello(_)));
        self.reply(hello.id, &Reply::Welcome(Box::new(welcome())));
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: SessionId::new("session").unwrap(),
        secret: Secret::new("secret"),
        user: UserId::new("ann").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        resumed: false,
        rev: 0,
        expires: None,
        idle: Duration::from_secs(60),
        limits: ServerLimits {
            message_bytes: 65536,
            content_bytes: 32768,
            batch: 64,
            in_flight: 64,
            page: 100,
            rooms: 100,
            depth: 16,
            values: 8192,
        },
    }
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

fn event(n: u64) -> Push {
    Push::Event(Arc::new(Event {
        room: room(),
        epoch: EPOCH,
        seq: seq(n),
        from: UserId::new("bob").unwrap(),
        at: Timestamp::from_millis(n),
        kind: EventKind::message(),
        id: None,
        content: Content::text("hi", &Limits::default()).unwrap(),
    }))
}

fn append_ack(n: u64) -> Reply {
    let at = Timestamp::from_millis(n);
    Reply::Appended(AppendAck { room: room(), epoch: EPOCH, seq: seq(n), at, duplicate: false })
}

fn message(n: u64) -> Message {
    Message::text(room(), &n.to_string())
        .id(MessageId::new(format!("message-number-{n:04}")).unwrap())
}

fn server() -> (mpsc::UnboundedReceiver<Peer>, im_client::Builder) {
    let (dialled, peers) = mpsc::unbounded_channel();
    (peers, Client::over(MemoryLink(dialled)).encoding(Encoding::Json))
}

async fn online() -> (mpsc::UnboundedReceiver<Peer>, Peer, Client, Events) {
    let (mut peers, builder) = server();
    let (client, mut events) = builder.start();
    let mut peer = peers.recv().await.unwrap();
    peer.greet().await;
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
    (peers, peer, client, events)
}

#[tokio::test(start_paused = true)]
async fn cut_message_is_acked_after_reconnect() {
    let (mut peers, mut peer, client, mut events) = online().await;
    let delivery = client.post(message(1)).await.unwrap();
    let first = peer.next().await;
    drop(peer);
    let mut peer = peers.recv().await.unwrap();
    peer.greet().await;
    let again = peer.next().await;
    assert_eq!(first, again);
    peer.reply(again.id, &append_ack(1));
    assert_eq!(delivery.await.unwrap().seq, seq(1));
    assert!(matches!(events.next().await, Some(ClientEvent::Disconnected { .. })));
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
}

/// `max_unacknowledged` bounds the messages that wait for their acks.
#[tokio::test(start_paused = true)]
async fn unacked_messages_are_bounded() {
    let (mut peers, builder) = server();
    let (client, _events) = builder.max_unacknowledged(2).start();
    let mut peer = peers.recv().await.unwrap();
    peer.greet().await;
    let _first = client.post(message(1)).await.unwrap();
    let _second = client.post(message(2)).await.unwrap();
    let third = client.post(message(3));
    tokio::pin!(third);
    assert!(futures::poll!(&mut third).is_pending());
    let command = peer.next().await;
    peer.reply(command.id, &append_ack(1));
    assert!(third.await.is_ok());
}

/// Events arrive once and in order, and the tap sees each frame.
#[tokio::test(start_paused = true)]
async fn tap_sees_redelivery_client_does_not() {
    let (mut peers, builder) = server();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = seen.clone();
    let tap = move |connection: u64, frame: &ServerFrame| {
        if let ServerFrame::Push(Push::Event(event)) = frame {
            noted.lock().unwrap().push((connection, event.seq.get()));
        }
    };
    let (client, mut events) = builder.tap(Arc::new(tap)).start();
    let mut peer = peers.recv().await.unwrap();
    peer.greet().await;
    events.next().await;
    let follow = tokio::spawn({
        let client = client.clone();
        async move { client.subscribe(room(), None).await }
    });
    let sub = peer.next().await;
    let cursor = Some(Cursor { epoch: EPOCH, seq: Seq::ZERO });
    let status =
        RoomStatus { room: room(), status: Status::Ok, cursor, head: Seq::ZERO, code: None };
    peer.reply(sub.id, &Reply::Rooms { statuses: vec![status.clone()], rev: 1, generation: 1 });
    assert_eq!(follow.await.unwrap().unwrap(), status);
    for n in [1, 1, 2] {
        peer.write(&event(n).to_value());
    }
    for n in [1, 2] {
        let Some(ClientEvent::Event(event)) = events.next().await else { panic!("an event") };
        assert_eq!(event.seq, seq(n));
    }
    assert_eq!(*seen.lock().unwrap(), [(1, 1), (1, 1), (1, 2)]);
}

/// A close code that forbids reconnecting ends the client and fails its commands.
#[tokio::test(start_paused = true)]
async fn final_close_code_ends_client() {
    let (_peers, mut peer, client, mut events) = online().await;
    let delivery = client.post(message(1)).await.unwrap();
    peer.next().await;
    peer.to_client.unbounded_send(Incoming::Closed(LinkError::coded(4600, "kicked"))).unwrap();
    assert_eq!(delivery.await.unwrap_err().code(), Some(Code::Kicked));
    assert!(matches!(events.next().await, Some(ClientEvent::Closed { code: Some(4600), .. })));
    assert!(events.next().await.is_none());
    assert_eq!(client.send(message(2)).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn connect_fails_on_final_refusal() {
    let (mut peers, builder) = server();
    let connecting = tokio::spawn(builder.connect());
    let mut peer = peers.recv().await.unwrap();
    peer.next().await;
    peer.write(
        &Push::Disconnect(Disconnect { code: 4301, message: "who?".into(), retry_after: None })
            .to_value(),
    );
    let error = connecting.await.unwrap().err().expect("no client");
    assert_eq!(error.code(), Some(Code::BadCredentials));
}

#[tokio::test(start_paused = true)]
async fn absent_server_is_tried_allowed_times() {
    let (peers, builder) = server();
    drop(peers);
    let error = builder.reconnect(Reconnect::attempts(3)).connect().await.err().expect("no client");
    assert_eq!(error.kind(), ErrorKind::Closed);
}

/// Closing the client ends the link and keeps the session for the next start.
#[tokio::test(start_paused = true)]
async fn close_ends_link_and_keeps_session() {
    let (_peers, mut peer, client, mut events) = online().await;
    client.close();
    assert!(peer.from_client.next().await.is_none());
    assert!(matches!(events.next().await, Some(ClientEvent::Closed { code: Some(4000), .. })));
    assert!(client.saved().await.is_some_and(|saved| saved.session.is_some()));
}

/// The client ends once no handle to it is left.
#[tokio::test(start_paused = true)]
async fn dropped_client_closes_connection() {
    let (_peers, mut peer, client, events) = online().await;
    drop(events);
    let answer = tokio::spawn(async move { client.ping().await });
    let ping = peer.next().await;
    peer.reply(ping.id, &Reply::Pong(Timestamp::from_millis(7)));
    assert_eq!(answer.await.unwrap().unwrap(), Timestamp::from_millis(7));
    assert!(peer.from_client.next().await.is_none());
}

/// The client continues to read from a server that does not read.
#[tokio::test(start_paused = true)]
async fn blocked_writing_leaves_reading() {
    let (_peers, peer, client, mut events) = online().await;
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(client.post(message(n)).await.unwrap());
        tokio::task::yield_now().await;
    }
    let signal = Arc::new(im_core::wire::Signal {
        to: im_core::wire::Target::Room(room()),
        from: UserId::new("bob").unwrap(),
        at: Timestamp::from_millis(1),
        kind: EventKind::new("typing").unwrap(),
        content: Content::text("", &Limits::default()).unwrap(),
    });
    peer.write(&Push::Signal(signal.clone()).to_value());
    assert_eq!(events.next().await, Some(ClientEvent::Signal(signal)));
}

/// A source that fails once, and a call of it that never returns, end neither the connection nor
/// the client.
#[tokio::test(start_paused = true)]
async fn failed_token_source_is_retried() {
    let (mut peers, builder) = server();
    let calls = Arc::new(Mutex::new(0));
    let source = {
        let calls = calls.clone();
        move || -> futures::future::BoxFuture<'static, Result<Secret, String>> {
            let mut calls = calls.lock().unwrap();
            *calls += 1;
            match *calls {
                1 => Box::pin(async { Err("the service is away".to_owned()) }),
                2 => Box::pin(std::future::pending()),
                n => Box::pin(async move { Ok(Secret::new(format!("token-{n}"))) }),
            }
        }
    };
    let (client, _events) = builder.token_source(Arc::new(source)).start();
    let mut peer = peers.recv().await.unwrap();
    let hello = peer.next().await;
    let CommandBody::Hello(body) = &hello.body else { panic!("hello first") };
    assert_eq!(body.token, Some(Secret::new("token-3")));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let expires = Timestamp::from_millis(now.as_millis() as u64 + 600_000);
    let welcome = Welcome { expires: Some(expires), ..welcome() };
    peer.reply(hello.id, &Reply::Welcome(Box::new(welcome)));
    for token in ["token-4", "token-5"] {
        let refresh = loop {
            let command = peer.next().await;
            match command.body {
                CommandBody::Ping => {
                    peer.reply(command.id, &Reply::Pong(Timestamp::from_millis(1)));
                }
                body => break Command { id: command.id, body },
            }
        };
        assert_eq!(refresh.body, CommandBody::Refresh { token: Secret::new(token) });
        peer.reply(refresh.id, &Reply::Refreshed { expires: Some(expires) });
    }
    drop(client);
}

//! Plain HTTP over a network in memory, with a scripted server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use im_client::{ByteStream, Connected, Dial, Down, Http, Incoming, Link};
use im_core::wire::{Encoding, Limits, Reply, Secret, ServerLimits, Welcome, decode, encode};
use im_core::{CommandId, DeviceId, SessionId, UserId};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

#[path = "http/downlink.rs"]
mod downlink;

/// Sends the other end of each stream to the test.
#[derive(Debug, Clone)]
struct Memory(mpsc::UnboundedSender<DuplexStream>);

#[async_trait]
impl Dial for Memory {
    async fn dial(&self, authority: &str) -> io::Result<Box<dyn ByteStream>> {
        assert_eq!(authority, "im.example:80");
        let (here, there) = tokio::io::duplex(64 * 1024);
        self.0.send(there).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(Box::new(here))
    }
}

/// Longer than any test takes.
const HOLD: Duration = Duration::from_secs(600);

async fn connect() -> (Connected, mpsc::UnboundedReceiver<DuplexStream>) {
    let (dialled, streams) = mpsc::unbounded_channel();
    let down = Down::LongPoll(HOLD);
    let link = Http::new("http://im.example/im", down).dial(Memory(dialled));
    (link.connect(Encoding::Json).await.unwrap(), streams)
}

/// The server's end of a stream.
struct Served(DuplexStream);

impl Served {
    /// Reads one request; returns its first line and its body.
    async fn request(&mut self) -> (String, String) {
        let (head, body) = self.whole_request().await;
        (head.lines().next().unwrap().to_owned(), body)
    }

    /// Reads one request; returns its head in lower case and its body.
    async fn whole_request(&mut self) -> (String, String) {
        let mut read = Vec::new();
        let head = loop {
            if let Some(at) = read.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.0.read_buf(&mut read).await.unwrap() > 0,
                "the request is cut off: {read:?}"
            );
        };
        let text = String::from_utf8(read[..head].to_vec()).unwrap().to_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let end = head + length.map_or(0, |length| length.parse::<usize>().unwrap());
        while read.len() < end {
            assert!(
                self.0.read_buf(&mut read).await.unwrap() > 0,
                "the request is cut off: {read:?}"
            );
        }
        (text, String::from_utf8(read.split_off(head)).unwrap())
    }

    async fn answer(&mut self, body: &[u8]) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    }

    /// Answers slowly: a piece every ten seconds.
    async fn drip(&mut self, body: &[u8]) {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.write_all(head.as_bytes()).await.unwrap();
        for piece in body.chunks(body.len().div_ceil(10)) {
            tokio::time::sleep(Duration::from_secs(10)).await;
            self.0.write_all(piece).await.unwrap();
        }
    }

    async fn bad_gateway(&mut self) {
        let page = b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 6\r\n\r\n<html>";
        self.0.write_all(page).await.unwrap();
    }

    /// Waits for the end of the stream.
    async fn until_cut(mut self) {
        while self.0.read_buf(&mut Vec::new()).await.unwrap_or(0) > 0 {}
    }
}

fn welcome() -> Bytes {
    let limits = ServerLimits {
        message_bytes: 65536,
        content_bytes: 32768,
        batch: 64,
        in_flight: 64,
        page: 100,
        rooms: 100,
        depth: 16,
        values: 8192,
    };
    let welcome = Welcome {
        session: SessionId::new("session").unwrap(),
        secret: Secret::new("secret"),
        user: UserId::new("ann").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        resumed: false,
        rev: 0,
        expires: None,
        idle: Duration::from_secs(60),
        limits,
    };
    encode(&Reply::Welcome(Box::new(welcome)).to_value(CommandId(1)), Encoding::Json)
}

fn message(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test(start_paused = true)]
async fn dropped_connection_cuts_pending_requests() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    posts.request().await;
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let mut polls = Served(streams.recv().await.unwrap());
    assert!(polls.request().await.0.starts_with("get /im/poll?hold=600"));
    connected.sink.send(message(r#"{"t":"ping","id":2}"#)).await.unwrap();
    posts.request().await;
    // Neither is ever answered. Paused time advances only if both ends wait for it.
    let begin = tokio::time::Instant::now();
    drop(connected);
    posts.until_cut().await;
    polls.until_cut().await;
    assert_eq!(begin.elapsed(), Duration::ZERO, "cut at once, not after a time-out");
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_pending_posts() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    connected.sink.send(message(r#"{"t":"ping","id":2}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    let served = async {
        assert!(posts.request().await.1.contains("hello"));
        posts.answer(&welcome()).await;
        assert!(posts.request().await.1.contains("ping"));
        posts.answer(br#"[{"t":"ok","id":2}]"#).await;
    };
    let (closed, ()) = tokio::join!(connected.sink.close(), served);
    closed.unwrap();
}

/// Commands written during a POST are combined in the next one.
#[tokio::test(start_paused = true)]
async fn commands_during_post_share_the_next() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    posts.request().await;
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let _polls = streams.recv().await.unwrap();
    connected.sink.send(message(r#"{"t":"ping","id":2}"#)).await.unwrap();
    assert_eq!(
        posts.request().await.1,
        r#"{"t":"ping","id":2}"#,
        "a single command is sent as written"
    );
    connected.sink.send(message(r#"[{"t":"ping","id":3},{"t":"ping","id":4}]"#)).await.unwrap();
    connected.sink.send(message(r#"{"t":"ping","id":5}"#)).await.unwrap();
    posts.answer(br#"[{"t":"ok","id":2}]"#).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let body = posts.request().await.1;
    let frames = decode(body.as_bytes(), Encoding::Json, &Limits::default()).unwrap();
    let ids: Vec<_> = frames.iter().map(|frame| frame.get("id").unwrap().as_int()).collect();
    assert_eq!(ids, [Some(3), Some(4), Some(5)]);
}

/// One answer of a gateway without the server costs a second try over the same transport.
#[tokio::test(start_paused = true)]
async fn post_answered_502_is_posted_again() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    for _ in 0..2 {
        assert!(posts.request().await.1.contains("hello"));
        posts.bad_gateway().await;
    }
    assert!(posts.request().await.1.contains("hello"));
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let mut polls = Served(streams.recv().await.unwrap());
    for _ in 0..2 {
        assert!(polls.request().await.0.starts_with("get /im/poll"));
        polls.bad_gateway().await;
    }
    assert!(polls.request().await.0.starts_with("get /im/poll"));
    polls.answer(br#"[{"t":"position","at":"AQ"}]"#).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    connected.sink.send(message(r#"{"t":"send","id":2}"#)).await.unwrap();
    posts.request().await;
    posts.bad_gateway().await;
    assert_eq!(posts.request().await.1, r#"{"t":"send","id":2}"#);
    posts.answer(br#"[{"t":"ok","id":2}]"#).await;
    assert_eq!(
        connected.stream.next().await,
        Some(Incoming::Message(message(r#"[{"t":"ok","id":2}]"#)))
    );
}

/// Non-idempotent commands are not posted again, and a gateway that never reaches the server ends
/// the connection.
#[tokio::test(start_paused = true)]
async fn post_answered_502_ends_connection() {
    for (command, posted) in [(r#"{"t":"create","id":2}"#, 1), (r#"{"t":"send","id":2}"#, 4)] {
        let (mut connected, mut streams) = connect().await;
        connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
        let mut posts = Served(streams.recv().await.unwrap());
        posts.request().await;
        posts.answer(&welcome()).await;
        assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
        let _polls = streams.recv().await.unwrap();
        connected.sink.send(message(command)).await.unwrap();
        for _ in 0..posted {
            assert_eq!(posts.request().await.1, command);
            posts.bad_gateway().await;
        }
        let Some(Incoming::Closed(error)) = connected.stream.next().await else {
            panic!("the connection ends")
        };
        assert!(error.gateway && error.code.is_none() && !error.unfit, "{error:?}");
    }
}

/// Responses that take minutes are read to their end, and each piece is a sign of life.
#[tokio::test(start_paused = true)]
async fn slow_response_counts_as_activity() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    posts.request().await;
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let mut polls = Served(streams.recv().await.unwrap());
    polls.request().await;
    connected.sink.send(message(r#"{"t":"history","id":2}"#)).await.unwrap();
    posts.request().await;
    let page = format!(r#"[{{"t":"ok","id":2,"text":"{}"}}]"#, "x".repeat(1000));
    let events = format!(r#"[{{"t":"event","text":"{}"}}]"#, "y".repeat(1000));
    for (server, body) in [(&mut posts, page), (&mut polls, events)] {
        let reading = async {
            let mut heard = 0;
            loop {
                match connected.stream.next().await {
                    Some(Incoming::Heard) => heard += 1,
                    Some(Incoming::Message(message)) => return (heard, message),
                    other => panic!("{other:?}"),
                }
            }
        };
        let ((heard, read), ()) = tokio::join!(reading, server.drip(body.as_bytes()));
        assert_eq!(read, body.as_bytes());
        assert!(heard >= 8, "{heard}");
    }
}

/// The credentials in the greeting, and later ones, are sent with every later request.
#[tokio::test(start_paused = true)]
async fn credentials_go_with_every_request() {
    let (mut connected, mut streams) = connect().await;
    connected.sink.send(message(r#"{"t":"hello","id":1,"token":"old"}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    assert!(posts.whole_request().await.0.contains("authorization: bearer old"));
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let mut polls = Served(streams.recv().await.unwrap());
    assert!(polls.whole_request().await.0.contains("authorization: bearer old"));
    connected.sink.send(message(r#"{"t":"refresh","id":2,"token":"new"}"#)).await.unwrap();
    assert!(posts.whole_request().await.0.contains("authorization: bearer new"));
    posts.answer(br#"[{"t":"ok","id":2}]"#).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    polls.answer(br#"[{"t":"position","at":"AQ"}]"#).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    assert!(polls.whole_request().await.0.contains("authorization: bearer new"));
}

/// Returns a client that polls by `down`, after its greeting, and the server's ends of its POSTs
/// and of its polls.
async fn polling(down: Down) -> (Connected, Served, Served) {
    let (dialled, mut streams) = mpsc::unbounded_channel();
    let link = Http::new("http://im.example/im", down).dial(Memory(dialled));
    let mut connected = link.connect(Encoding::Json).await.unwrap();
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    let mut posts = Served(streams.recv().await.unwrap());
    posts.request().await;
    posts.answer(&welcome()).await;
    assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
    let polls = Served(streams.recv().await.unwrap());
    (connected, posts, polls)
}

const NOTHING: &[u8] = br#"[{"t":"position","at":"AQ"}]"#;
const FULL: &[u8] = br#"[{"t":"event","seq":1},{"t":"position","at":"AQ"}]"#;

/// Answers the current poll. Returns the time until the next one.
async fn pause_after(connected: &mut Connected, polls: &mut Served, body: &[u8]) -> Duration {
    polls.answer(body).await;
    let answered = tokio::time::Instant::now();
    // The pieces are signs of life.
    while connected.stream.next().await.unwrap() == Incoming::Heard {}
    assert!(polls.request().await.0.starts_with("get /im/poll"));
    answered.elapsed()
}

/// wire/SPEC.md, "Polling": at once after a short poll that returned something, however often;
/// otherwise after a pause.
#[tokio::test(start_paused = true)]
async fn poll_after_events_is_immediate() {
    let every = Duration::from_secs(2);
    let (mut connected, _posts, mut polls) = polling(Down::ShortPoll(every)).await;
    polls.request().await;
    let text = "x".repeat(4096);
    let large = format!(r#"[{{"t":"event","text":"{text}"}},{{"t":"position","at":"AQ"}}]"#);
    for body in [FULL, FULL, large.as_bytes()] {
        assert_eq!(pause_after(&mut connected, &mut polls, body).await, Duration::ZERO);
    }
    assert_eq!(pause_after(&mut connected, &mut polls, NOTHING).await, every);
    polls.0.write_all(b"HTTP/1.1 304 Not Modified\r\n\r\n").await.unwrap();
    let answered = tokio::time::Instant::now();
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    polls.request().await;
    assert_eq!(answered.elapsed(), every);
}

/// A command is followed by a poll for its pushes, also if the answer to an earlier poll was in
/// transit.
#[tokio::test(start_paused = true)]
async fn poll_after_command_is_immediate() {
    let (mut connected, mut posts, mut polls) =
        polling(Down::ShortPoll(Duration::from_secs(2))).await;
    polls.request().await;
    for is_under_way in [false, true] {
        if !is_under_way {
            polls.answer(NOTHING).await;
            assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
        }
        connected.sink.send(message(r#"{"t":"ping","id":2}"#)).await.unwrap();
        posts.request().await;
        posts.answer(br#"[{"t":"ok","id":2}]"#).await;
        let answered = tokio::time::Instant::now();
        assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
        if is_under_way {
            polls.answer(NOTHING).await;
            assert!(matches!(connected.stream.next().await, Some(Incoming::Message(_))));
        }
        assert!(polls.request().await.0.starts_with("get /im/poll"));
        assert_eq!(answered.elapsed(), Duration::ZERO, "{is_under_way}");
    }
    let idle = pause_after(&mut connected, &mut polls, NOTHING).await;
    assert_eq!(idle, Duration::from_secs(2), "one command causes one poll");
}

/// A server that does not hold polls is not polled without a pause.
#[tokio::test(start_paused = true)]
async fn unheld_long_poll_pauses_next() {
    let (mut connected, _posts, mut polls) = polling(Down::LongPoll(HOLD)).await;
    polls.request().await;
    assert_eq!(pause_after(&mut connected, &mut polls, FULL).await, Duration::ZERO);
    assert_eq!(pause_after(&mut connected, &mut polls, NOTHING).await, Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(pause_after(&mut connected, &mut polls, NOTHING).await, Duration::ZERO);
}

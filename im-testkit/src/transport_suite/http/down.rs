//! The stream half: an event stream, or the answers to polls.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use im_core::wire::{Encoding, Limits, decode, encode};

use super::super::link::Received;
use super::client::{Answer, Client};

/// The kind of a stream half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downlink {
    /// `GET …/sse`.
    Stream,
    /// `GET …/poll`, held for up to this time. Zero is short polling: the client polls again after
    /// a pause.
    Poll(Duration),
}

/// The pause of a short poller between two polls.
const PAUSE: Duration = Duration::from_millis(2);

/// The session, encoding and stream position of a stream half.
#[derive(Debug, Clone)]
pub(super) struct Whose {
    pub(super) address: SocketAddr,
    pub(super) encoding: Encoding,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) position: Option<String>,
}

/// An open stream half.
pub(super) enum Down {
    Stream(Box<Stream>),
    Poll(Box<Poll>),
}

impl Down {
    /// Opens it. When this returns, the server has registered it.
    pub(super) async fn open(kind: Downlink, whose: Whose) -> Result<Self, Option<Answer>> {
        match kind {
            Downlink::Stream => {
                Stream::open(whose).await.map(|stream| Self::Stream(Box::new(stream)))
            }
            Downlink::Poll(hold) => {
                let mut poll = Poll { whose, hold, asking: None, arrived: VecDeque::new() };
                // The first poll is not held: its answer shows that the server has registered the
                // stream half.
                let answer = ask(poll.whose.clone(), Duration::ZERO, Duration::ZERO).await;
                match answer {
                    Ok(answer) if answer.status == 200 => poll.take(&answer),
                    Ok(refused) => return Err(Some(refused)),
                    Err(_) => return Err(None),
                }
                Ok(Self::Poll(Box::new(poll)))
            }
        }
    }

    /// Returns the next message or the end. Cancel-safe.
    pub(super) async fn receive(&mut self) -> Result<Received, Answer> {
        match self {
            Self::Stream(stream) => Ok(stream.receive().await),
            Self::Poll(poll) => poll.receive().await,
        }
    }

    /// Returns the last stream position that was received.
    pub(super) fn position(&self) -> Option<String> {
        match self {
            Self::Stream(stream) => stream.whose.position.clone(),
            Self::Poll(poll) => poll.whose.position.clone(),
        }
    }
}

/// An event stream.
pub(super) struct Stream {
    whose: Whose,
    client: Client,
    fields: Fields,
    arrived: VecDeque<Received>,
}

impl Stream {
    async fn open(whose: Whose) -> Result<Self, Option<Answer>> {
        let opened = async {
            let mut client = Client::connect(whose.address).await?;
            let mut headers = whose.headers.clone();
            headers.push(("accept", "text/event-stream".to_owned()));
            headers.extend(whose.position.clone().map(|position| ("last-event-id", position)));
            client.begin("GET /im/sse", &headers, b"").await?;
            let mut answer = client.answer().await?;
            if answer.status != 200 {
                answer.body = client.body(&answer).await?;
            }
            io::Result::Ok((client, answer))
        };
        let (client, answer) = opened.await.map_err(|_| None)?;
        if answer.status != 200 {
            return Err(Some(answer));
        }
        assert_eq!(answer.header("content-type"), Some("text/event-stream"));
        Ok(Self { whose, client, fields: Fields::default(), arrived: VecDeque::new() })
    }

    async fn receive(&mut self) -> Received {
        loop {
            if let Some(arrived) = self.arrived.pop_front() {
                return arrived;
            }
            match self.client.chunk().await {
                Ok(Some(chunk)) => self.read(&chunk),
                Ok(None) | Err(_) => return Received::Closed(None),
            }
        }
    }

    fn read(&mut self, chunk: &[u8]) {
        for field in self.fields.read(chunk) {
            match field {
                Field::Data(frame) => {
                    let message = in_encoding(frame, self.whose.encoding);
                    self.arrived.push_back(Received::Message(message));
                }
                Field::Id(position) => self.whose.position = Some(position),
            }
        }
    }
}

/// A field of an event stream.
#[derive(Debug)]
pub(crate) enum Field {
    /// One message.
    Data(Bytes),
    /// The stream position after the fields before it.
    Id(String),
}

/// Parses the fields of an event stream (the HTML standard, section 9.2.6), as strictly as this
/// project's server writes them.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// The incomplete last line.
    line: Vec<u8>,
}

impl Fields {
    /// Returns the fields that this chunk completes.
    pub(crate) fn read(&mut self, chunk: &[u8]) -> Vec<Field> {
        let mut fields = Vec::new();
        for byte in chunk {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            assert!(!line.contains(&b'\r'), "lines of this server end with LF");
            match line.split(|byte| *byte == b':').next() {
                Some(b"data") => {
                    let frame = Bytes::copy_from_slice(&line[b"data: ".len()..]);
                    // The `id` line after it has the same stream position.
                    if !frame.starts_with(br#"{"t":"position""#) {
                        fields.push(Field::Data(frame));
                    }
                }
                Some(b"id") => {
                    let position = String::from_utf8_lossy(&line[b"id: ".len()..]).into_owned();
                    fields.push(Field::Id(position));
                }
                Some(b"" | b"retry") => {}
                other => panic!("unexpected line of an event stream: {other:?}"),
            }
        }
        fields
    }
}

/// Transcodes a message of the stream, which is always JSON, to the encoding of the case.
fn in_encoding(message: Bytes, encoding: Encoding) -> Bytes {
    if encoding == Encoding::Json {
        return message;
    }
    let mut limits = Limits::default();
    limits.max_message_bytes = 16 << 20;
    limits.max_values = 1 << 20;
    let frames = decode(&message, Encoding::Json, &limits).expect("frames of the server in JSON");
    assert_eq!(frames.len(), 1, "one frame for each data line");
    encode(&frames[0], encoding)
}

type Asking = Pin<Box<dyn Future<Output = io::Result<Answer>> + Send>>;

/// A client that polls, each time on a new connection.
pub(super) struct Poll {
    whose: Whose,
    hold: Duration,
    asking: Option<Asking>,
    arrived: VecDeque<Received>,
}

impl Poll {
    async fn receive(&mut self) -> Result<Received, Answer> {
        loop {
            if let Some(arrived) = self.arrived.pop_front() {
                return Ok(arrived);
            }
            let pause = if self.hold.is_zero() { PAUSE } else { Duration::ZERO };
            let asking = self
                .asking
                .get_or_insert_with(|| Box::pin(ask(self.whose.clone(), self.hold, pause)));
            let answered = asking.as_mut().await;
            self.asking = None;
            match answered {
                Ok(answer) if answer.status == 200 => self.take(&answer),
                Ok(answer) => return Err(answer),
                Err(_) => return Ok(Received::Closed(None)),
            }
        }
    }

    fn take(&mut self, answer: &Answer) {
        let tag = answer.header("etag").expect("an entity tag in the answer to a poll");
        self.whose.position = Some(tag.trim_matches('"').to_owned());
        self.arrived.push_back(Received::Message(answer.body.clone()));
    }
}

async fn ask(whose: Whose, hold: Duration, pause: Duration) -> io::Result<Answer> {
    tokio::time::sleep(pause).await;
    let mut headers = whose.headers.clone();
    let accept = match whose.encoding {
        Encoding::Json => "application/json",
        Encoding::MsgPack => "application/msgpack",
    };
    headers.push(("accept", accept.to_owned()));
    let at = whose.position.map(|position| format!("&at={position}")).unwrap_or_default();
    let mut client = Client::connect(whose.address).await?;
    client.ask(&format!("GET /im/poll?hold={}{at}", hold.as_secs()), &headers, b"").await
}

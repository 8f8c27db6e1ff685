//! One connection of a client on one transport, whose writes, reads and end the scenario decides.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use im_core::wire::{Encoding, Value, decode};

use super::case::Transport;
use super::setup::Route;
use super::ws::Ws;
use crate::transport_suite::Received;
use crate::transport_suite::http::{Answer, Client, Field, Fields, request};
use crate::transport_suite::peer::generous;

/// A frame or a stream position.
#[derive(Debug)]
pub(super) enum Item {
    Frame(Value),
    /// The stream position after the frames before it.
    Position(String),
}

/// The end of the connection, with its code.
#[derive(Debug)]
pub(super) struct Ended(pub(super) Option<u16>);

/// Both directions of one connection.
#[derive(Debug)]
pub(super) enum Line {
    Duplex { ws: Box<Ws>, encoding: Encoding },
    RequestStream(Box<RequestStream>),
}

/// Commands by POST, and a stream half. Every request has a connection of its own.
#[derive(Debug)]
pub(super) struct RequestStream {
    route: Route,
    transport: Transport,
    encoding: Encoding,
    /// The session headers, once there is a session.
    session: Option<String>,
    /// Requests with commands that were written, the oldest first.
    posts: VecDeque<Client>,
    down: Option<Down>,
}

#[derive(Debug)]
enum Down {
    /// A stream, and whether its head was read.
    Stream { client: Client, open: bool, fields: Fields },
    /// A poll that was written.
    Poll(Client),
}

impl Line {
    pub(super) async fn open(route: &Route, transport: Transport, encoding: Encoding) -> Self {
        if transport == Transport::Ws {
            let ws = Ws::open(route.connect().await, encoding).await.expect("a handshake");
            return Self::Duplex { ws: Box::new(ws), encoding };
        }
        Self::RequestStream(Box::new(RequestStream {
            route: route.clone(),
            transport,
            encoding,
            session: None,
            posts: VecDeque::new(),
            down: None,
        }))
    }

    /// Sets the session that requests name from now on.
    pub(super) fn name(&mut self, session: String) {
        if let Self::RequestStream(request_stream) = self {
            request_stream.session = Some(session);
        }
    }

    /// Writes a message without waiting.
    pub(super) async fn write(&mut self, message: &[u8]) {
        match self {
            Self::Duplex { ws, .. } => {
                let frame = ws.frame(message);
                // A closed connection shows when it is read.
                let _ = ws.client.send(&frame).await;
            }
            Self::RequestStream(request_stream) => request_stream.post(message, usize::MAX).await,
        }
    }

    /// Writes the first half of a message.
    pub(super) async fn write_first_half(&mut self, message: &[u8]) {
        match self {
            Self::Duplex { ws, .. } => {
                let frame = ws.frame(message);
                let _ = ws.client.send(&frame[..frame.len() - message.len() / 2]).await;
            }
            Self::RequestStream(request_stream) => {
                request_stream.post(message, message.len() / 2).await
            }
        }
    }

    /// Returns the next items on the request half.
    pub(super) async fn up(&mut self) -> Result<Vec<Item>, Ended> {
        match self {
            Self::Duplex { ws, encoding } => received(ws.receive().await, *encoding),
            Self::RequestStream(request_stream) => request_stream.answered().await,
        }
    }

    /// Returns the next items on the stream half. Polls if no poll is open.
    pub(super) async fn down(&mut self, position: Option<&str>) -> Result<Vec<Item>, Ended> {
        match self {
            Self::Duplex { ws, encoding } => received(ws.receive().await, *encoding),
            Self::RequestStream(request_stream) => request_stream.pushed(position).await,
        }
    }

    /// Opens the stream half: opens a stream or writes a poll. Reads nothing.
    pub(super) async fn ask(&mut self, position: Option<&str>) {
        if let Self::RequestStream(request_stream) = self {
            let hold = if request_stream.transport == Transport::Long { HOLD } else { 0 };
            request_stream.ask(position, hold).await;
        }
    }

    /// Opens the stream half while no push is due. When this returns, the server has registered it.
    pub(super) async fn listen(&mut self) -> Result<Vec<Item>, Ended> {
        let Self::RequestStream(request_stream) = self else { return Ok(Vec::new()) };
        request_stream.ask(None, 0).await;
        match &mut request_stream.down {
            Some(Down::Stream { client, open, .. }) => {
                opened(client).await?;
                *open = true;
                Ok(Vec::new())
            }
            _ => request_stream.pushed(None).await,
        }
    }

    /// Waits until an unread push has arrived.
    pub(super) async fn arrived(&mut self) {
        let client = match self {
            Self::Duplex { ws, .. } => &mut ws.client,
            Self::RequestStream(request_stream) => match &mut request_stream.down {
                Some(Down::Stream { client, open, .. }) => {
                    if !*open {
                        opened(client).await.expect("a stream");
                        *open = true;
                    }
                    client
                }
                Some(Down::Poll(client)) => client,
                None => return,
            },
        };
        client.arrived().await.expect("bytes on the stream half");
    }

    /// Reads to the end of all open requests. Returns the items and the code of the end.
    pub(super) async fn drain(&mut self) -> (Vec<Item>, Option<u16>) {
        let mut items = Vec::new();
        loop {
            // An answered poll has no further items.
            if matches!(self, Self::RequestStream(request_stream) if request_stream.down.is_none())
            {
                return (items, None);
            }
            match self.down(None).await {
                Ok(more) => items.extend(more),
                Err(Ended(code)) => return (items, code),
            }
        }
    }
}

/// The longest hold of a long poll in seconds, longer than any test takes.
const HOLD: u64 = 25;

/// The pause of a short poller between two polls.
const PAUSE: Duration = Duration::from_millis(2);

impl RequestStream {
    fn headers(&self) -> Vec<(&'static str, String)> {
        self.session.iter().map(|session| ("im-session", session.clone())).collect()
    }

    fn media_type(&self) -> String {
        match self.encoding {
            Encoding::Json => "application/json".to_owned(),
            Encoding::MsgPack => "application/msgpack".to_owned(),
        }
    }

    /// Writes a request with the first `most` bytes of its body.
    async fn post(&mut self, message: &[u8], most: usize) {
        let mut headers = self.headers();
        headers.push(("content-type", self.media_type()));
        let request = request("POST /im/send", &headers, message);
        let written = request.len() - message.len() + most.min(message.len());
        let mut client = self.route.connect().await;
        let _ = client.send(&request[..written]).await;
        self.posts.push_back(client);
    }

    async fn answered(&mut self) -> Result<Vec<Item>, Ended> {
        let mut client = self.posts.pop_front().expect("a request that was written");
        let answer = client.finish().await.map_err(|_| Ended(None))?;
        if answer.status != 200 {
            return Err(Ended(answer.code()));
        }
        Ok(frames(&answer.body, self.encoding))
    }

    async fn ask(&mut self, position: Option<&str>, hold: u64) {
        let mut client = self.route.connect().await;
        let mut headers = self.headers();
        let at = position.map(|position| format!("&at={position}")).unwrap_or_default();
        if self.transport == Transport::Sse {
            headers.push(("accept", "text/event-stream".to_owned()));
            headers.extend(position.map(|position| ("last-event-id", position.to_owned())));
            let _ = client.begin("GET /im/sse", &headers, b"").await;
            self.down = Some(Down::Stream { client, open: false, fields: Fields::default() });
        } else {
            headers.push(("accept", self.media_type()));
            let _ = client.begin(&format!("GET /im/poll?hold={hold}{at}"), &headers, b"").await;
            self.down = Some(Down::Poll(client));
        }
    }

    async fn pushed(&mut self, position: Option<&str>) -> Result<Vec<Item>, Ended> {
        if self.down.is_none() {
            let hold = if self.transport == Transport::Long { HOLD } else { 0 };
            if hold == 0 {
                tokio::time::sleep(PAUSE).await;
            }
            self.ask(position, hold).await;
        }
        match &mut self.down {
            Some(Down::Stream { client, open, fields }) => {
                if !*open {
                    opened(client).await?;
                    *open = true;
                }
                let chunk = client.chunk().await.ok().flatten().ok_or(Ended(None))?;
                Ok(fields.read(&chunk).into_iter().flat_map(said).collect())
            }
            // The poll stays there until it is answered, so that the wait for it can be cancelled.
            Some(Down::Poll(client)) => {
                let answer = client.finish().await.map_err(|_| Ended(None))?;
                self.down = None;
                match answer.status {
                    200 => Ok(frames(&answer.body, self.encoding)),
                    _ => Err(Ended(answer.code())),
                }
            }
            None => Ok(Vec::new()),
        }
    }
}

/// Reads the head of a stream.
async fn opened(client: &mut Client) -> Result<(), Ended> {
    match client.answer().await {
        Ok(Answer { status: 200, .. }) => Ok(()),
        Ok(mut refused) => {
            refused.body = client.body(&refused).await.map_err(|_| Ended(None))?;
            Err(Ended(refused.code()))
        }
        Err(_) => Err(Ended(None)),
    }
}

fn said(field: Field) -> Vec<Item> {
    match field {
        // A stream is always JSON.
        Field::Data(message) => frames(&message, Encoding::Json),
        Field::Id(position) => vec![Item::Position(position)],
    }
}

fn received(received: Received, encoding: Encoding) -> Result<Vec<Item>, Ended> {
    match received {
        Received::Message(message) => Ok(frames(&message, encoding)),
        Received::Closed(code) => Err(Ended(code)),
    }
}

fn frames(message: &Bytes, encoding: Encoding) -> Vec<Item> {
    let frames = decode(message, encoding, &generous()).expect("frames of the server that decode");
    let item = |frame: Value| match frame.get("t").and_then(Value::as_text) {
        Some("position") => {
            let position =
                frame.get("at").and_then(Value::as_text).expect("a position frame with `at`");
            Item::Position(position.to_owned())
        }
        _ => Item::Frame(frame),
    };
    frames.into_iter().map(item).collect()
}

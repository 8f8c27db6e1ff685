//! Raw requests, streams and sockets of a peer: JSON over plain HTTP/1.1, event streams and
//! WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use im_testkit::transport_suite::http::{Answer, Client};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;

/// The longest wait for one answer. Longer than a restart of the server, and than a poll is held.
const ANSWER: Duration = Duration::from_secs(60);

/// The receive buffer in bytes, which bounds what the system buffers for a peer that does not read.
const RECEIVE_BUFFER: u32 = 16 * 1024;

/// The cause of the end of a request or a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The connection was cut, or the wait timed out.
    Cut,
    /// The server ended it with this code.
    Code(u64),
}

impl From<std::io::Error> for Broken {
    fn from(_: std::io::Error) -> Self {
        Self::Cut
    }
}

impl From<tokio_tungstenite::tungstenite::Error> for Broken {
    fn from(_: tokio_tungstenite::tungstenite::Error) -> Self {
        Self::Cut
    }
}

pub(super) type Outcome<T> = Result<T, Broken>;

async fn in_time<T>(asking: impl Future<Output = std::io::Result<T>>) -> Outcome<T> {
    Ok(tokio::time::timeout(ANSWER, asking).await.map_err(|_| Broken::Cut)??)
}

fn read(answer: &Answer) -> Outcome<Vec<Value>> {
    if answer.status == 304 {
        return Ok(Vec::new());
    }
    let body = answer.json();
    match body {
        Value::Array(frames) if answer.status == 200 => Ok(frames),
        body => Err(Broken::Code(body["code"].as_u64().unwrap_or(answer.status.into()))),
    }
}

/// Requests of one session, in sequence on one connection as long as it stays open.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) server: SocketAddr,
    /// The session and its secret, separated by a space.
    pub(super) session: Option<String>,
    client: Option<Client>,
}

impl Requests {
    pub(super) fn new(server: SocketAddr, session: Option<String>) -> Self {
        Self { server, session, client: None }
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        self.session.iter().map(|session| ("im-session", session.clone())).collect()
    }

    async fn client(&mut self) -> Outcome<Client> {
        match self.client.take() {
            Some(client) => Ok(client),
            None => in_time(Client::connect(self.server)).await,
        }
    }

    /// Posts commands and returns their replies.
    pub(super) async fn post(&mut self, frames: &Value) -> Outcome<Vec<Value>> {
        let mut client = self.client().await?;
        let mut headers = self.headers();
        if frames[0]["t"] == "hello" {
            headers.clear();
        }
        headers.push(("content-type", "application/json".to_owned()));
        let body = frames.to_string();
        let asking = client.ask("POST /im/send", &headers, body.as_bytes());
        let answer = in_time(asking).await?;
        self.client = Some(client);
        read(&answer)
    }

    /// Starts a poll.
    async fn ask(&mut self, at: Option<&str>, hold: u64) -> Outcome<Client> {
        let mut client = self.client().await?;
        let at = at.map(|at| format!("&at={at}")).unwrap_or_default();
        let head = format!("GET /im/poll?hold={hold}{at}");
        in_time(client.begin(&head, &self.headers(), b"")).await?;
        Ok(client)
    }

    /// Polls and returns the frames.
    pub(super) async fn poll(&mut self, at: Option<&str>, hold: u64) -> Outcome<Vec<Value>> {
        let mut client = self.ask(at, hold).await?;
        let answer = in_time(client.finish()).await?;
        self.client = Some(client);
        read(&answer)
    }

    /// Polls and closes the connection without reading the answer.
    pub(super) async fn poll_in_vain(
        &mut self,
        at: Option<&str>,
        hold: u64,
        after: Duration,
    ) -> Outcome<()> {
        let _client = self.ask(at, hold).await?;
        tokio::time::sleep(after).await;
        Ok(())
    }

    /// Opens an event stream, on a connection of its own.
    pub(super) async fn stream(&self, at: Option<&str>) -> Outcome<Stream> {
        let mut client = in_time(Client::connect(self.server)).await?;
        let mut headers = self.headers();
        headers.push(("accept", "text/event-stream".to_owned()));
        headers.extend(at.map(|at| ("last-event-id", at.to_owned())));
        in_time(client.begin("GET /im/sse", &headers, b"")).await?;
        let answer = in_time(client.answer()).await?;
        if answer.status == 200 {
            return Ok(Stream { client, line: Vec::new() });
        }
        let answer = in_time(client.finish()).await.unwrap_or(answer);
        Err(Broken::Code(answer.code().unwrap_or(answer.status).into()))
    }
}

/// A field of an event stream.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    Frame(Value),
    Position(String),
}

/// An event stream.
#[derive(Debug)]
pub(super) struct Stream {
    client: Client,
    line: Vec<u8>,
}

impl Stream {
    /// Returns the fields that the next chunk completes. Cancel-safe.
    pub(super) async fn next(&mut self) -> Outcome<Vec<Said>> {
        let chunk = self.client.chunk().await?.ok_or(Broken::Cut)?;
        Ok(lines(&mut self.line, &chunk))
    }
}

/// Parses the fields of an event stream (the HTML standard, section 9.2.6), one frame in each
/// `data`.
fn lines(line: &mut Vec<u8>, chunk: &[u8]) -> Vec<Said> {
    let mut said = Vec::new();
    for byte in chunk {
        if *byte != b'\n' {
            line.push(*byte);
            continue;
        }
        if let Some(frame) = line.strip_prefix(b"data: ") {
            said.extend(serde_json::from_slice(frame).map(Said::Frame));
        } else if let Some(position) = line.strip_prefix(b"id: ") {
            said.push(Said::Position(String::from_utf8_lossy(position).into_owned()));
        }
        line.clear();
    }
    said
}

/// A WebSocket in JSON.
#[derive(Debug)]
pub(super) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    pub(super) async fn open(server: SocketAddr) -> Outcome<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        let stream = in_time(socket.connect(server)).await?;
        stream.set_nodelay(true)?;
        let mut request = format!("ws://{server}/im/ws").into_client_request()?;
        let protocol = HeaderValue::from_static("im.v1.json");
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        let opening = tokio_tungstenite::client_async(request, stream);
        let opened = tokio::time::timeout(ANSWER, opening).await.map_err(|_| Broken::Cut)?;
        Ok(Self(opened?.0))
    }

    pub(super) async fn send(&mut self, frames: &Value) -> Outcome<()> {
        Ok(self.0.send(Message::text(frames.to_string())).await?)
    }

    /// Returns the frames of the next message. Cancel-safe.
    pub(super) async fn next(&mut self) -> Outcome<Vec<Value>> {
        loop {
            match self.0.next().await.ok_or(Broken::Cut)?? {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text).map_err(|_| Broken::Cut)?;
                    return Ok(match message {
                        Value::Array(frames) => frames,
                        frame => vec![frame],
                    });
                }
                Message::Close(_) => return Err(Broken::Cut),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_parses_at_any_split() {
        let text = "retry: 1500\n\ndata: {\"t\":\"position\",\"at\":\"AQ\"}\nid: AQ\n\n:\n\n";
        for split in 0..text.len() {
            let (first, second) = text.as_bytes().split_at(split);
            let mut line = Vec::new();
            let mut said = lines(&mut line, first);
            said.extend(lines(&mut line, second));
            let mark = serde_json::json!({"t": "position", "at": "AQ"});
            assert_eq!(said, [Said::Frame(mark), Said::Position("AQ".into())], "{split}");
        }
    }
}

//! A server, and a client that builds WebSocket frames by hand, also invalid ones.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use im_core::engine::Engine;
use im_http::Listener;
use im_transport_ws::{WebSocket, WsConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;

pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;
/// The bit of a message's last frame.
pub const FIN: u8 = 0x80;

pub const HELLO: &str = r#"{"t":"hello","id":1,"v":1,"user":"anna"}"#;

/// Fails the test instead of letting it hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

pub async fn engine() -> Engine {
    Engine::builder().allow_anonymous().start().await.unwrap()
}

pub async fn service(config: WsConfig) -> WebSocket {
    WebSocket::new(engine().await, config)
}

/// Serves on a free port for as long as the test's runtime lives.
pub async fn listen(ws: &WebSocket) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(ws.clone()));
    address
}

pub async fn server(config: WsConfig) -> SocketAddr {
    listen(&service(config).await).await
}

/// Serves one connection in memory, so that paused time stands still while bytes travel.
pub fn in_memory(ws: &WebSocket, buffer: usize) -> DuplexStream {
    let (client, server) = duplex(buffer);
    serve_over(ws, server);
    client
}

/// Serves one connection over any stream.
pub fn serve_over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(ws: &WebSocket, stream: S) {
    let service = TowerToHyperService::new(ws.clone());
    let http = hyper::server::conn::http1::Builder::new();
    tokio::spawn(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
}

/// An HTTP response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// A client after the handshake.
pub struct Client<S> {
    pub stream: S,
}

pub type Tcp = Client<TcpStream>;

/// Waits until the engine has no connections.
pub async fn all_gone(engine: &Engine) {
    only(engine, 0).await;
}

/// Waits until the engine has at most this many connections.
pub async fn only(engine: &Engine, connections: usize) {
    within(async {
        while engine.connections() > connections {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Connects to a server that is expected to accept.
pub async fn connect(address: SocketAddr) -> Tcp {
    let stream = TcpStream::connect(address).await.unwrap();
    Client::open(stream, "").await.unwrap()
}

/// Connects and says hello.
pub async fn greeted(address: SocketAddr) -> Tcp {
    let mut client = connect(address).await;
    client.hello().await;
    client
}

/// Sends a request head and reads the response.
pub async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, head: &str) -> Answer {
    within(async {
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"\r\n\r\n") {
            read.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(read).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .split("content-length: ")
            .nth(1)
            .map_or(0, |rest| rest.split('\r').next().unwrap().parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    })
    .await
}

/// A valid handshake with further header lines.
pub fn upgrade_head(extra: &str) -> String {
    format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Opens a connection with further header lines, each with its line end.
    pub async fn open(mut stream: S, extra: &str) -> Result<Self, Answer> {
        let answer = ask(&mut stream, &upgrade_head(extra)).await;
        match answer.status {
            101 => Ok(Self { stream }),
            _ => Err(answer),
        }
    }

    pub async fn bytes(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
        within(self.stream.flush()).await.unwrap();
    }

    pub async fn text(&mut self, text: &str) {
        self.bytes(&frame(FIN | TEXT, text.as_bytes())).await;
    }

    /// Returns the next frame except heartbeats: its first byte and its payload.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        loop {
            let frame = self.any_frame().await;
            if frame != (FIN | PING, Vec::new()) {
                return frame;
            }
        }
    }

    /// Returns the next frame: its first byte and its payload.
    pub async fn any_frame(&mut self) -> (u8, Vec<u8>) {
        within(async {
            let first = self.stream.read_u8().await.unwrap();
            let length = match self.stream.read_u8().await.unwrap() {
                126 => u64::from(self.stream.read_u16().await.unwrap()),
                127 => self.stream.read_u64().await.unwrap(),
                short => short.into(),
            };
            let mut payload = vec![0; length as usize];
            self.stream.read_exact(&mut payload).await.unwrap();
            (first, payload)
        })
        .await
    }

    /// Returns the next frame, which must be text.
    pub async fn heard(&mut self) -> String {
        let (first, payload) = self.frame().await;
        assert_eq!(first, FIN | TEXT);
        String::from_utf8(payload).unwrap()
    }

    /// Says hello and waits for the welcome.
    pub async fn hello(&mut self) {
        self.text(HELLO).await;
        let welcome = self.heard().await;
        assert!(welcome.contains(r#""id":1"#), "{welcome}");
    }

    /// Returns the next frame, which must be JSON.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.heard().await).unwrap()
    }

    /// Sends a command and returns its ack.
    pub async fn command(&mut self, command: &Value) -> Value {
        self.text(&command.to_string()).await;
        loop {
            let frame = self.json().await;
            if frame["id"] == command["id"] {
                return frame;
            }
        }
    }

    /// Reads to the end. The disconnect and the close frame must agree; returns their code and
    /// text.
    pub async fn closed_cleanly(&mut self) -> (u16, String) {
        let mut bye = Value::Null;
        loop {
            let (first, payload) = self.frame().await;
            if first == FIN | TEXT {
                bye = serde_json::from_slice(&payload).unwrap();
                continue;
            }
            assert_eq!(first, FIN | CLOSE);
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            let words = String::from_utf8(payload[2..].to_vec()).unwrap();
            assert_eq!((&bye["t"], &bye["code"]), (&json!("disconnect"), &json!(code)), "{bye}");
            assert_eq!(bye["msg"], words);
            return (code, words);
        }
    }

    /// Asserts that the connection is alive: a command is answered.
    pub async fn is_alive(&mut self) {
        self.is_answered(77).await;
    }

    /// Asserts that a command with this number is answered.
    pub async fn is_answered(&mut self, id: u32) {
        self.text(&format!(r#"{{"t":"ping","id":{id}}}"#)).await;
        let answer = self.heard().await;
        assert!(answer.contains(&id.to_string()), "{answer}");
    }

    /// Skips everything up to the close frame, and returns its code and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            let (first, payload) = self.frame().await;
            if first == FIN | CLOSE {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                return (code, String::from_utf8(payload[2..].to_vec()).unwrap());
            }
        }
    }

    /// Reads to the end of the stream.
    pub async fn end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        within(self.stream.read_to_end(&mut rest)).await.unwrap();
        rest
    }
}

/// A masked frame (RFC 6455 section 5.2).
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        middle @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(middle as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// A close frame with a code.
pub fn close(code: u16) -> Vec<u8> {
    frame(FIN | CLOSE, &code.to_be_bytes())
}

//! A server, and a client that reads an event stream line by line.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use flate2::write::GzDecoder;
use im_core::engine::{Engine, EngineConfig};
use im_http::{Edge, Listener, ListenerConfig, UplinkConfig};
use im_testkit::transport_suite::http::{Answer, Client};
use im_transport_sse::{Sse, SseConfig};
use serde_json::{Value, json};

/// Fails the test instead of letting it hang.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

pub async fn engine(config: EngineConfig) -> Engine {
    Engine::builder().allow_anonymous().config(config).start().await.unwrap()
}

pub fn edge(engine: &Engine) -> Edge {
    edge_with(engine, SseConfig::default())
}

pub fn edge_with(engine: &Engine, config: SseConfig) -> Edge {
    let sse = Sse::new(engine.clone(), config);
    Edge::new(engine.clone(), UplinkConfig::default()).mount(sse)
}

/// Serves on a free port for as long as the test's runtime lives.
pub async fn listen(engine: &Engine, config: ListenerConfig) -> SocketAddr {
    serve(edge(engine), config).await
}

pub async fn serve(edge: Edge, config: ListenerConfig) -> SocketAddr {
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge.at("/im")));
    address
}

pub async fn ask(at: SocketAddr, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut client = Client::connect(at).await.unwrap();
    within(client.ask(head, &headers, body)).await.unwrap()
}

/// A user's session.
pub struct Session {
    pub at: SocketAddr,
    pub name: String,
}

impl Session {
    pub async fn open(at: SocketAddr, user: &str) -> Self {
        let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user}).to_string();
        let json = [("content-type", "application/json")];
        let answer = ask(at, "POST /im/send", &json, hello.as_bytes()).await;
        let welcome = &answer.json()[0];
        let text = |name: &str| welcome[name].as_str().unwrap().to_owned();
        Self { at, name: format!("{} {}", text("session"), text("secret")) }
    }

    pub async fn call(&self, command: Value) -> Value {
        let headers = [("content-type", "application/json"), ("im-session", &*self.name)];
        let body = command.to_string();
        let answer = ask(self.at, "POST /im/send", &headers, body.as_bytes()).await;
        answer.json()[0].clone()
    }

    pub async fn say(&self, room: &str, text: &str) {
        let mid = format!("{:0>24}", text.bytes().map(u64::from).sum::<u64>());
        let send = json!({"t": "send", "id": 3, "room": room, "mid": mid, "content": text});
        assert_eq!(self.call(send).await["t"], "ok");
    }

    /// Creates a room and subscribes to it.
    pub async fn room(&self, room: &str) {
        self.call(json!({"t": "create", "id": 2, "room": room, "open": true})).await;
        self.call(json!({"t": "subscribe", "id": 2, "room": room})).await;
    }

    pub async fn stream(&self, query: &str, headers: &[(&'static str, &str)]) -> Stream {
        let session = [("im-session", &*self.name)];
        let headers: Vec<_> = headers.iter().chain(&session).copied().collect();
        Stream::open(self.at, query, &headers).await
    }
}

/// An event stream.
pub struct Stream {
    client: Client,
    pub head: Answer,
    /// The last stream position received.
    pub at: String,
    /// Bytes received over the network.
    pub bytes: usize,
    inflate: Option<GzDecoder<Vec<u8>>>,
    read: Vec<u8>,
    ended: bool,
}

impl Stream {
    pub async fn open(at: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut client = Client::connect(at).await.unwrap();
        client.begin(&format!("GET /im/sse{query}"), &headers, b"").await.unwrap();
        let head = within(client.answer()).await.unwrap();
        assert_eq!(head.status, 200, "{head:?}");
        let packed = head.header("content-encoding") == Some("gzip");
        let mut stream = Self {
            client,
            head,
            at: String::new(),
            bytes: 0,
            inflate: packed.then(|| GzDecoder::new(Vec::new())),
            read: Vec::new(),
            ended: false,
        };
        assert_eq!(stream.block().await.as_deref(), Some("retry: 1500"));
        // The stream can be resumed from its start, and a script can read the position.
        let block = stream.block().await.unwrap();
        let at = &stream.at;
        assert_eq!(block, format!("data: {{\"t\":\"position\",\"at\":\"{at}\"}}\nid: {at}"));
        stream
    }

    /// Returns the next block, without the empty line after it; `None` at the end of the stream.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|pair| pair == b"\n\n") {
                let block = String::from_utf8(self.read[..at].to_vec()).unwrap();
                self.read.drain(..at + 2);
                let position = block.lines().find_map(|line| line.strip_prefix("id: "));
                self.at = position.unwrap_or(&self.at).to_owned();
                return Some(block);
            }
            if self.ended {
                assert!(self.read.is_empty(), "a block is incomplete");
                return None;
            }
            match within(self.client.chunk()).await.unwrap() {
                Some(chunk) => self.take(&chunk),
                None => {
                    self.ended = true;
                    if let Some(inflate) = &mut self.inflate {
                        inflate.try_finish().expect("the stream ends as gzip does");
                    }
                }
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len();
        let Some(inflate) = &mut self.inflate else { return self.read.extend_from_slice(chunk) };
        inflate.write_all(chunk).unwrap();
        inflate.flush().unwrap();
        self.read.append(inflate.get_mut());
        assert!(
            self.read.is_empty() || self.read.ends_with(b"\n\n"),
            "a part of a block is pending"
        );
    }

    /// Returns abbreviated blocks up to one that starts with `start`.
    pub async fn until(&mut self, start: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        loop {
            let block = self.block().await.expect("the stream ended");
            let last = block.starts_with(start);
            blocks.push(brief(&block));
            if last {
                return blocks;
            }
        }
    }

    /// Returns all remaining blocks.
    pub async fn rest(&mut self) -> Vec<String> {
        let mut blocks = Vec::new();
        while let Some(block) = self.block().await {
            blocks.push(brief(&block));
        }
        blocks
    }

    /// Returns the next stream position, with any message.
    pub async fn position(&mut self) -> String {
        while !self.block().await.expect("the stream ended").contains("\nid: ") {}
        self.at.clone()
    }
}

/// Abbreviates a message.
fn brief(block: &str) -> String {
    let Some(data) = block.strip_prefix("data: ") else { return block.to_owned() };
    let data = data.lines().next().unwrap();
    let frame: Value = serde_json::from_str(data).unwrap();
    match frame["t"].as_str().unwrap() {
        "event" => format!("event {}", frame["content"]),
        "room" => format!("{} {}", frame["room"], frame["status"]).replace('"', ""),
        "disconnect" => format!("disconnect {}", frame["code"]),
        other => other.to_owned(),
    }
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

//! The shop over real sockets: log in, open the WebSocket with the cookie, order, receive the
//! message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this file is all test")]

use std::process::Stdio;
use std::time::Duration;

use embed_axum::{Shop, chat, routes};
use futures::{SinkExt, StreamExt};
use im_http::{Listener, ListenerConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PATIENCE: Duration = Duration::from_secs(20);

/// Serves a new shop and returns its address.
async fn open_shop() -> String {
    open_shop_with(ListenerConfig::default()).await
}

async fn open_shop_with(config: ListenerConfig) -> String {
    let shop = Shop::open().await.unwrap();
    tokio::spawn(chat::clerk(shop.chat.clone(), shop.orders.clone()));
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(listener.serve(routes::router(shop)));
    address
}

/// Sends one HTTP request over a raw socket; returns the status line with headers, and the body.
async fn http(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let mut request = format!("{line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    request.push_str(&format!("content-length: {}\r\n", body.len()));
    headers.iter().for_each(|(name, value)| request.push_str(&format!("{name}: {value}\r\n")));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Logs in and returns the session cookie.
async fn log_in(address: &str, name: &str) -> String {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (head, _) =
        http(address, "POST /login", &form, &format!("name={name}&password={name}")).await;
    assert!(head.starts_with("HTTP/1.1 303"), "{head}");
    assert!(head.contains("HttpOnly") && head.contains("SameSite=Lax"), "{head}");
    let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// A client with nothing but the wire's JSON.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    pushed: Vec<Value>,
}

impl Client {
    async fn connect(address: &str, cookie: Option<&str>) -> Self {
        let mut request = format!("ws://{address}/chat/ws").into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", "im.v1.json".parse().unwrap());
        if let Some(cookie) = cookie {
            headers.insert("cookie", cookie.parse().unwrap());
        }
        let (socket, _) = connect_async(request).await.unwrap();
        Self { socket, last: 0, pushed: Vec::new() }
    }

    async fn frames(&mut self) -> Vec<Value> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next())
                .await
                .expect("no frame arrived in time");
            if let Message::Text(text) = next.expect("the connection ended").unwrap() {
                return match serde_json::from_str(&text).unwrap() {
                    Value::Array(frames) => frames,
                    frame => vec![frame],
                };
            }
        }
    }

    /// Sends a command and returns its ack.
    async fn ask(&mut self, mut command: Value) -> Value {
        self.last += 1;
        command["id"] = self.last.into();
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let (replies, pushed) =
                self.frames().await.into_iter().partition::<Vec<_>, _>(|f| f["id"] == self.last);
            self.pushed.extend(pushed);
            if let Some(reply) = replies.into_iter().next() {
                return reply;
            }
        }
    }

    /// Waits for an event with this text.
    async fn hear(&mut self, text: &str) -> Value {
        loop {
            if let Some(at) = self.pushed.iter().position(|frame| frame["content"]["text"] == text)
            {
                return self.pushed.remove(at);
            }
            let frames = self.frames().await;
            self.pushed.extend(frames);
        }
    }
}

fn hello() -> Value {
    json!({"t": "hello", "v": 1})
}

#[tokio::test]
async fn order_reaches_team_and_clerk_replies() {
    let address = open_shop().await;
    let (ada, bela) = (log_in(&address, "ada").await, log_in(&address, "bela").await);

    let mut client = Client::connect(&address, Some(&bela)).await;
    let welcome = client.ask(hello()).await;
    assert_eq!((&welcome["t"], &welcome["user"]), (&json!("ok"), &json!("bela")), "{welcome}");
    let status = client.ask(json!({"t": "subscribe", "room": "team"})).await;
    assert_eq!(status["rooms"][0]["status"], "ok", "{status}");

    let headers = [("cookie", &*ada), ("content-type", "application/json")];
    let (head, body) =
        http(&address, "POST /orders", &headers, r#"{"item": "two boxes of pears"}"#).await;
    assert!(head.starts_with("HTTP/1.1 201"), "{head}\n{body}");
    let told = client.hear("Order 1: two boxes of pears (for ada)").await;
    assert_eq!(told["from"], "clerk");

    let send = json!({"t": "send", "room": "team", "mid": "0123456789abcdef0123456789abcdef",
        "content": {"text": "how many orders?"}});
    assert_eq!(client.ask(send).await["t"], "ok");
    assert_eq!(client.hear("1 so far.").await["from"], "clerk");
}

/// A probe needs no login, and the answer has no more than it needs.
#[tokio::test]
async fn readiness_probe_is_answered() {
    let address = open_shop().await;
    let (head, body) = http(&address, "GET /ready", &[], "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body.contains("ready: running, memory answers in"), "{body}");
}

#[tokio::test]
async fn anonymous_requests_are_refused() {
    let address = open_shop().await;
    let (head, _) = http(&address, "GET /orders", &[], "").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let (head, _) = http(&address, "GET /orders", &[("cookie", "shop=made-up")], "").await;
    assert!(head.starts_with("HTTP/1.1 401"), "{head}");
    let (head, _) = http(&address, "GET /", &[], "").await;
    assert!(head.starts_with("HTTP/1.1 303") && head.contains("location: /login"), "{head}");

    let form = [("content-type", "application/x-www-form-urlencoded")];
    let (head, body) = http(&address, "POST /login", &form, "name=ada&password=wrong").await;
    assert!(head.starts_with("HTTP/1.1 401") && !head.contains("set-cookie"), "{head}");
    assert!(body.contains(r#"role="alert">Name or password are wrong"#), "{body}");

    let refused = Client::connect(&address, None).await.ask(hello()).await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4300)), "{refused}");
    let refused = Client::connect(&address, Some("shop=made-up")).await.ask(hello()).await;
    assert_eq!((&refused["t"], &refused["code"]), (&json!("err"), &json!(4301)), "{refused}");
    // A claimed user does not help: the cookie alone counts.
    let claim = json!({"t": "hello", "v": 1, "user": "ada"});
    let refused = Client::connect(&address, Some("shop=made-up")).await.ask(claim).await;
    assert_eq!(refused["code"], 4301, "{refused}");
}

/// The shop's own routes are bounded like the engine's: a body that never arrives holds no socket.
#[tokio::test]
async fn stalled_bodies_end_their_connection() {
    let config = ListenerConfig::default().body_timeout(Duration::from_millis(50));
    let address = open_shop_with(config).await;
    let form = "content-type: application/x-www-form-urlencoded\r\ncontent-length: 2000000";
    let head = format!("POST /login HTTP/1.1\r\nhost: {address}\r\n{form}\r\n\r\n");
    for sent in ["", "name=ada"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(format!("{head}{sent}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer));
        read.await.expect("the connection did not end").unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("connection: close"),
            "{answer}"
        );
    }
    log_in(&address, "ada").await;
}

/// Logging out of the shop also ends the chat connection of that login.
#[tokio::test]
async fn logout_disconnects_chat() {
    let address = open_shop().await;
    let cookie = log_in(&address, "chidi").await;
    let mut client = Client::connect(&address, Some(&cookie)).await;
    assert_eq!(client.ask(hello()).await["t"], "ok");
    let (head, _) = http(&address, "POST /logout", &[("cookie", &cookie)], "").await;
    assert!(head.starts_with("HTTP/1.1 303"), "{head}");
    let bye = client.frames().await.pop().unwrap();
    assert_eq!((&bye["t"], &bye["code"]), (&json!("disconnect"), &json!(4601)), "{bye}");
    let refused = Client::connect(&address, Some(&cookie)).await.ask(hello()).await;
    assert_eq!(refused["code"], 4301, "{refused}");
}

/// SIGTERM disconnects the clients with a retry delay, and the process exits with 0.
#[cfg(unix)]
#[tokio::test]
async fn terminated_server_asks_clients_to_return() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_embed-axum"))
        .args(["--listen", "127.0.0.1:0"])
        .envs([("RUST_LOG", "info"), ("NO_COLOR", "1")])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap()).lines();
    let address = loop {
        let line = said.next_line().await.unwrap().expect("the server did not log its address");
        if let Some((_, rest)) = line.split_once("open http://") {
            break rest.split(' ').next().unwrap().to_owned();
        }
    };
    let cookie = log_in(&address, "bela").await;
    let mut client = Client::connect(&address, Some(&cookie)).await;
    assert_eq!(client.ask(hello()).await["t"], "ok");

    let kill = format!("kill -TERM {}", server.id().unwrap());
    assert!(Command::new("sh").args(["-c", &kill]).status().await.unwrap().success());
    let bye = client.frames().await.pop().unwrap();
    assert_eq!((&bye["t"], &bye["code"]), (&json!("disconnect"), &json!(4001)), "{bye}");
    drop(client);
    let ended =
        tokio::time::timeout(PATIENCE, server.wait()).await.expect("the server did not exit");
    assert_eq!(ended.unwrap().code(), Some(0));
}

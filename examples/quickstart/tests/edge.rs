//! The edge of the real binary: bounds on open files, and pages behind a proxy.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, ChildStdout, Command};

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

struct Server {
    _process: Child,
    address: SocketAddr,
    /// Its log until it listens.
    before: String,
    log: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts on a free port, in a shell that runs `first` before.
    async fn start(first: &str, arguments: &str) -> Self {
        let binary = env!("CARGO_BIN_EXE_quickstart");
        let line = format!("{first} exec {binary} --listen 127.0.0.1:0 {arguments}");
        let mut process = Command::new("sh")
            .args(["-c", &line])
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut before = String::new();
        loop {
            let line =
                within(log.next_line()).await.unwrap().expect("the server did not log its address");
            before += &line;
            if let Some((_, rest)) = line.split_once("open http://") {
                let address = rest.split(' ').next().unwrap().parse().unwrap();
                return Self { _process: process, address, before, log };
            }
        }
    }

    /// Sends a request and returns its response, which fits into one read.
    async fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream).await
    }

    /// Returns the next warning.
    async fn warning(&mut self) -> String {
        loop {
            let line =
                within(self.log.next_line()).await.unwrap().expect("the server logged no warning");
            if line.contains("WARN") {
                return line;
            }
        }
    }
}

async fn read(stream: &mut TcpStream) -> String {
    let mut some = [0; 8192];
    let count = within(stream.read(&mut some)).await.unwrap_or(0);
    String::from_utf8_lossy(&some[..count]).into_owned()
}

async fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    within(socket.connect(to)).await.unwrap()
}

/// Posts commands and returns the whole response.
async fn post(stream: &mut TcpStream, body: &str) -> String {
    let post = format!(
        "POST /im/send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(post.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let is_whole = |answer: &str| {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        Some(body.len() >= length.parse().unwrap())
    };
    while is_whole(&answer) != Some(true) {
        let more = read(stream).await;
        assert!(!more.is_empty(), "the connection ended: {answer}");
        answer += &more;
    }
    answer
}

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Connections of one address leave file descriptors for clients of other addresses.
#[tokio::test]
async fn one_address_cannot_exhaust_files() {
    let data = tempfile::tempdir().unwrap();
    let store = format!("--store sqlite:{}/im.db", data.path().display());
    let mut server = Server::start("ulimit -n 256;", &store).await;
    let mut held = Vec::new();
    let mut refused = false;
    while !refused && held.len() < 256 {
        let mut stream = connect_from("127.0.0.1", server.address).await;
        let _ = stream.write_all(UPGRADE.as_bytes()).await;
        refused = !read(&mut stream).await.starts_with("HTTP/1.1 101");
        held.push(stream);
    }
    assert!(refused, "one address has taken {} sockets", held.len());
    let limits = server.warning().await;
    assert!(limits.contains("ulimit -n") && limits.contains("256"), "{limits}");
    let full = server.warning().await;
    assert!(full.contains("127.0.0.1") && full.contains("max_connections_per_address"), "{full}");
    // A client of another address is accepted, and the store has files to write to.
    let mut newcomer = connect_from("127.0.0.2", server.address).await;
    let body = r#"[{"t":"hello","id":1,"v":1,"user":"ann"},{"t":"create","id":2,"room":"tea"}]"#;
    let answer = post(&mut newcomer, body).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""seq":1"#), "{answer}");
}

/// Without flags: the bounds of sessions and rooms in `--help`.
#[tokio::test]
async fn quotas_per_address_are_enabled() {
    let server = Server::start("", "--store memory").await;
    assert!(server.before.contains("quotas as"), "{}", server.before);
    let mut greedy = connect_from("127.0.0.1", server.address).await;
    let mut rooms = r#"[{"t":"hello","id":0,"v":1,"user":"eve"}"#.to_owned();
    for id in 1..=31 {
        rooms += &format!(r#",{{"t":"create","id":{id},"room":"r{id}"}}"#);
    }
    let answer = post(&mut greedy, &format!("{rooms}]")).await;
    assert_eq!(answer.matches(r#""seq":1"#).count(), 30, "{answer}");
    assert!(answer.contains(r#""code":4200"#) && answer.contains(r#""retry_ms":"#), "{answer}");
    let mut opened = 1;
    let refused = loop {
        let hello = format!(r#"{{"t":"hello","id":1,"v":1,"user":"u{opened}"}}"#);
        let answer = post(&mut greedy, &hello).await;
        if !answer.starts_with("HTTP/1.1 200") {
            break answer;
        }
        opened += 1;
        assert!(opened < 1_000, "one address has opened {opened} sessions");
    };
    assert!(opened >= 300, "{opened} sessions: {refused}");
    assert!(refused.starts_with("HTTP/1.1 429") && refused.contains("4200"), "{refused}");
    let told = r#"too many sessions of this address"#;
    assert!(refused.contains(told) && refused.contains(r#""retry_ms":"#), "{refused}");
    let mut newcomer = connect_from("127.0.0.2", server.address).await;
    let answer = post(
        &mut newcomer,
        r#"[{"t":"hello","id":1,"v":1,"user":"ann"},{"t":"create","id":2,"room":"tea"}]"#,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""seq":1"#), "{answer}");
}

/// A page of a foreign name that resolves here (DNS rebinding) has an origin of the same name.
#[tokio::test]
async fn foreign_host_of_upgrade_is_refused() {
    let server = Server::start("", "--store memory").await;
    for (host, status) in [("localhost", 101), ("evil.example", 403)] {
        let named = format!("host: {host}\r\norigin: http://{host}");
        let answer = server.ask(&UPGRADE.replace("host: localhost", &named)).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.contains("4511"), status == 403, "{answer}");
    }
}

/// The router strips the prefix, and a slash with it.
#[tokio::test]
async fn double_slash_is_refused() {
    let server = Server::start("", "--store memory").await;
    for (path, status) in [("/im", "200"), ("/im/", "200"), ("/im//", "400"), ("/im//poll", "400")]
    {
        let answer = server.ask(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn soft_file_limit_is_raised() {
    let server = Server::start("ulimit -S -n 200;", "--store memory").await;
    assert!(!server.before.contains("ulimit -n 200"), "{}", server.before);
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut stream = connect_from("127.0.0.1", server.address).await;
        stream.write_all(UPGRADE.as_bytes()).await.unwrap();
        assert!(read(&mut stream).await.starts_with("HTTP/1.1 101"), "after {}", held.len());
        held.push(stream);
    }
}

/// A Host that a proxy rewrote is logged with the flag that allows it.
#[tokio::test]
async fn rewritten_host_is_logged_and_allowed() {
    let mut server = Server::start("", "--store memory").await;
    let port = server.address.port();
    let request = |host: &str, path: &str| {
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\norigin: https://chat.example.org\r\n\r\n")
    };
    let rewritten = request(&format!("127.0.0.1:{port}"), "/im");
    let refused = server.ask(&rewritten).await;
    assert!(refused.starts_with("HTTP/1.1 403") && refused.contains("4511"), "{refused}");
    let warning = server.warning().await;
    for words in
        ["https://chat.example.org", &format!("127.0.0.1:{port}"), "--origin", "proxies.md"]
    {
        assert!(warning.contains(words), "{words}: {warning}");
        assert!(words == "proxies.md" || refused.contains(words), "{words}: {refused}");
    }
    let kept = request("chat.example.org", "/im");
    assert!(server.ask(&kept).await.starts_with("HTTP/1.1 403"));
    assert!(server.warning().await.contains("chat.example.org"));
    // The same holds for a page of the server itself.
    assert!(server.ask(&request("evil.example", "/")).await.starts_with("HTTP/1.1 403"));

    let server = Server::start("", "--store memory --origin https://chat.example.org").await;
    let rewritten = request(&server.address.to_string(), "/im");
    for request in [&rewritten, &kept] {
        let answer = server.ask(request).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    let ws =
        UPGRADE.replace("host: localhost", "host: localhost\r\norigin: https://chat.example.org");
    assert!(server.ask(&ws).await.starts_with("HTTP/1.1 101"));
    let foreign = rewritten.replace("https://chat", "https://evil");
    assert!(server.ask(&foreign).await.starts_with("HTTP/1.1 403"));
}

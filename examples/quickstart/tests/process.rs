//! The real binary: its shutdown, and folders that it refuses.
#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout, Command};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap()
}

struct Server {
    process: Child,
    address: String,
    /// Kept open, so that the process can write its log.
    _said: Lines<BufReader<ChildStdout>>,
}

impl Server {
    /// Starts on a free port and waits for the logged address.
    async fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_quickstart"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        loop {
            let line = within(said.next_line())
                .await
                .unwrap()
                .expect("the server did not log its address");
            if let Some((_, rest)) = line.split_once("open http://") {
                let address = rest.split(' ').next().unwrap().to_owned();
                return Self { process, address, _said: said };
            }
        }
    }

    async fn connect(&self) -> Socket {
        within(connect_async(format!("ws://{}/ws", self.address))).await.unwrap().0
    }

    /// Sends the signal with this name.
    async fn signal(&self, name: &str) {
        let id = self.process.id().unwrap();
        let command = format!("kill -{name} {id}");
        assert!(Command::new("sh").args(["-c", &command]).status().await.unwrap().success());
    }
}

async fn ask(socket: &mut Socket, command: Value) -> Value {
    socket.send(Message::text(command.to_string())).await.unwrap();
    loop {
        let Some(Ok(Message::Text(text))) = within(socket.next()).await else {
            panic!("no answer")
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        if frame["id"] == command["id"] {
            return frame;
        }
    }
}

/// Reads everything up to the end: the frames, and the close code.
async fn ending(socket: &mut Socket) -> (Vec<Value>, u16) {
    let mut frames = Vec::new();
    loop {
        match within(socket.next()).await {
            Some(Ok(Message::Text(text))) => frames.push(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Close(Some(close)))) => return (frames, close.code.into()),
            Some(Ok(_)) => {}
            other => panic!("it ended without a close frame: {other:?}"),
        }
    }
}

/// SIGTERM and SIGINT disconnect with a retry delay and close the store.
#[tokio::test]
async fn terminated_server_asks_clients_to_return() {
    for signal in ["TERM", "INT"] {
        let data = tempfile::tempdir().unwrap();
        let folder = data.path().to_str().unwrap();
        let mut server = Server::start(&["--store", &format!("sled:{folder}")]).await;
        let mut ann = server.connect().await;
        let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
        assert_eq!(ask(&mut ann, hello).await["t"], "ok");
        let create = json!({"t": "create", "id": 2, "room": "tea", "open": true});
        assert_eq!(ask(&mut ann, create).await["seq"], 1);

        server.signal(signal).await;
        let (frames, code) = ending(&mut ann).await;
        let bye = frames.last().unwrap();
        assert_eq!(
            (&bye["t"], &bye["code"], code),
            (&json!("disconnect"), &json!(4001), 4001),
            "{bye}"
        );
        assert!(bye["retry_ms"].is_u64(), "the disconnect has a retry delay: {bye}");
        drop(ann);
        assert_eq!(within(server.process.wait()).await.unwrap().code(), Some(0), "{signal}");

        let status = std::fs::read_to_string(data.path().join("status")).unwrap();
        assert!(status.contains("left closed"), "the store was closed: {status}");
    }
}

/// Starts a server that must refuse its folder, and returns its error.
async fn refused(folder: &str) -> String {
    let server = Command::new(env!("CARGO_BIN_EXE_quickstart"))
        .args(["--listen", "127.0.0.1:0", "--store", &format!("sled:{folder}")])
        .output();
    let server = within(server).await.unwrap();
    assert_eq!(server.status.code(), Some(1));
    String::from_utf8(server.stderr).unwrap()
}

/// A folder of a newer version or without its data is refused, and the error names it.
#[tokio::test]
async fn newer_or_emptied_folder_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let mut server = Server::start(&["--store", &format!("sled:{folder}")]).await;
    server.signal("KILL").await;
    within(server.process.wait()).await.unwrap();

    let status = data.path().join("status");
    let text = std::fs::read_to_string(&status).unwrap();
    std::fs::write(&status, text.replace("im-store-sled 2\n", "im-store-sled 3\n")).unwrap();
    let words = refused(folder).await;
    assert!(words.contains("newer version") && words.contains(folder), "{words}");
    std::fs::write(&status, text).unwrap();

    std::fs::remove_dir_all(data.path().join("sled")).unwrap();
    let words = refused(folder).await;
    assert!(words.contains("lost its data") && words.contains(folder), "{words}");
}

#[tokio::test]
async fn folder_in_use_refuses_second_server() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let first = Server::start(&["--store", &format!("sled:{folder}")]).await;
    let words = refused(folder).await;
    assert!(words.contains("in use by another process") && words.contains(folder), "{words}");

    let mut ann = first.connect().await;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
    assert_eq!(ask(&mut ann, hello).await["t"], "ok", "the first server is unaffected");
    let create = json!({"t": "create", "id": 2, "room": "tea", "open": true});
    assert_eq!(ask(&mut ann, create).await["seq"], 1);
}

/// Runs a subcommand, and returns its standard output.
async fn command(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_quickstart")).args(arguments).output();
    let done = within(done).await.unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The messages survive export, import, backup and restore unchanged.
#[tokio::test]
async fn export_import_backup_restore_keep_messages() {
    let all = tempfile::tempdir().unwrap();
    let folder = |name: &str| all.path().join(name).to_str().unwrap().to_owned();
    let [data, other, restored] =
        ["data", "other", "restored"].map(|name| format!("sled:{}", folder(name)));
    let backup = folder("backup");
    let mut server = Server::start(&["--store", &data]).await;
    let mut ann = server.connect().await;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
    assert_eq!(ask(&mut ann, hello).await["t"], "ok");
    let create = json!({"t": "create", "id": 2, "room": "tea", "open": true});
    assert_eq!(ask(&mut ann, create).await["seq"], 1);
    let send = json!({"t": "send", "id": 3, "room": "tea", "mid": "a-message-id-of-ann", "content": {"text": "🦀"}});
    assert_eq!(ask(&mut ann, send).await["seq"], 2);
    server.signal("KILL").await;
    within(server.process.wait()).await.unwrap();

    let lines = command(&["--store", &data, "export"]).await;
    assert!(lines.contains("🦀") && lines.lines().all(|line| line.starts_with('{')), "{lines}");
    let file = folder("rooms.jsonl");
    command(&["export", "--store", &data, "--room", "tea", &file]).await;
    command(&["import", "--store", &other, &file]).await;
    let room = |lines: &str| {
        let tea = lines.lines().skip_while(|line| !line.contains("\"id\":\"tea\""));
        tea.take(4).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(room(&command(&["export", "--store", &other]).await), room(&lines));

    command(&["backup", "--store", &data, &backup]).await;
    command(&["restore", "--store", &restored, &backup]).await;
    assert_eq!(command(&["export", "--store", &restored]).await, lines);
}

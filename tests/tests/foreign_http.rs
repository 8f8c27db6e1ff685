//! Independent clients read a room over plain HTTP, while others write and connections break: the
//! `EventSource` of Chromium and npm's, and curl by the lines in `wire/SPEC.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::response::Html;
use axum::routing::get;
use im_core::UserId;
use im_core::engine::Engine;
use im_core::ports::{AllowAnonymous, Authenticator, Identity, StaticTokens, Unlimited};
use im_http::{Edge, UplinkConfig};
use im_testkit::transport_suite::http::Client;
use im_tests::proxy::Proxy;
use im_tests::{browser, foreign, skip};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use serde_json::{Value, json};
use tokio::process::Command;

/// After how many bytes each stream is cut: in the head of what it replays, in its middle, and far
/// behind. The last stream is whole.
const CUTS: [usize; 8] = [1500, 2000, 3000, 4000, 6000, 9000, 14_000, 20_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_event_source_resumes_its_stream() {
    let (chromium, modules) = match browser::needs() {
        Ok(needs) => needs,
        Err(missing) => return skip("chromium_event_source_resumes_its_stream", &missing),
    };
    let mut client = Command::new("node");
    client
        .arg(browser::script("event_source.mjs"))
        .env("IM_TEST_CHROMIUM", chromium)
        .env("IM_TEST_NODE_MODULES_BROWSER", modules);
    reads_through_cuts(client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_event_source_resumes_its_stream() {
    let Some(client) = foreign::node("node_event_source_resumes_its_stream", "event_source.cjs")
    else {
        return;
    };
    reads_through_cuts(client).await;
}

/// Bob writes without a pause, and Ann's stream is cut in the middle repeatedly.
async fn reads_through_cuts(mut client: Command) {
    let tokens = ["ann", "bob"].into_iter().fold(StaticTokens::new(), |tokens, user| {
        tokens.with(format!("{user}'s"), Identity::of(UserId::new(user).unwrap()))
    });
    let address = serve(Arc::new(tokens)).await;
    let proxy = Proxy::start(address, "GET /im/sse").await;
    proxy.cut_next(CUTS);
    let mut bob = Speaker::new(address, "bob", Some("bob's")).await;
    bob.command(json!({"t": "create", "id": 2, "room": "tea", "open": true})).await;

    client.arg(format!("http://{}", proxy.address())).args(["ann's", "tea"]);
    let writing = async {
        proxy.was_asked(1).await;
        let mut said = 0_usize;
        while proxy.asked() <= CUTS.len() {
            bob.say("tea", json!({"n": said, "noise": noise(said)})).await;
            said += 1;
        }
        bob.say("tea", json!({"n": said, "last": true})).await;
        said + 1
    };
    let (told, said) = tokio::join!(foreign::run(client), writing);

    let told: Value = serde_json::from_str(told.trim()).unwrap();
    let start = told["start"].as_u64().unwrap();
    let taken: Vec<(u64, u64)> = told["taken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_u64().unwrap(), pair[1]["n"].as_u64().unwrap()))
        .collect();
    let all: Vec<(u64, u64)> = (0..said as u64).map(|n| (start + 1 + n, n)).collect();
    assert_eq!(taken, all, "every event, once, in order");
    let streams = told["opened"].as_u64().unwrap() + told["refused"].as_u64().unwrap();
    assert_eq!(streams, CUTS.len() as u64 + 1);
    // Both clients request it by themselves.
    let heads = proxy.heads();
    let mut opened = heads.iter().filter(|head| head.starts_with("HTTP/1.1 200"));
    assert!(opened.all(|head| head.contains("content-encoding: gzip")), "{heads:?}");
}

/// Text that compresses badly.
fn noise(seed: usize) -> String {
    let mut state = seed as u64 + 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 16
    };
    (0..10).map(|_| format!("{:012x}", next())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_polls_by_spec_lines() {
    if Command::new("curl").arg("--version").output().await.is_err() {
        return skip("curl_polls_by_spec_lines", "curl is not installed");
    }
    let address = serve(Arc::new(AllowAnonymous)).await;
    let proxy = Proxy::start(address, "GET /im/poll").await;
    let mut shell = Shell { at: proxy.address(), known: Vec::new() };
    let lines = lines_of_the_spec();
    let [open, send, first, long, short, conditional] = &lines[..] else { panic!("{lines:?}") };

    let replies: Value = serde_json::from_str(&shell.run(open).await).unwrap();
    assert_eq!(replies.as_array().unwrap().len(), 3);
    assert!(replies.as_array().unwrap().iter().all(|reply| reply["t"] == "ok"), "{replies}");
    let welcome = replies.as_array().unwrap().iter().find(|reply| reply["id"] == 1).unwrap();
    shell.know("SESSION", welcome["session"].as_str().unwrap());
    shell.know("SECRET", welcome["secret"].as_str().unwrap());
    assert_eq!(serde_json::from_str::<Value>(&shell.run(send).await).unwrap()[0]["seq"], 2);
    assert_eq!(shell.poll(first).await, ["room ok", "2 Is anybody there?"]);

    // The long poll waits, and its response is cut: curl reports it, and the same line returns it
    // again.
    let mut bob = Speaker::new(address, "bob", None).await;
    bob.command(json!({"t": "join", "id": 2, "room": "tea"})).await;
    assert_eq!(shell.poll(long).await, ["3 im.members"]);
    proxy.cut_next([250]);
    let asked = proxy.asked();
    let held = async {
        proxy.was_asked(asked + 1).await;
        bob.say("tea", json!({"text": "Here I am."})).await;
    };
    let (broken, ()) = tokio::join!(shell.output(long), held);
    assert!(!broken.status.success(), "{broken:?}");
    assert_eq!(shell.poll(long).await, ["4 Here I am."]);

    assert_eq!(shell.poll(short).await, [""; 0]);
    let unchanged = shell.run(conditional).await;
    assert!(unchanged.starts_with("HTTP/1.1 304"), "{unchanged}");
    let mark = shell.known.last().unwrap().1.clone();
    assert!(unchanged.contains(&format!("etag: \"{mark}\"")), "{unchanged}");
    bob.say("tea", json!({"text": "And now?"})).await;
    let changed = shell.run(conditional).await;
    assert!(changed.starts_with("HTTP/1.1 200") && changed.contains("And now?"), "{changed}");
    assert_eq!(shell.poll(short).await, ["5 And now?"]);
}

/// Returns the block of commands in the section on curl.
fn lines_of_the_spec() -> Vec<String> {
    let spec = std::fs::read_to_string(foreign::spec()).unwrap();
    let section = spec.split("### By hand with curl").nth(1).unwrap();
    let block = section.split("```").nth(1).unwrap();
    block.lines().filter(|line| line.starts_with("curl ")).map(str::to_owned).collect()
}

/// A shell for the lines, which replaces their placeholders by known values.
struct Shell {
    at: SocketAddr,
    known: Vec<(&'static str, String)>,
}

impl Shell {
    fn know(&mut self, name: &'static str, value: &str) {
        self.known.retain(|(known, _)| *known != name);
        self.known.push((name, value.to_owned()));
    }

    async fn output(&self, line: &str) -> std::process::Output {
        let mut line = line.replace("127.0.0.1:8080", &self.at.to_string());
        for (name, value) in &self.known {
            line = line.replace(name, value);
        }
        println!("{line}");
        Command::new("sh").args(["-c", &line]).kill_on_drop(true).output().await.unwrap()
    }

    async fn run(&self, line: &str) -> String {
        let output = self.output(line).await;
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        println!("  {told}");
        told
    }

    /// Runs a poll and returns its frames in short. Its position is known from then on.
    async fn poll(&mut self, line: &str) -> Vec<String> {
        let mut frames: Vec<Value> = serde_json::from_str(&self.run(line).await).unwrap();
        let mark = frames.pop().unwrap();
        assert_eq!(mark["t"], "position");
        self.know("MARK", mark["at"].as_str().unwrap());
        let brief = |frame: &Value| match &frame["content"]["text"] {
            Value::String(text) => format!("{} {text}", frame["seq"]),
            _ if frame["t"] == "event" => format!("{} {}", frame["seq"], frame["kind"]),
            _ => format!("{} {}", frame["t"], frame["status"]),
        };
        frames.iter().map(|frame| brief(frame).replace('"', "")).collect()
    }
}

/// Starts a server for one test, which ends with the test's runtime. Beside the protocol it has an
/// empty page.
async fn serve(users: Arc<dyn Authenticator>) -> SocketAddr {
    let engine = Engine::builder().authenticator(users).rate_limiter(Arc::new(Unlimited));
    let engine = engine.start().await.unwrap();
    let sse = SseConfig::default().retry(Duration::from_millis(20)).max_write_bytes(600);
    let edge = Edge::new(engine.clone(), UplinkConfig::default())
        .mount(Sse::new(engine.clone(), sse))
        .mount(LongPoll::new(engine, LongPollConfig::default()));
    let subscribe = std::fs::read_to_string(foreign::file("subscribe.mjs")).unwrap();
    let javascript = [("content-type", "text/javascript")];
    let app = Router::new()
        .route("/", get(|| async { Html("<!doctype html><title>im</title>") }))
        .route("/subscribe.mjs", get(move || async move { (javascript, subscribe) }))
        .nest_service("/im", edge);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A client that writes.
struct Speaker {
    connection: Client,
    headers: Vec<(&'static str, String)>,
    said: usize,
}

impl Speaker {
    async fn new(at: SocketAddr, user: &str, token: Option<&str>) -> Self {
        let connection = Client::connect(at).await.unwrap();
        let mut headers = vec![("content-type", "application/json".to_owned())];
        headers.extend(token.map(|token| ("authorization", format!("Bearer {token}"))));
        let mut speaker = Self { connection, headers, said: 0 };
        let welcome = speaker.command(json!({"t": "hello", "id": 1, "v": 1, "user": user})).await;
        let [session, secret] = ["session", "secret"].map(|name| welcome[name].as_str().unwrap());
        speaker.headers.push(("im-session", format!("{session} {secret}")));
        speaker
    }

    async fn command(&mut self, command: Value) -> Value {
        let body = command.to_string();
        let asked = self.connection.ask("POST /im/send", &self.headers, body.as_bytes());
        let reply = asked.await.unwrap().json()[0].take();
        assert_eq!(reply["t"], "ok", "{reply}");
        reply
    }

    async fn say(&mut self, room: &str, content: Value) {
        self.said += 1;
        let mid = format!("said-by-a-speaker-{}", self.said);
        let send = json!({"t": "send", "id": 3, "room": room, "mid": mid, "content": content});
        self.command(send).await;
    }
}

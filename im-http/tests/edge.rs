//! The edge with its uplink, over plain sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use im_core::Timestamp;
use im_core::engine::{Engine, EngineConfig};
use im_core::ports::{ManualClock, TokenBuckets};
use im_core::wire::Limits;
use im_http::{Edge, Listener, ListenerConfig, OriginPolicy, UplinkConfig};
use im_testkit::transport_suite::http::{Answer, Client};
use serde_json::{Value, json};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Fails the test instead of letting it hang.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}

async fn engine() -> Engine {
    let limits = {
        let mut limits = Limits::default();
        limits.max_message_bytes = 4096;
        limits
    };
    let config = EngineConfig::default().limits(limits);
    Engine::builder().allow_anonymous().config(config).start().await.unwrap()
}

async fn served(engine: &Engine, config: UplinkConfig) -> SocketAddr {
    serve(Edge::new(engine.clone(), config)).await
}

async fn serve(edge: Edge) -> SocketAddr {
    serve_with(edge, ListenerConfig::default()).await
}

async fn serve_with(edge: Edge, config: ListenerConfig) -> SocketAddr {
    let edge = edge.at("/im");
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config);
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(edge));
    address
}

async fn ask(at: SocketAddr, head: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    let mut client = Client::connect(at).await.unwrap();
    within(client.ask(head, &headers, body)).await.unwrap()
}

async fn post(at: SocketAddr, headers: &[(&str, &str)], body: &Value) -> Answer {
    ask(at, "POST /im/send", headers, body.to_string().as_bytes()).await
}

/// Opens a session and returns its `Im-Session` value.
async fn hello(at: SocketAddr, user: &str) -> String {
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user});
    let answer = post(at, &[JSON], &hello).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let welcome = &answer.json()[0];
    format!("{} {}", welcome["session"].as_str().unwrap(), welcome["secret"].as_str().unwrap())
}

fn recorded(answer: &Answer) -> (u16, Option<u16>) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn message_is_answered_by_ack_list() {
    let at = served(&engine().await, UplinkConfig::default()).await;
    let all = json!([
        {"t": "hello", "id": 1, "v": 1, "user": "ann"},
        {"t": "create", "id": 2, "room": "tea", "open": true},
        {"t": "dance", "id": 3},
    ]);
    let answer = post(at, &[JSON], &all).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let replies = answer.json();
    let mut ids: Vec<_> = replies.as_array().unwrap().iter().map(|r| r["id"].as_u64()).collect();
    ids.sort();
    assert_eq!(ids, [Some(1), Some(2), Some(3)]);
    let session = hello(at, "ann").await;
    let one = post(at, &[JSON, ("im-session", &session)], &json!({"t": "ping", "id": 9})).await;
    assert_eq!(one.json()[0]["id"], 9, "one reply is a list as well");
    let packed = [0x82, 0xa1, b't', 0xa4, b'p', b'i', b'n', b'g', 0xa2, b'i', b'd', 0x07];
    let headers = [("content-type", "application/msgpack"), ("im-session", &session)];
    let answer = ask(at, "POST /im/send", &headers, &packed).await;
    assert_eq!(answer.header("content-type"), Some("application/msgpack"));
    assert_eq!(answer.body[0], 0x91, "a list of one");
}

/// The offer names version and transports, and a draining server refuses it.
#[tokio::test]
async fn offer_names_version_and_transports() {
    let engine = engine().await;
    let at = served(&engine, UplinkConfig::default()).await;
    let answer = ask(at, "GET /im", &[], b"").await;
    let offer = answer.json();
    assert_eq!((&offer["v"], &offer["transports"]), (&json!(1), &json!([])));
    assert_eq!(offer["encodings"], json!(["json", "msgpack"]));
    assert_eq!(offer["heartbeat_ms"], 20_000);
    assert_eq!(offer["limits"]["message_bytes"], 4096);
    assert_eq!(ask(at, "GET /im/", &[], b"").await.json(), offer);
    for path in ["/", "/imposter", "/im/ws", "/im/send/x", "/im/send/"] {
        assert_eq!(recorded(&ask(at, &format!("GET {path}"), &[], b"").await), (404, Some(4520)));
    }
    for path in ["/im//send", "/im//", "/im/send//", "/im//ws"] {
        assert_eq!(recorded(&ask(at, &format!("POST {path}"), &[], b"").await), (400, Some(4500)));
    }
    let wrong = ask(at, "GET /im/send", &[], b"").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST, OPTIONS")));
    engine.drain(Duration::from_millis(1)).await;
    let ping = json!({"t": "ping", "id": 1});
    for answer in [ask(at, "GET /im", &[], b"").await, post(at, &[JSON], &ping).await] {
        assert_eq!(recorded(&answer), (503, Some(4001)));
        assert!(answer.header("retry-after").is_some());
        assert!(answer.json()["retry_ms"].is_u64());
    }
}

#[tokio::test]
async fn bad_requests_get_their_codes() {
    let at = served(&engine().await, UplinkConfig::default()).await;
    let (ann, bob) = (hello(at, "ann").await, hello(at, "bob").await);
    let ping = json!({"t": "ping", "id": 1});
    let mixed = format!("{} {}", ann.split_once(' ').unwrap().0, bob.split_once(' ').unwrap().1);
    for (headers, expected) in [
        (vec![JSON], (400, 4509)),
        (vec![JSON, ("im-session", "nobody guessed")], (404, 4400)),
        (vec![JSON, ("im-session", &mixed)], (404, 4400)),
        (vec![JSON, ("im-session", "half")], (400, 4504)),
        (vec![JSON, ("im-session", &ann), ("im-session", &ann)], (400, 4504)),
        (vec![("im-session", &ann)], (415, 4501)),
        (vec![("content-type", "text/plain"), ("im-session", &ann)], (415, 4501)),
        (vec![JSON, ("content-encoding", "gzip"), ("im-session", &ann)], (415, 4501)),
        (vec![("content-type", "application/msgpack"), ("im-session", &ann)], (400, 4500)),
    ] {
        let answer = post(at, &headers, &ping).await;
        assert_eq!(recorded(&answer), (expected.0, Some(expected.1)), "{headers:?}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    // Empty headers count as none, and foreign text in shared ones is ignored.
    for (headers, expected) in [
        (vec![JSON, ("im-session", "")], (400, Some(4509))),
        (vec![JSON, ("im-session", &ann), ("content-encoding", "")], (200, None)),
        (
            vec![JSON, ("im-session", &ann), ("content-encoding", "identity, gzip")],
            (415, Some(4501)),
        ),
        (vec![JSON, ("im-session", &ann), ("cookie", "city=K\u{f6}ln")], (200, None)),
        (vec![JSON, ("im-session", &ann), ("authorization", "Digest \u{fc}")], (200, None)),
        (vec![JSON, ("im-session", &ann), ("expect", "")], (200, None)),
    ] {
        assert_eq!(recorded(&post(at, &headers, &ping).await), expected, "{headers:?}");
    }
    for body in ["", "[]", "{", "5", "{\"t\":\"ping\",\"id\":1}{}"] {
        let headers = [JSON, ("im-session", &ann)];
        let answer = ask(at, "POST /im/send", &headers, body.as_bytes()).await;
        assert_eq!(recorded(&answer), (400, Some(4500)), "{body}");
    }
    let session = [JSON, ("im-session", &*ann)];
    assert_eq!(post(at, &session, &json!({"t": "logout", "id": 2})).await.json()[0]["t"], "ok");
    assert_eq!(recorded(&post(at, &session, &ping).await), (404, Some(4400)));
    assert_eq!(post(at, &[JSON, ("im-session", &bob)], &ping).await.status, 200);
}

/// Status 200 and an ack for each command: the client sees the bad field.
#[tokio::test]
async fn bad_hello_by_post_is_answered() {
    let at = served(&engine().await, UplinkConfig::default()).await;
    let all = json!([{"t": "hello", "id": 1, "user": "ann"}, {"t": "rooms", "id": 2}]);
    let answer = post(at, &[JSON], &all).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let (hello, behind) = (&answer.json()[0], &answer.json()[1]);
    assert_eq!(
        (&hello["t"], &hello["id"], &hello["code"]),
        (&json!("err"), &json!(1), &json!(4503))
    );
    assert!(hello["msg"].as_str().unwrap().contains('v'), "{hello}");
    assert_eq!((&behind["id"], &behind["code"]), (&json!(2), &json!(4509)));
    // Other refusals of `hello` refuse the whole request.
    let other = post(at, &[JSON], &json!({"t": "hello", "id": 1, "v": 99, "user": "ann"})).await;
    assert_eq!(recorded(&other), (400, Some(4505)));
}

#[tokio::test]
async fn unknown_frames_by_post_are_charged() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
    let engine = Engine::builder().allow_anonymous().clock(clock);
    let engine = engine.rate_limiter(Arc::new(TokenBuckets::new(1, 10))).start().await.unwrap();
    let at = served(&engine, UplinkConfig::default()).await;
    let session = hello(at, "eve").await;
    let unknown: Value = (1..=20).map(|id| json!({"t": "dance", "id": id})).collect();
    let mut codes = Vec::new();
    for _ in 0..2 {
        let answer = post(at, &[JSON, ("im-session", &session)], &unknown).await;
        let answers = answer.json();
        codes.extend(answers.as_array().unwrap().iter().map(|a| a["code"].as_u64().unwrap()));
        assert!(answers[19]["retry_ms"].as_u64().unwrap() >= 1_000, "{answers}");
    }
    let (unknown, too_fast) = codes.split_at(9);
    assert!(unknown.iter().all(|code| *code == 4502), "`hello` used the first token: {codes:?}");
    assert!(too_fast.iter().all(|code| *code == 4200), "{codes:?}");
    hello(at, "ann").await;
}

#[tokio::test]
async fn body_size_and_time_are_bounded() {
    let config = UplinkConfig::default().body_timeout(Duration::from_millis(100));
    let at = served(&engine().await, config).await;
    let session = hello(at, "ann").await;
    let head = |more: &str| {
        format!(
            "POST /im/send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             im-session: {session}\r\n{more}\r\n\r\n"
        )
    };
    let large = format!("\"{}\"", "x".repeat(5000));
    let endless = format!("2000\r\n{}\r\n", "x".repeat(0x2000)).repeat(200);
    let short = "{\"t\":\"ping\",".to_owned();
    for (more, body, expected) in [
        ("content-length: 5002", &large, (413, Some(4506))),
        ("content-length: 99999999999", &short, (413, Some(4506))),
        ("content-length: 99999\r\nexpect: 100-continue", &String::new(), (413, Some(4506))),
        ("transfer-encoding: chunked", &endless, (413, Some(4506))),
        ("content-length: 40", &short, (408, Some(4205))),
        ("transfer-encoding: chunked", &format!("c\r\n{short}\r\n"), (408, Some(4205))),
        ("transfer-encoding: chunked", &"zz\r\n".to_owned(), (400, Some(4500))),
    ] {
        let mut client = Client::connect(at).await.unwrap();
        client.send(head(more).as_bytes()).await.unwrap();
        // The server may close before the whole body is written.
        let _ = client.send(body.as_bytes()).await;
        let answer = within(client.finish()).await.unwrap();
        assert_eq!(recorded(&answer), expected, "{more}");
    }
    // Bytes after the announced length are another request, here an invalid one.
    let mut client = Client::connect(at).await.unwrap();
    let ping = r#"{"t":"ping","id":1}"#;
    let two = format!("{}{ping}{ping}\r\n\r\n", head("content-length: 19"));
    client.send(two.as_bytes()).await.unwrap();
    assert_eq!(within(client.finish()).await.unwrap().status, 200);
    assert_eq!(within(client.finish()).await.unwrap().status, 400);
    let answer = post(at, &[JSON, ("im-session", &session)], &json!({"t": "ping", "id": 1})).await;
    assert_eq!(answer.status, 200, "other clients are unaffected");
}

/// Each body has one timer: behind our listener the uplink's time-out applies, directly and through
/// other routers.
#[tokio::test]
async fn body_timeout_replaces_listener_timeout() {
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": "ann"});
    let config = || ListenerConfig::default().body_timeout(Duration::ZERO);
    let edge = Edge::new(engine().await, UplinkConfig::default());
    let at = serve_with(edge.clone(), config()).await;
    assert_eq!(post(at, &[JSON], &hello).await.status, 200);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap().config(config());
    let at = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(axum::Router::new().nest_service("/im", edge)));
    assert_eq!(post(at, &[JSON], &hello).await.status, 200);
    // The listener's error is recognised, however a router wraps it.
    let late = UplinkConfig::default().body_timeout(Duration::ZERO);
    let edge = Edge::new(engine().await, late);
    let listener = Listener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(axum::Router::new().nest_service("/im", edge)));
    let head = "POST /im/send HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";
    let mut client = Client::connect(at).await.unwrap();
    client.send(format!("{head}content-length: 9\r\n\r\n{{").as_bytes()).await.unwrap();
    assert_eq!(recorded(&within(client.finish()).await.unwrap()), (408, Some(4205)));
}

/// Pages of other origins are refused, and those of listed origins may read the answer.
#[tokio::test]
async fn unlisted_origins_are_refused() {
    let origins = OriginPolicy::only(["https://app.example"]).unwrap();
    let edge = Edge::new(engine().await, UplinkConfig::default()).origins(origins);
    let at = serve(edge).await;
    let session = hello(at, "ann").await;
    let create = |room| json!({"t": "create", "id": 1, "room": room});
    let from =
        |origin| [JSON, ("im-session", &*session), ("cookie", "who=ann"), ("origin", origin)];
    for origin in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let answer = post(at, &from(origin), &create("tea")).await;
        assert_eq!(recorded(&answer), (403, Some(4511)), "{origin}");
        let words = answer.json()["msg"].as_str().unwrap().to_owned();
        assert!(words.contains(origin) && words.contains("Edge::origins"), "{words}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_eq!(ask(at, "GET /im", &[("origin", origin)], b"").await.status, 403);
        assert_eq!(ask(at, "OPTIONS /im/send", &[("origin", origin)], b"").await.status, 403);
    }
    let answer = post(at, &from("https://app.example"), &create("tea")).await;
    assert_eq!(answer.json()[0]["seq"], 1, "no earlier command was executed: {answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("etag, retry-after"));
    let asks = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "content-type, im-session"),
    ];
    let preflight = ask(at, "OPTIONS /im/send", &asks, b"").await;
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-methods"), Some("GET, POST"));
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("authorization, content-type, im-session, if-none-match, last-event-id")
    );
    // Its own refusals too, so that the page can read the reason.
    let headers = [JSON, ("origin", "https://app.example")];
    let refused = post(at, &headers, &json!({"t": "ping", "id": 1})).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
}

#[tokio::test]
async fn edge_mounts_in_axum_and_warp() {
    let engine = engine().await;
    let app =
        axum::Router::new().nest_service("/im", Edge::new(engine.clone(), UplinkConfig::default()));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let in_axum = socket.local_addr().unwrap();
    tokio::spawn(axum::serve(socket, app).into_future());
    let routes = im_http::warp::mount(Edge::new(engine, UplinkConfig::default()).at("/im"));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let in_warp = socket.local_addr().unwrap();
    tokio::spawn(warp::serve(routes).incoming(socket).run());
    for at in [in_axum, in_warp] {
        assert_eq!(ask(at, "GET /im", &[], b"").await.json()["v"], 1);
        let session = hello(at, "ann").await;
        let headers = [JSON, ("im-session", &*session)];
        assert_eq!(post(at, &headers, &json!({"t": "ping", "id": 5})).await.json()[0]["id"], 5);
    }
}

//! Fallback between transports, with scripted links.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail like tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use im_client::{Client, ClientEvent, Connected, Fallback, Incoming, Link, LinkError, WebSocket};
use im_core::wire::Encoding;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A scripted link: how connecting ends, and what then arrives.
#[derive(Default)]
struct Recorded {
    refuses: Mutex<Option<LinkError>>,
    arrives: Mutex<Option<mpsc::UnboundedSender<Incoming>>>,
    /// Connections that were requested, and those that were opened.
    asked: AtomicU32,
    connected: AtomicU32,
    hangs: AtomicBool,
}

impl Recorded {
    fn say(&self, incoming: Incoming) {
        self.arrives.lock().as_ref().unwrap().unbounded_send(incoming).unwrap();
    }

    fn refuse(&self, refuses: bool) {
        *self.refuses.lock() = refuses.then(|| LinkError::cut("no way"));
    }

    fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Link for Recorded {
    async fn connect(&self, _: Encoding) -> Result<Connected, LinkError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if let Some(error) = self.refuses.lock().clone() {
            return Err(error);
        }
        self.connected.fetch_add(1, Ordering::Relaxed);
        let (arrives, stream) = mpsc::unbounded();
        *self.arrives.lock() = Some(arrives);
        let sink = futures::sink::drain::<Bytes>();
        let sink = futures::SinkExt::sink_map_err(sink, |never| match never {});
        Ok(Connected { sink: Box::pin(sink), stream: Box::pin(stream) })
    }
}

fn three() -> (Vec<Arc<Recorded>>, Fallback) {
    let links: Vec<Arc<Recorded>> = (0..3).map(|_| Arc::default()).collect();
    let fallback = Fallback::new(links.iter().map(|link| link.clone() as Arc<dyn Link>));
    (links, fallback)
}

#[tokio::test(start_paused = true)]
async fn failed_link_yields_to_next() {
    let (links, fallback) = three();
    *links[0].refuses.lock() = Some(LinkError::cut("no way"));
    *links[1].refuses.lock() = Some(LinkError::cut("refused here too"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert!(fallback.connect(Encoding::Json).await.is_ok());
    assert_eq!(fallback.current(), 2);
    *links[2].refuses.lock() = Some(LinkError::cut("nowhere"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert_eq!(fallback.current(), 0, "the first follows after the last");
}

/// A refusal or disconnect by the server is no reason to change the link.
#[tokio::test(start_paused = true)]
async fn server_refusal_keeps_link() {
    let (links, fallback) = three();
    *links[0].refuses.lock() = Some(LinkError::coded(4301, "who?"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    *links[0].refuses.lock() = None;
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Closed(LinkError::coded(4001, "going")));
    assert!(matches!(connected.stream.next().await, Some(Incoming::Closed(_))));
    assert_eq!(fallback.current(), 0);
}

/// A link on which nothing arrives falls back, and one that was cut later does not.
#[tokio::test(start_paused = true)]
async fn only_silent_link_falls_back() {
    let (links, fallback) = three();
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Heard);
    links[0].say(Incoming::Closed(LinkError::cut("cut")));
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    assert!(connected.stream.next().await.is_some());
    assert_eq!(fallback.current(), 0);
    // The link has worked, so it is tried twice again first.
    for current in [0, 0, 1] {
        let mut connected = fallback.connect(Encoding::Json).await.unwrap();
        links[0].say(Incoming::Closed(LinkError::cut("cut")));
        assert!(connected.stream.next().await.is_some());
        assert_eq!(fallback.current(), current);
    }
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[1].say(Incoming::Heard);
    links[1].say(Incoming::Closed(LinkError::unfit("held back")));
    while connected.stream.next().await.is_some_and(|said| said == Incoming::Heard) {}
    assert_eq!(fallback.current(), 2);
}

/// Opens a connection over this link and receives something on it.
async fn heard(fallback: &Fallback, link: &Recorded) -> Connected {
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    link.say(Incoming::Heard);
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    connected
}

/// Returns what arrives within this time.
async fn within(connected: &mut Connected, seconds: u64) -> Option<Incoming> {
    let next = tokio::time::timeout(Duration::from_secs(seconds), connected.stream.next());
    next.await.ok().flatten()
}

const BETTER: Option<Incoming> = Some(Incoming::Better(true));

#[tokio::test(start_paused = true)]
async fn client_returns_to_better_link() {
    let (links, fallback) = three();
    let fallback = fallback.try_better_after(Duration::from_secs(60));
    links[0].refuse(true);
    assert!(fallback.connect(Encoding::Json).await.is_err());
    let mut connected = heard(&fallback, &links[1]).await;
    assert_eq!(within(&mut connected, 300).await, None, "the better link still does not work");
    links[0].refuse(false);
    assert_eq!(connected.stream.next().await, BETTER);
    let tries = links[0].asked();
    let _moved = heard(&fallback, &links[0]).await;
    assert_eq!((links[0].asked(), fallback.current()), (tries, 0), "the open connection is used");
}

/// After an outage of the server of an hour, the client does not stay on the last transport.
#[tokio::test(start_paused = true)]
async fn outage_expires_after_a_minute() {
    let (links, fallback) = three();
    drop(heard(&fallback, &links[0]).await);
    links.iter().for_each(|link| link.refuse(true));
    for _ in 0..100 {
        assert!(fallback.connect(Encoding::Json).await.is_err());
    }
    links[2].refuse(false);
    while fallback.current() != 2 {
        assert!(fallback.connect(Encoding::Json).await.is_err());
    }
    let mut connected = heard(&fallback, &links[2]).await;
    links.iter().for_each(|link| link.refuse(false));
    assert_eq!(within(&mut connected, 61).await, BETTER);
    drop(connected);
    let mut connected = heard(&fallback, &links[0]).await;
    // The link works, so its earlier failures do not count.
    assert_eq!(within(&mut connected, 300).await, None);
    links[0].say(Incoming::Closed(LinkError::unfit("blocked")));
    assert!(connected.stream.next().await.is_some());
    let mut connected = heard(&fallback, &links[1]).await;
    assert_eq!(within(&mut connected, 61).await, BETTER);
}

/// Pauses between tries of a better link double, up to ten minutes.
#[tokio::test(start_paused = true)]
async fn better_link_retries_every_ten_minutes() {
    let (links, fallback) = three();
    links[0].refuse(true);
    assert!(fallback.connect(Encoding::Json).await.is_err());
    let mut connected = heard(&fallback, &links[1]).await;
    assert_eq!(within(&mut connected, 3600).await, None);
    assert_eq!(links[0].asked(), 1 + 8, "after 1, 3, 7, 15, 25, 35, 45 and 55 minutes");
}

/// A link that fails soon after its first message is passed over longer each time.
#[tokio::test(start_paused = true)]
async fn better_link_unfit_again_waits_longer() {
    let (links, fallback) = three();
    for minutes in [1, 2, 4, 8, 10, 10] {
        let mut connected = heard(&fallback, &links[0]).await;
        links[0].say(Incoming::Closed(LinkError::unfit("the downlink is silent")));
        assert!(connected.stream.next().await.is_some());
        let mut connected = heard(&fallback, &links[1]).await;
        assert_eq!(within(&mut connected, minutes * 60 - 1).await, None, "{minutes}");
        assert_eq!(within(&mut connected, 2).await, BETTER, "{minutes}");
    }
}

/// An unused connection that ends is dropped, and another is tried later.
#[tokio::test(start_paused = true)]
async fn closed_waiting_link_is_dropped() {
    let (links, fallback) = three();
    links[0].refuse(true);
    assert!(fallback.connect(Encoding::Json).await.is_err());
    let mut connected = heard(&fallback, &links[1]).await;
    links[0].refuse(false);
    for tries in 2..5 {
        assert_eq!(connected.stream.next().await, BETTER);
        assert_eq!(links[0].asked(), tries);
        links[0].say(Incoming::Closed(LinkError::coded(4510, "no hello")));
        assert_eq!(connected.stream.next().await, Some(Incoming::Better(false)));
        assert_eq!(fallback.current(), 1);
        assert_eq!(within(&mut connected, 59).await, None);
    }
    // A connection that ends just before its use is replaced.
    assert_eq!(connected.stream.next().await, BETTER);
    links[0].say(Incoming::Closed(LinkError::cut("cut")));
    let _moved = heard(&fallback, &links[0]).await;
    assert_eq!((links[0].asked(), fallback.current()), (6, 0));
}

/// A link that neither connects nor fails, or connects and is silent, is passed over as well.
#[tokio::test(start_paused = true)]
async fn silent_link_makes_room() {
    let (links, fallback) = three();
    links[0].hangs.store(true, Ordering::Relaxed);
    let patience = Duration::from_secs(10);
    let connecting = tokio::time::timeout(patience, fallback.connect(Encoding::Json));
    assert!(connecting.await.is_err());
    assert_eq!(fallback.current(), 1);
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    assert_eq!(within(&mut connected, 10).await, None);
    drop(connected);
    assert_eq!(fallback.current(), 2);
    // Dropped at once: the application has ended it.
    drop(fallback.connect(Encoding::Json).await.unwrap());
    assert_eq!(fallback.current(), 2);
}

/// Starts a server that answers every connection with these bytes, and closes it.
async fn answers(response: String) -> String {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/im/ws", socket.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(response.as_bytes()).await;
        }
    });
    url
}

fn response(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// However a proxy or firewall answers the handshake, the client uses the next transport.
#[tokio::test]
async fn blocked_websocket_falls_back() {
    let blocked = [
        ("426 Upgrade Required", r#"{"code":4500,"msg":"no upgrade"}"#),
        ("426 Upgrade Required", r#"{"code":4505,"msg":"version 13 is spoken here"}"#),
        ("426 Upgrade Required", ""),
        ("200 OK", "<html>"),
        ("302 Found", ""),
        ("400 Bad Request", "<html>"),
        ("403 Forbidden", "<html>"),
        ("403 Forbidden", r#"{"code":403,"msg":"blocked by policy"}"#),
        ("404 Not Found", r#"{"code":4520,"msg":"nothing here"}"#),
        ("405 Method Not Allowed", ""),
        ("501 Not Implemented", ""),
    ];
    for (status, body) in blocked {
        let link = WebSocket::new(answers(response(status, body)).await);
        let next = Arc::new(Recorded::default());
        let fallback = Fallback::new([Arc::new(link) as Arc<dyn Link>, next.clone()]);
        let (_client, mut events) = Client::over(fallback.clone()).start();
        match events.next().await {
            Some(ClientEvent::Disconnected { code: None, retry_in: Some(_), .. }) => {}
            other => panic!("{status} {body}: {other:?}"),
        }
        assert_eq!(fallback.current(), 1, "{status} {body}");
        while next.asked() == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// A refusal by our server before the upgrade does not change the transport.
#[tokio::test]
async fn refused_handshake_keeps_the_link() {
    let refusals = [
        ("401 Unauthorized", "", 4300),
        ("429 Too Many Requests", "", 4200),
        ("403 Forbidden", r#"{"code":4511,"msg":"this origin is not allowed"}"#, 4511),
        ("503 Service Unavailable", r#"{"code":4204}"#, 4204),
    ];
    for (status, body, code) in refusals {
        let link = WebSocket::new(answers(response(status, body)).await);
        let fallback = Fallback::new([Arc::new(link) as Arc<dyn Link>, Arc::<Recorded>::default()]);
        let error = fallback.connect(Encoding::Json).await.err().unwrap();
        assert_eq!((error.code, fallback.current()), (Some(code), 0), "{status} {body}");
    }
}

/// A gateway without an answer from the server says nothing about the link: it is left after three
/// such answers in a row.
#[tokio::test(start_paused = true)]
async fn single_gateway_error_keeps_the_link() {
    let (links, fallback) = three();
    let gateway = LinkError { gateway: true, ..LinkError::cut("502 Bad Gateway") };
    for _ in 0..2 {
        let mut connected = fallback.connect(Encoding::Json).await.unwrap();
        links[0].say(Incoming::Closed(gateway.clone()));
        assert!(connected.stream.next().await.is_some());
        assert_eq!(fallback.current(), 0);
    }
    // A received message in between restarts the count.
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Heard);
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    *links[0].refuses.lock() = Some(gateway);
    for current in [0, 0, 1] {
        assert!(fallback.connect(Encoding::Json).await.is_err());
        assert_eq!(fallback.current(), current);
    }
}

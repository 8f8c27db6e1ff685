//! The Rust client over every transport, and between transports under load, on one server and on
//! two without sticky sessions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use im_client::{
    Client, ClientEvent, Connected, Down, Events, Fallback, Http, Link, LinkError, Message,
    Reconnect, WebSocket,
};
use im_core::engine::{Engine, EngineConfig};
use im_core::memory::{MemoryBus, MemoryStore};
use im_core::ports::{Store, Unlimited};
use im_core::wire::{Encoding, Event, PageFrom, RoomKind, Value};
use im_core::{RoomId, Seq, StateKey, UserId};
use im_http::{Edge, Listener, UplinkConfig};
use im_testkit::faulty_store::{Fault, FaultyStore, Operation};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket as WsService, WsConfig};
use tokio::net::{TcpListener, TcpStream};

async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it took longer than 20 s")
}

/// Engines on one store, each served at an address of its own, and one address that alternates
/// between them.
struct Servers {
    engines: Vec<Engine>,
    address: SocketAddr,
}

impl Servers {
    async fn start(count: usize) -> Self {
        Self::on(Arc::new(MemoryStore::new()), EngineConfig::default(), count).await
    }

    async fn on(store: Arc<dyn Store>, config: EngineConfig, count: usize) -> Self {
        let bus = Arc::new(MemoryBus::new(1024));
        let (mut engines, mut addresses) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let engine = Engine::builder()
                .allow_anonymous()
                .store(store.clone())
                .bus(bus.clone())
                .rate_limiter(Arc::new(Unlimited))
                .config(config.clone().head_check(Duration::from_millis(200)))
                .start()
                .await
                .unwrap();
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let edge = Edge::new(engine.clone(), UplinkConfig::default())
                .at("/im")
                .mount(WsService::new(engine.clone(), WsConfig::default()))
                .mount(Sse::new(engine.clone(), SseConfig::default()))
                .mount(LongPoll::new(engine.clone(), LongPollConfig::default()));
            tokio::spawn(listener.serve(edge));
            engines.push(engine);
        }
        Self { engines, address: in_turns(addresses).await }
    }

    fn links(&self) -> [(&'static str, Arc<dyn Link>); 4] {
        let http = format!("http://{}/im", self.address);
        [
            ("ws", Arc::new(WebSocket::new(format!("ws://{}/im/ws", self.address)))),
            ("sse", Arc::new(Http::stream(&http))),
            ("long", Arc::new(Http::long_poll(&http))),
            ("short", Arc::new(Http::new(&http, Down::ShortPoll(Duration::from_millis(20))))),
        ]
    }

    async fn client(&self, name: &str, link: impl Link) -> (Client, Events) {
        let quick =
            Reconnect::default().pauses(Duration::from_millis(20), Duration::from_millis(200));
        let client = Client::over(link).user(UserId::new(name).unwrap()).reconnect(quick);
        soon(client.connect()).await.unwrap()
    }
}

/// Returns an address whose connections alternate between these, as behind a proxy without sticky
/// sessions.
async fn in_turns(addresses: Vec<SocketAddr>) -> SocketAddr {
    if let [only] = addresses[..] {
        return only;
    }
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        for to in addresses.iter().cycle() {
            let Ok((mut here, _)) = socket.accept().await else { return };
            let to = *to;
            tokio::spawn(async move {
                let Ok(mut there) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
            });
        }
    });
    address
}

/// One shared link as a `Link` of its own.
struct Over(Arc<dyn Link>);

#[async_trait]
impl Link for Over {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        self.0.connect(encoding).await
    }
}

/// A link whose connections each use the next transport.
struct Carousel {
    links: Vec<Arc<dyn Link>>,
    turn: Arc<AtomicUsize>,
}

#[async_trait]
impl Link for Carousel {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.links[turn % self.links.len()].connect(encoding).await
    }
}

fn text(event: &Event) -> Option<String> {
    Some(event.content.value().get("text")?.as_text()?.to_owned())
}

/// Returns the next message's text. Events must be dense.
async fn heard(events: &mut Events, last: &mut Seq) -> String {
    loop {
        match soon(events.next()).await.expect("the client continues") {
            ClientEvent::Event(event) => {
                assert_eq!(event.seq, last.next(), "each event once, without a gap");
                *last = event.seq;
                if let Some(text) = text(&event) {
                    return text;
                }
            }
            ClientEvent::Closed { message, .. } => panic!("the client ended: {message}"),
            _ => {}
        }
    }
}

async fn tea(ann: &Client, bob: &Client) -> (RoomId, Seq) {
    let room = RoomId::new("tea").unwrap();
    ann.create(room.clone(), RoomKind::Group, true, vec![]).await.unwrap();
    bob.join(room.clone()).await.unwrap();
    let status = ann.subscribe(room.clone(), None).await.unwrap();
    bob.subscribe(room.clone(), None).await.unwrap();
    (room, status.cursor.unwrap().seq)
}

async fn talks_over(servers: usize, encoding: Encoding) {
    for at in 0..4 {
        let servers = Servers::start(servers).await;
        let (name, link) = servers.links()[at].clone();
        let (_, plain) = servers.links()[0].clone();
        let (bob, mut bobs) = servers.client("bob", Over(plain)).await;
        let quick =
            Reconnect::default().pauses(Duration::from_millis(20), Duration::from_millis(200));
        let builder = Client::over(Over(link)).user(UserId::new("ann").unwrap()).reconnect(quick);
        let (ann, mut anns) = soon(builder.encoding(encoding).connect()).await.unwrap();
        let (room, mut last) = soon(tea(&ann, &bob)).await;
        let mut bobs_last = last;
        for n in 0..20 {
            let said = format!("{name} {n}");
            soon(ann.send(Message::text(room.clone(), &said))).await.unwrap();
            assert_eq!(heard(&mut bobs, &mut bobs_last).await, said);
            assert_eq!(heard(&mut anns, &mut last).await, said);
            let answer = format!("back {n}");
            soon(bob.send(Message::text(room.clone(), &answer))).await.unwrap();
            assert_eq!(heard(&mut anns, &mut last).await, answer);
            assert_eq!(heard(&mut bobs, &mut bobs_last).await, answer);
        }
        let key = StateKey::new("kettle").unwrap();
        soon(bob.put_state(room.clone(), key.clone(), Value::from("on"), None)).await.unwrap();
        loop {
            match soon(anns.next()).await.unwrap() {
                ClientEvent::State(update) if update.key == key => break,
                ClientEvent::Snapshot { entries, .. } if entries.iter().any(|e| e.key == key) => {
                    break;
                }
                _ => {}
            }
        }
        let page =
            soon(ann.history(room.clone(), None, PageFrom::Before(Seq::MAX), 5)).await.unwrap();
        assert_eq!(page.events.len(), 5);
        soon(ann.logout()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_people_talk_over_each_transport() {
    talks_over(1, Encoding::MsgPack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_talk_over_each_transport() {
    talks_over(1, Encoding::Json).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_talk_without_sticky_sessions() {
    talks_over(2, Encoding::MsgPack).await;
}

/// Moves from each transport to each other one, under load.
async fn changes_over(servers: usize) {
    let servers = Servers::start(servers).await;
    let links = servers.links();
    // Every pair as neighbours, also of one transport with itself.
    let order = [0, 1, 2, 3, 0, 2, 0, 3, 1, 0, 0, 3, 2, 1, 1, 3, 3, 2, 2];
    let carousel = Carousel {
        links: order.iter().map(|at| links[*at].1.clone()).collect(),
        turn: Arc::default(),
    };
    let turn = carousel.turn.clone();
    let (ann, mut anns) = servers.client("ann", carousel).await;
    let (bob, _bobs) = servers.client("bob", Over(links[0].1.clone())).await;
    let (room, mut last) = soon(tea(&ann, &bob)).await;
    for round in 1..order.len() {
        for n in 0..10 {
            let from_bob = Message::text(room.clone(), &format!("bob {round} {n}"));
            let from_ann = Message::text(room.clone(), &format!("ann {round} {n}"));
            let (bobs, anns) =
                (bob.post(from_bob).await.unwrap(), ann.post(from_ann).await.unwrap());
            if n == 5 {
                ann.cut();
            }
            soon(bobs).await.unwrap();
            soon(anns).await.unwrap();
        }
        let mut own = Vec::new();
        for _ in 0..20 {
            let text = heard(&mut anns, &mut last).await;
            if text.starts_with("ann") {
                own.push(text);
            }
        }
        let said: Vec<String> = (0..10).map(|n| format!("ann {round} {n}")).collect();
        assert_eq!(own, said, "ann's messages are received once and in her order");
    }
    assert!(turn.load(Ordering::Relaxed) >= order.len(), "every transport was used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transport_change_misses_nothing() {
    changes_over(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transport_and_server_change_misses_nothing() {
    changes_over(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocked_websocket_falls_back() {
    let servers = Servers::start(1).await;
    let links = servers.links();
    // There is no server at this path.
    let blocked = WebSocket::new(format!("ws://{}/nowhere", servers.address));
    let mut all: Vec<Arc<dyn Link>> = vec![Arc::new(blocked)];
    all.extend(links[1..].iter().map(|(_, link)| link.clone()));
    let fallback = Fallback::new(all);
    let (ann, mut anns) = servers.client("ann", fallback.clone()).await;
    let (bob, _bobs) = servers.client("bob", Over(links[0].1.clone())).await;
    let (room, mut last) = soon(tea(&ann, &bob)).await;
    soon(bob.send(Message::text(room, "over the stream"))).await.unwrap();
    assert_eq!(heard(&mut anns, &mut last).await, "over the stream");
    assert_eq!(fallback.current(), 1);
}

/// The sender order holds over each transport while the store fails repeatedly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sender_order_survives_failing_store() {
    const COUNT: usize = 100;
    for at in 0..4 {
        let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        // Small batches, so that other appends are in flight behind the one that fails.
        let config = EngineConfig::default().append_batch(4);
        let servers = Servers::on(store.clone(), config, 1).await;
        let (name, link) = servers.links()[at].clone();
        let (ann, _events) = servers.client("ann", Over(link)).await;
        let room = RoomId::new("tea").unwrap();
        ann.create(room.clone(), RoomKind::Group, true, vec![]).await.unwrap();
        for fault in [Fault::UnknownBefore, Fault::Unavailable, Fault::UnknownAfter].repeat(2) {
            store.fail_after(Operation::Append, fault, 2, 1);
        }
        let mut deliveries = Vec::new();
        for n in 0..COUNT {
            let message = Message::text(room.clone(), &n.to_string());
            deliveries.push(soon(ann.post(message)).await.unwrap());
        }
        for delivery in deliveries {
            soon(delivery).await.unwrap();
        }
        assert!(store.calls(Operation::Append) > 18, "all of the faults have occurred");
        let page = servers.engines[0].history(&room, PageFrom::After(Seq::ZERO), 200).await;
        let kept: Vec<String> = page.unwrap().events.iter().filter_map(text).collect();
        assert_eq!(kept, (0..COUNT).map(|n| n.to_string()).collect::<Vec<_>>(), "{name}");
    }
}

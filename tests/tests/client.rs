//! The Rust client against a real server, with connections that are cut and servers that stop.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests may fail like tests"
)]

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use im_client::{Checkpoints, Client, ClientEvent, Config, ErrorKind, Events, Message, Reconnect};
use im_core::engine::{Engine, EngineBuilder, Publish};
use im_core::memory::MemoryStore;
use im_core::ports::{Identity, ManualClock, SessionRegistry, StaticTokens, Unlimited};
use im_core::state::RoomSeed;
use im_core::wire::{Encoding, Event, PageFrom, Role, RoomKind, Secret, Status, Target, Value};
use im_core::{Code, Cursor, EventKind, MessageId, RoomId, Seq, StateKey, Timestamp, UserId};
use im_http::Listener;
use im_transport_ws::{WebSocket, WsConfig};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Fails a test instead of letting it hang.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("it should not take a minute")
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

struct Server {
    engine: Engine,
    ws: WebSocket,
    address: SocketAddr,
    listener: JoinHandle<()>,
}

impl Server {
    async fn start(builder: EngineBuilder, at: &str) -> Self {
        let engine = builder.rate_limiter(Arc::new(Unlimited)).start().await.unwrap();
        let ws = WebSocket::new(engine.clone(), WsConfig::default());
        let listener = Listener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = ws.clone();
        let listener = tokio::spawn(async move { listener.serve(service).await.unwrap() });
        Self { engine, ws, address, listener }
    }

    async fn on(store: &Arc<MemoryStore>, at: &str) -> Self {
        Self::start(Engine::builder().allow_anonymous().store(store.clone()), at).await
    }

    /// Creates a group with these members. Returns it with the cursor at its head.
    async fn group(&self, id: &str, members: &[&str]) -> (RoomId, Cursor) {
        let room = RoomId::new(id).unwrap();
        let members: Vec<_> = members.iter().map(|name| (user(name), Role::Member)).collect();
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        let made = self.engine.create_room(room.clone(), seed, &user("service")).await.unwrap();
        (room, Cursor { epoch: made.epoch, seq: made.seq })
    }

    fn client(&self, name: &str) -> im_client::Builder {
        let quick =
            Reconnect::default().pauses(Duration::from_millis(20), Duration::from_millis(200));
        Client::builder(format!("ws://{}/", self.address)).user(user(name)).reconnect(quick)
    }

    /// Stops cleanly. Returns the address, for another server.
    async fn stop(self) -> String {
        self.listener.abort();
        self.engine.drain(Duration::from_secs(1)).await;
        self.ws.shutdown().await;
        // The socket is closed once the task has ended.
        let _ = self.listener.await;
        self.address.to_string()
    }
}

/// Reads the durable events of `room` after `after` and up to `until`, which must be dense.
async fn listen(events: &mut Events, room: &RoomId, after: Seq, until: Seq) -> Vec<Arc<Event>> {
    let mut heard: Vec<Arc<Event>> = Vec::new();
    while heard.last().map_or(after, |event| event.seq) < until {
        match soon(events.next()).await {
            Some(ClientEvent::Event(event)) if event.room == *room => {
                assert_eq!(event.seq, heard.last().map_or(after, |event| event.seq).next());
                heard.push(event);
            }
            Some(ClientEvent::Room(status)) => panic!("nothing was lost, but: {status:?}"),
            Some(ClientEvent::Closed { message, .. }) => panic!("the client ended: {message}"),
            Some(_) => {}
            None => panic!("the events ended"),
        }
    }
    heard
}

fn text(event: &Event) -> String {
    event.content.value().get("text").and_then(Value::as_text).unwrap_or_default().to_owned()
}

const NAMES: [&str; 4] = ["ann", "bob", "eve", "joe"];
const EACH: usize = 120;

/// Sends [`EACH`] messages without waiting for each, calling `between` before each.
async fn talk(
    client: &Client,
    room: &RoomId,
    mut between: impl FnMut(usize),
) -> HashMap<MessageId, Seq> {
    let mut deliveries = Vec::new();
    for n in 0..EACH {
        between(n);
        tokio::task::yield_now().await;
        let message = Message::text(room.clone(), &n.to_string());
        let id = message.message_id().clone();
        deliveries.push((id, client.post(message).await.unwrap()));
    }
    let mut places = HashMap::new();
    for (id, delivery) in deliveries {
        places.insert(id, soon(delivery).await.unwrap().seq);
    }
    places
}

fn check(all: &[Vec<Arc<Event>>], places: &[HashMap<MessageId, Seq>]) {
    for heard in all {
        assert_eq!(heard, &all[0], "all receive the same");
    }
    for (name, places) in NAMES.iter().zip(places) {
        let own: Vec<_> = all[0].iter().filter(|event| event.from == user(name)).collect();
        let texts: Vec<String> = own.iter().map(|event| text(event)).collect();
        assert_eq!(
            texts,
            (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>(),
            "{name}: once, in order"
        );
        assert!(
            own.iter()
                .all(|event| event.id.as_ref().and_then(|id| places.get(id)) == Some(&event.seq))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cuts_lose_and_redeliver_nothing() {
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(&store, "127.0.0.1:0").await;
    let (room, start) = server.group("r", &NAMES).await;
    let until = Seq::new(1 + (NAMES.len() * EACH) as u64).unwrap();
    let lives = NAMES.iter().enumerate().map(|(at, name)| {
        let (builder, room) = (server.client(name), room.clone());
        async move {
            let checkpoints = Checkpoints::Auto { events: 20, idle: Duration::from_millis(50) };
            let builder = builder.encoding(Encoding::ALL[at % 2]).checkpoints(checkpoints);
            let (client, mut events) = soon(builder.connect()).await.unwrap();
            soon(client.subscribe(room.clone(), Some(start))).await.unwrap();
            let talking = talk(&client, &room, |n| {
                if (n + at * 3) % 13 == 12 {
                    client.cut();
                }
            });
            tokio::join!(talking, listen(&mut events, &room, start.seq, until))
        }
    });
    let (places, heard): (Vec<_>, Vec<_>) =
        futures::future::join_all(lives).await.into_iter().unzip();
    check(&heard, &places);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarting_server_loses_and_redelivers_nothing() {
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(&store, "127.0.0.1:0").await;
    let (room, start) = server.group("r", &NAMES).await;
    let until = Seq::new(1 + (NAMES.len() * EACH) as u64).unwrap();
    let half = Notify::new();
    let lives = NAMES.iter().map(|name| {
        let (builder, room, half) = (server.client(name), room.clone(), &half);
        async move {
            let (client, mut events) = soon(builder.connect()).await.unwrap();
            soon(client.subscribe(room.clone(), Some(start))).await.unwrap();
            let talking = talk(&client, &room, |n| {
                if n == EACH / 2 {
                    half.notify_one();
                }
            });
            tokio::join!(talking, listen(&mut events, &room, start.seq, until))
        }
    });
    let lives = futures::future::join_all(lives);
    let restart = async {
        soon(half.notified()).await;
        let address = soon(server.stop()).await;
        Server::on(&store, &address).await
    };
    let (lives, _server) = tokio::join!(lives, restart);
    let (places, heard): (Vec<_>, Vec<_>) = lives.into_iter().unzip();
    check(&heard, &places);
}

#[tokio::test]
async fn application_resumes_where_it_stopped() {
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(&store, "127.0.0.1:0").await;
    let (room, start) = server.group("r", &["ann"]).await;
    let (client, mut events) = soon(server.client("ann").connect()).await.unwrap();
    soon(client.subscribe(room.clone(), Some(start))).await.unwrap();
    soon(client.send(Message::text(room.clone(), "one"))).await.unwrap();
    let heard = listen(&mut events, &room, start.seq, start.seq.next()).await;
    let saved = soon(client.saved()).await.unwrap();
    assert_eq!(saved.cursors, [(room.clone(), Cursor { seq: heard[0].seq, ..start })]);
    client.close();
    while soon(events.next()).await.is_some() {}
    for n in 0..3 {
        let words = Publish::text(Target::Room(room.clone()), user("service"), &n.to_string());
        server.engine.publish(words).await.unwrap();
    }
    let (_client, mut events) = soon(server.client("ann").resume(saved).connect()).await.unwrap();
    let Some(ClientEvent::Connected(welcome)) = soon(events.next()).await else {
        panic!("connected first")
    };
    assert!(welcome.resumed);
    let heard = listen(&mut events, &room, heard[0].seq, heard[0].seq.plus(3)).await;
    assert_eq!(heard.iter().map(|event| text(event)).collect::<Vec<_>>(), ["0", "1", "2"]);
}

#[tokio::test]
async fn slow_application_loses_nothing() {
    const COUNT: u64 = 600;
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(&store, "127.0.0.1:0").await;
    let (room, start) = server.group("r", &["ann", "bob"]).await;
    let mut config = Config::default();
    config.max_queued_events = 16;
    let (ann, mut events) = soon(server.client("ann").config(config).connect()).await.unwrap();
    soon(ann.subscribe(room.clone(), Some(start))).await.unwrap();
    for n in 0..COUNT {
        let words = Publish::text(Target::Room(room.clone()), user("bob"), &n.to_string());
        server.engine.publish(words).await.unwrap();
        if n % 50 == 0 {
            // The answer is read although no events are, so some of those are dropped and requested
            // again.
            soon(ann.ping()).await.unwrap();
        }
    }
    listen(&mut events, &room, start.seq, start.seq.plus(COUNT)).await;
}

#[tokio::test]
async fn credentials_are_checked_and_refreshed() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000)));
    let until =
        |ms| Identity { expires: Some(Timestamp::from_millis(ms)), ..Identity::of(user("ann")) };
    let known = StaticTokens::new().with("short", until(2_000)).with("long", until(9_000_000));
    let mut config = im_core::engine::EngineConfig::default();
    config.tick = Duration::from_millis(10);
    let builder =
        Engine::builder().authenticator(Arc::new(known)).clock(clock.clone()).config(config);
    let server = Server::start(builder, "127.0.0.1:0").await;
    let refused = soon(server.client("ann").token("guess").connect()).await.err().unwrap();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Closed, Some(Code::BadCredentials)));
    let builder = server
        .client("ann")
        .token("short")
        .token_source(Arc::new(|| Box::pin(async { Ok(Secret::new("long")) })));
    let (client, mut events) = soon(builder.connect()).await.unwrap();
    assert!(matches!(soon(events.next()).await, Some(ClientEvent::Connected(_))));
    clock.set(Timestamp::from_millis(3_000));
    let disconnected = soon(events.next()).await.unwrap();
    assert_eq!(disconnected.code(), Some(Code::Expired));
    let Some(ClientEvent::Connected(welcome)) = soon(events.next()).await else {
        panic!("back again")
    };
    assert!(welcome.resumed);
    soon(client.ping()).await.unwrap();
}

/// Rooms, state, signals and history work from client to client.
#[tokio::test]
async fn client_features_work_end_to_end() {
    let store = Arc::new(MemoryStore::new());
    let server = Server::on(&store, "127.0.0.1:0").await;
    let (ann, _ann_events) = soon(server.client("ann").connect()).await.unwrap();
    let (bob, mut bob_events) = soon(server.client("bob").connect()).await.unwrap();
    let room = RoomId::new("lobby").unwrap();
    soon(ann.create(room.clone(), RoomKind::Group, true, vec![])).await.unwrap();
    soon(bob.join(room.clone())).await.unwrap();
    assert_eq!(soon(bob.subscribe(room.clone(), None)).await.unwrap().status, Status::Ok);
    assert_eq!(soon(bob.members(room.clone(), None, 10)).await.unwrap().members.len(), 2);
    assert_eq!(soon(bob.rooms(None, 10)).await.unwrap().rooms.len(), 1);
    let typing = EventKind::new("typing").unwrap();
    soon(ann.signal(Target::Room(room.clone()), typing, Value::Null)).await.unwrap();
    let score = StateKey::new("score").unwrap();
    let stamp =
        soon(ann.put_state(room.clone(), score.clone(), Value::Int(7), None)).await.unwrap();
    soon(ann.send(Message::text(room.clone(), "hi"))).await.unwrap();
    let (mut signal, mut state, mut said) = (false, false, false);
    while !(signal && state && said) {
        match soon(bob_events.next()).await.unwrap() {
            ClientEvent::Signal(_) => signal = true,
            ClientEvent::State(update) => state = update.stamp == stamp,
            ClientEvent::Event(event) => said = text(&event) == "hi",
            _ => {}
        }
    }
    let page = soon(bob.history(room.clone(), None, PageFrom::Before(Seq::MAX), 1)).await.unwrap();
    assert_eq!(page.events.iter().map(text).collect::<Vec<_>>(), ["hi"]);
    assert!(soon(ann.remove_state(room.clone(), score, None)).await.unwrap() > stamp);
    soon(bob.leave(room.clone())).await.unwrap();
    let refused = soon(bob.send(Message::text(room.clone(), "still?"))).await.unwrap_err();
    assert_eq!((refused.kind(), refused.code()), (ErrorKind::Refused, Some(Code::Forbidden)));
    let sessions = soon(ann.sessions()).await.unwrap();
    assert_eq!(sessions.len(), 1);
    soon(bob.logout()).await.unwrap();
    assert!(store.sessions_of(&user("bob"), 10).await.unwrap().is_empty());
}

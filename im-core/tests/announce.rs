//! Events committed outside the engine have all the effects of its own appends, once announced.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use im_core::engine::{Engine, Publish};
use im_core::memory::MemoryStore;
use im_core::ports::{Action, Appended, Hooks, Identity, RoomLog, Verdict};
use im_core::state::{Append, Intent, RoomSeed};
use im_core::wire::{Event, Role, RoomKind, Target};
use im_core::{Code, RoomId, UserId};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use serde_json::Value;

use support::{Client, greeted};

/// Counts the calls of the hook.
#[derive(Default)]
struct Recorded(AtomicU64);

#[async_trait]
impl Hooks for Recorded {
    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        Verdict::Default
    }

    fn after(&self, _: &Arc<Event>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Records the counters of the engine.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<Count>>>);

#[derive(Default)]
struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

impl Counters {
    fn get(&self, name: &str) -> u64 {
        self.0.lock().unwrap().get(name).map_or(0, |count| count.0.load(Ordering::Relaxed))
    }
}

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = self.0.lock().unwrap();
        Counter::from_arc(counters.entry(key.name().to_owned()).or_default().clone())
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

struct Shop {
    engine: Engine,
    store: Arc<MemoryStore>,
    recorded: Arc<Recorded>,
    shop: UserId,
}

impl Shop {
    async fn open() -> Self {
        let (store, recorded) = (Arc::new(MemoryStore::new()), Arc::new(Recorded::default()));
        let builder = Engine::builder().allow_anonymous().store(store.clone());
        let engine = builder.hooks(recorded.clone()).start().await.unwrap();
        Self { engine, store, recorded, shop: user("shop") }
    }

    fn room(&self, id: &str, others: &[&str]) -> Append {
        let others = others.iter().map(|name| (user(name), Role::Member));
        let members = std::iter::once((self.shop.clone(), Role::Owner)).chain(others).collect();
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        self.engine.prepare_room(RoomId::new(id).unwrap(), seed, &self.shop).unwrap()
    }

    /// Commits outside the engine.
    async fn commit(&self, append: Append) -> Arc<Event> {
        match self.store.append(vec![append]).await.remove(0).unwrap() {
            Appended::Committed(event) => event,
            Appended::Duplicate { .. } => panic!("it is new"),
        }
    }

    async fn announced(&self, append: Append) {
        let event = self.commit(append).await;
        self.engine.announce(vec![event]).await.unwrap();
    }
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// Waits for the next `im.room` signal and returns its room.
async fn notified_room(client: &mut Client) -> Value {
    client.until(|frame| frame["t"] == "signal" && frame["kind"] == "im.room").await["content"]["room"]
        .clone()
}

/// Members are notified of a new room at once, as with `Engine::create_room`.
#[tokio::test(start_paused = true)]
async fn announced_room_signals_its_members() {
    let shop = Shop::open().await;
    let (mut ann, mut bob) =
        (greeted(&shop.engine, "ann").await, greeted(&shop.engine, "bob").await);
    shop.announced(shop.room("order-1", &["ann"])).await;
    assert_eq!(notified_room(&mut ann).await, "order-1");
    let change = Intent::Add(user("bob"), Role::Member);
    let room = RoomId::new("order-1").unwrap();
    shop.announced(shop.engine.prepare_change(room, &shop.shop, change)).await;
    assert_eq!(notified_room(&mut bob).await, "order-1");
}

/// A direct room and an inbox are created by a message that does not list the members.
#[tokio::test(start_paused = true)]
async fn announced_first_message_signals_peers() {
    let shop = Shop::open().await;
    let mut ann = greeted(&shop.engine, "ann").await;
    for to in [Target::Peer(user("ann")), Target::User(user("ann"))] {
        let publish = Publish::text(to, shop.shop.clone(), "it is here");
        let first = shop.engine.prepare(publish.clone()).unwrap();
        let room = first.room.to_string();
        shop.announced(first).await;
        assert_eq!(notified_room(&mut ann).await, room);
        // The second one creates no room.
        shop.announced(shop.engine.prepare(publish).unwrap()).await;
    }
    shop.announced(shop.room("order-1", &["ann"])).await;
    assert_eq!(notified_room(&mut ann).await, "order-1", "nothing is told before it");
}

/// Announced events are counted and delivered; those of a rolled-back transaction are not.
#[tokio::test(start_paused = true)]
async fn announced_events_are_counted_and_notified() {
    let counters = Counters::default();
    let _here = metrics::set_default_local_recorder(&counters);
    let shop = Shop::open().await;
    let (room, other) = (shop.room("order-1", &["ann"]), Shop::open().await);
    let message = |text| {
        let to = Target::Room(RoomId::new("order-1").unwrap());
        shop.engine.prepare(Publish::text(to, shop.shop.clone(), text)).unwrap()
    };
    let mut events = vec![shop.commit(room).await];
    for text in ["one", "two"] {
        events.push(shop.commit(message(text)).await);
    }
    // From another store, so this store does not have it, as after a rollback.
    events.push(other.commit(other.room("order-2", &[])).await);
    assert_eq!(counters.get("im_events_committed_total"), 0);
    shop.engine.announce(events).await.unwrap();
    assert_eq!(counters.get("im_events_committed_total"), 3);
    assert_eq!(shop.recorded.0.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn prepared_room_has_rules_of_created() {
    let shop = Shop::open().await;
    let seed = RoomSeed { kind: RoomKind::Group, open: false, members: Vec::new() };
    let inbox = RoomId::inbox(&shop.shop);
    let error = shop.engine.prepare_room(inbox, seed, &shop.shop).unwrap_err();
    assert_eq!(error.code(), Code::Forbidden);
    shop.commit(shop.room("order-1", &[])).await;
    let again = shop.store.append(vec![shop.room("order-1", &[])]).await.remove(0);
    assert_eq!(im_core::Error::from(again.unwrap_err()).code(), Code::Exists);
}

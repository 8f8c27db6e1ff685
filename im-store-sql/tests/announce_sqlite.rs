//! What the embedder commits in a transaction of SQLite's, once it is announced: members are told, and events are counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use im_core::engine::{Connection, Engine, Peer, Publish};
use im_core::ports::{Appended, Credentials};
use im_core::state::{Append, RoomSeed};
use im_core::wire::{Encoding, Event, Role, RoomKind, Target};
use im_core::{RoomId, UserId};
use im_store_sql::sqlx::{Connection as _, SqliteConnection};
use im_store_sql::{SqlConfig, SqliteStore};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use serde_json::{Value, json};

const COMMITTED: &str = "im_events_committed_total";

/// Keeps the counters of the engine.
#[derive(Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Counters {
    fn committed(&self) -> u64 {
        self.0.lock().unwrap().get(COMMITTED).map_or(0, |count| count.load(Ordering::Relaxed))
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

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

struct Shop {
    store: Arc<SqliteStore>,
    engine: Engine,
    /// The embedder's own connection.
    own: SqliteConnection,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open() -> Self {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("shop.db");
        let store = Arc::new(SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap());
        let engine = Engine::builder().allow_anonymous().store(store.clone());
        let engine = engine.start().await.unwrap();
        let own = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        Self { store, engine, own, _folder: folder }
    }

    /// A room for an order of ann's, and the message that begins it.
    fn order(&self, id: &str) -> [Append; 2] {
        let (room, shop) = (RoomId::new(id).unwrap(), user("shop"));
        let members = vec![(shop.clone(), Role::Owner), (user("ann"), Role::Member)];
        let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
        let text = Publish::text(Target::Room(room.clone()), shop.clone(), "placed");
        let made = self.engine.prepare_room(room, seed, &shop).unwrap();
        [made, self.engine.prepare(text).unwrap()]
    }

    async fn place(&mut self, order: &[Append], commits: bool) -> Vec<Arc<Event>> {
        let mut tx = self.own.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let answers = self.store.append_in(&mut tx, order).await.unwrap();
        if commits {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        let events = answers.into_iter().map(|answer| match answer.unwrap() {
            Appended::Committed(event) => event,
            Appended::Duplicate { .. } => panic!("it is new"),
        });
        events.collect()
    }
}

/// The next frame of this kind.
async fn next(connection: &Connection, is_it: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            let batch = connection.next(1).await;
            connection.release(batch.id);
            let read = |frame: &Bytes| serde_json::from_slice::<Value>(frame).unwrap();
            if let Some(found) = batch.frames.iter().map(read).find(&is_it) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.expect("it comes")
}

#[tokio::test]
async fn announced_transaction_signals_and_counts() {
    let counters = Counters::default();
    let _here = metrics::set_default_local_recorder(&counters);
    let mut shop = Shop::open().await;
    let credentials = Credentials::default();
    let peer = Peer { transport: "test", encoding: Encoding::Json, address: None, credentials };
    let ann = shop.engine.accept(peer).unwrap();
    ann.submit(Bytes::from_static(br#"{"t":"hello","id":1,"v":1,"user":"ann"}"#)).await;
    assert_eq!(next(&ann, |frame| frame["id"] == 1).await["t"], "ok");

    let orders = ["order-1", "order-2"].map(|id| shop.order(id));
    let gone = shop.place(&orders[0], false).await;
    let kept = shop.place(&orders[1], true).await;
    assert_eq!(counters.committed(), 0, "nobody has said anything yet");
    shop.engine.announce([gone, kept].concat()).await.unwrap();
    assert_eq!(counters.committed(), 2, "the room and the message that are there");
    let told = next(&ann, |frame| frame["kind"] == "im.room").await;
    assert_eq!(told["content"], json!({"room": "order-2"}), "of what was rolled back, nothing");
}

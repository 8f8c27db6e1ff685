//! The battle in an engine: hits in, hit points and ranking out, also after a restart and with late
//! updates.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this file is all test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use im_core::UserId;
use im_core::engine::{Engine, Publish, Subscription};
use im_core::memory::MemoryStore;
use im_core::ports::Store;
use im_core::wire::{Event, Map, Push, Target, Value};
use monster_battle::arena::Arena;

const RESPAWN: Duration = Duration::from_secs(3);

/// An engine with a running battle.
struct Battle {
    engine: Engine,
    arena: Arena,
    room: Subscription,
    /// The newest value of each key.
    state: BTreeMap<String, Value>,
    running: tokio::task::JoinHandle<im_core::Result<()>>,
}

impl Battle {
    async fn on(store: Arc<dyn Store>) -> Self {
        let engine = Engine::builder().allow_anonymous().store(store).start().await.unwrap();
        let arena = Arena::open(engine.clone()).await.unwrap();
        let room = engine.subscribe(arena.room(), None).await.unwrap();
        let running = tokio::spawn(arena.clone().run(RESPAWN));
        Self { engine, arena, room, state: BTreeMap::new(), running }
    }

    /// Strikes, and returns the offset of the hit.
    async fn hit(&self, by: &str, family: &str, late: bool) -> i64 {
        let hit = Publish {
            to: Target::Room(self.arena.room().clone()),
            from: UserId::new(by).unwrap(),
            kind: self.arena.hit_kind().clone(),
            content: Map::from_iter([("family", Value::from(family)), ("late", late.into())])
                .into(),
            id: None,
        };
        self.engine.publish(hit).await.unwrap().seq.get() as i64
    }

    async fn next(&mut self) -> Push {
        let next = tokio::time::timeout(Duration::from_secs(60), self.room.next());
        let push = next.await.unwrap().unwrap();
        let updates = match &push {
            Push::State(update) => std::slice::from_ref(update),
            Push::Snapshot(snapshot) => &snapshot.entries,
            _ => &[],
        };
        for update in updates {
            let value = update.value.as_ref().unwrap().value();
            self.state.insert(update.key.to_string(), value);
        }
        push
    }

    /// Waits for a value of this key that passes `good`.
    async fn state(&mut self, key: &str, good: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(value) = self.state.get(key).filter(|value| good(value)) {
                return value.clone();
            }
            self.next().await;
        }
    }

    /// Waits for the next event of this kind.
    async fn event(&mut self, kind: &str) -> Arc<Event> {
        loop {
            match self.next().await {
                Push::Event(event) if event.kind.as_str() == kind => return event,
                _ => {}
            }
        }
    }

    async fn end(self) {
        self.engine.drain(Duration::from_secs(1)).await;
        self.running.await.unwrap().unwrap();
    }
}

fn int(value: &Value, key: &str) -> i64 {
    value.get(key).unwrap().as_int().unwrap()
}

/// The part that is equal after a restart: all but the last applied offset.
fn essence(value: &Value) -> Value {
    let mut map = value.as_map().unwrap().clone();
    map.remove("applied");
    map.into()
}

#[tokio::test(start_paused = true)]
async fn hit_reduces_hp_and_is_ranked() {
    let mut battle = Battle::on(Arc::new(MemoryStore::new())).await;
    let seq = battle.hit("ada", "otters", false).await;
    let hp = battle.state("hp", |hp| int(hp, "applied") >= seq).await;
    let ranking = battle.state("ranking", |ranking| int(ranking, "applied") >= seq).await;
    let damage = int(hp.get("last").unwrap(), "damage");
    assert_eq!(int(&hp, "hp"), int(&hp, "max") - damage);
    let first = &ranking.get("players").unwrap().as_array().unwrap()[0];
    assert_eq!(first.get("name").unwrap().as_text(), Some("ada"));
    assert_eq!(int(first, "damage"), damage);
    battle.end().await;
}

#[tokio::test(start_paused = true)]
async fn fallen_monster_is_replaced_once() {
    let mut battle = Battle::on(Arc::new(MemoryStore::new())).await;
    let mut seq = 0;
    for _ in 0..150 {
        seq = battle.hit("ada", "ravens", false).await;
    }
    let slain = battle.event("slain").await;
    assert_eq!(slain.content.value().get("family").unwrap().as_text(), Some("ravens"));
    let appears = battle.event("appears").await;
    assert!(slain.seq.get() < appears.seq.get() && appears.seq.get() as i64 > seq);
    let hp = battle.state("hp", |hp| int(hp, "number") == 2).await;
    assert_eq!(int(&hp, "hp"), int(&hp, "max"));
    battle.end().await;
}

#[tokio::test(start_paused = true)]
async fn late_updates_are_refused_and_counted() {
    let mut battle = Battle::on(Arc::new(MemoryStore::new())).await;
    for _ in 0..4 {
        let seq = battle.hit("ada", "foxes", false).await;
        battle.state("ranking", |ranking| int(ranking, "applied") >= seq).await;
    }
    battle.hit("ada", "foxes", true).await;
    let late = battle.state("late", |_| true).await;
    assert_eq!((int(&late, "sent"), int(&late, "refused")), (2, 2));
    battle.end().await;
}

/// A restarted game reads its state from the log and publishes nothing twice.
#[tokio::test(start_paused = true)]
async fn restart_replays_log_without_new_events() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut before = Battle::on(store.clone()).await;
    for n in 0..150 {
        before.hit(["ada", "bela"][n % 2], ["foxes", "badgers"][n % 2], false).await;
    }
    before.event("appears").await;
    let seq = before.hit("ada", "foxes", false).await;
    let hp = before.state("hp", |hp| int(hp, "applied") >= seq).await;
    let ranking = before.state("ranking", |ranking| int(ranking, "applied") >= seq).await;
    before.end().await;

    let mut after = Battle::on(store).await;
    let again = after.state("hp", |_| true).await;
    assert_eq!(essence(&again), essence(&hp));
    assert_eq!(essence(&after.state("ranking", |_| true).await), essence(&ranking));
    let seq = after.hit("ada", "foxes", false).await;
    assert_eq!(seq, int(&hp, "applied") + 1, "nothing was added to the log");
    after.end().await;
}

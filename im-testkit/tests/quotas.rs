//! Which actions use quotas.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use im_core::Timestamp;
use im_core::engine::{Engine, EngineConfig};
use im_core::memory::MemoryStore;
use im_core::ports::{Allowance, Allowances, ManualClock, Payer, Quotas, Resource, Unlimited};
use im_testkit::faulty_store::{Fault, FaultyStore, Operation};
use parking_lot::Mutex;
use serde_json::{Value, json};

use support::{Client, peer};

/// Records the use of each resource.
#[derive(Default)]
struct Ledger(Mutex<HashMap<Resource, i64>>);

impl Ledger {
    fn add(&self, resource: Resource, amount: i64) {
        *self.0.lock().entry(resource).or_default() += amount;
    }

    fn used(&self, resource: Resource) -> i64 {
        self.0.lock().get(&resource).copied().unwrap_or(0)
    }
}

impl Quotas for Ledger {
    fn take(
        &self,
        _: Payer<'_>,
        resource: Resource,
        amount: u64,
        _: Timestamp,
    ) -> Result<(), Duration> {
        self.add(resource, amount.try_into().unwrap());
        Ok(())
    }

    fn refund(&self, _: Payer<'_>, resource: Resource, amount: u64, _: Timestamp) {
        self.add(resource, -i64::try_from(amount).unwrap());
    }
}

async fn with_quotas(quotas: Arc<dyn Quotas>) -> (Engine, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000)));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).clock(clock);
    let engine = engine.rate_limiter(Arc::new(Unlimited)).quotas(quotas);
    (engine.config(EngineConfig::default()).start().await.unwrap(), store)
}

fn send(id: u64) -> Value {
    let mid = format!("0123456789abcdef-{id}");
    json!({"t": "send", "id": id, "room": "tea", "mid": mid, "content": "x".repeat(32_000)})
}

/// Returns the codes of the answers to 64 concurrent sends, 0 for stored ones.
async fn codes_of_64(client: &mut Client) -> Vec<u64> {
    for id in 100..164 {
        client.send(&send(id)).await;
    }
    let mut codes = Vec::new();
    while codes.len() < 64 {
        let answer = client.next().await;
        codes.push(answer["code"].as_u64().unwrap_or(0));
    }
    codes
}

/// 64 sends of 32 KB in flight, of which the store refuses the first: all are stored when they are
/// retried.
#[tokio::test(start_paused = true)]
async fn refused_sends_use_no_bytes() {
    for (fault, code) in [(Fault::Unavailable, 4202), (Fault::UnknownBefore, 4100)] {
        let hour = Duration::from_secs(3600);
        let most = Allowance { amount: 3 << 20, per: hour, at_once: 3 << 20 };
        let quotas = Arc::new(Allowances::none().bytes_per_user(most));
        let (engine, store) = with_quotas(quotas).await;
        let mut ann = Client::greeted(&engine, "ann").await;
        ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
        for _ in 0..16 {
            store.fail_times(Operation::Append, fault, 1);
            let codes = codes_of_64(&mut ann).await;
            assert!(codes.contains(&code) && codes.contains(&4206), "{codes:?}");
            assert!(codes.iter().all(|got| [code, 4206].contains(got)), "{codes:?}");
        }
        let codes = codes_of_64(&mut ann).await;
        assert!(codes.iter().all(|code| *code == 0), "{codes:?}");
    }
}

/// However often commands that store nothing are repeated, only stored data is counted.
#[tokio::test(start_paused = true)]
async fn only_stored_data_is_counted() {
    let ledger = Arc::new(Ledger::default());
    let (engine, store) = with_quotas(ledger.clone()).await;
    let mut ann = Client::greeted(&engine, "ann").await;
    let bytes = |ledger: &Ledger| ledger.used(Resource::Bytes);
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    assert_eq!(ledger.used(Resource::Rooms), 1);
    let empty = bytes(&ledger);
    let first = ann.ask(send(3)).await;
    assert_eq!(first["duplicate"], false, "{first}");
    let one = bytes(&ledger) - empty;
    assert!(one > 32_000, "{one}");
    for _ in 0..10 {
        let again = ann.ask(send(3)).await;
        assert_eq!(again["duplicate"], true, "{again}");
    }
    let refused = [
        json!({"t": "send", "room": "tea", "mid": "0123456789abcdef-3", "content": "other"}),
        json!({"t": "send", "room": "nowhere", "mid": "0123456789abcdef-4", "content": "x"}),
        json!({"t": "put_state", "room": "nowhere", "key": "k", "value": "x"}),
        json!({"t": "create", "room": "dm:tea"}),
    ];
    for mut command in refused {
        command["id"] = json!(5);
        let answer = ann.ask(command).await;
        assert_eq!(answer["t"], "err", "{answer}");
    }
    assert_eq!(bytes(&ledger), empty + one);
    // A message with an unknown outcome is counted once at most.
    store.fail_times(Operation::Append, Fault::UnknownAfter, 1);
    assert_eq!(ann.ask(send(6)).await["code"], 4100);
    assert_eq!(ann.ask(send(6)).await["duplicate"], true);
    assert!(bytes(&ledger) <= empty + 2 * one);
    // Of concurrent messages that create a direct room, one has created it.
    let rooms = ledger.used(Resource::Rooms);
    let first = |id: u64| json!({"t": "send", "id": id, "peer": "bob", "mid": format!("0123456789abcdef-{id}"), "content": 1});
    ann.send(&json!([first(7), first(8), first(9)])).await;
    for _ in 0..3 {
        let answer = ann.next().await;
        assert_eq!(answer["t"], "ok", "{answer}");
    }
    assert_eq!(ledger.used(Resource::Rooms), rooms + 1);
}

/// A session that the store refuses to open, and sends behind a refused one, use no quota of the
/// address.
#[tokio::test(start_paused = true)]
async fn address_is_charged_for_done_work() {
    let ledger = Arc::new(Ledger::default());
    let (engine, store) = with_quotas(ledger.clone()).await;
    let mut home = peer();
    home.address = Some(IpAddr::from([192, 0, 2, 1]));
    store.fail_times(Operation::OpenSession, Fault::Unavailable, 1);
    let greeted = async || {
        let connection = engine.accept(home.clone()).unwrap();
        let mut client = Client { connection, got: Default::default() };
        let welcome = client.ask(json!({"t": "hello", "id": 1, "v": 1, "user": "ann"})).await;
        (client, welcome)
    };
    assert_eq!(greeted().await.1["code"], 4202);
    assert_eq!(ledger.used(Resource::Sessions), 0);
    let (mut ann, welcome) = greeted().await;
    assert_eq!(welcome["t"], "ok", "{welcome}");
    assert_eq!(ledger.used(Resource::Sessions), 1);
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    let before = ledger.used(Resource::Commands);
    store.fail_times(Operation::Append, Fault::Unavailable, 1);
    let codes = codes_of_64(&mut ann).await;
    let charged = codes.iter().filter(|code| **code != 4206).count();
    assert!(charged < 64, "{codes:?}");
    assert_eq!(ledger.used(Resource::Commands), before + i64::try_from(charged).unwrap());
}

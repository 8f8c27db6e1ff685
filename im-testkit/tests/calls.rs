//! Calls of one user without a connection of their own.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::engine::{Engine, EngineConfig};
use im_core::memory::MemoryStore;
use im_testkit::faulty_store::{FaultyStore, Moment, Operation};
use serde_json::{Value, json};

use support::{Client, peer};

/// Sends `hello` and a request for a page in one message. A permit that is never freed fails here.
async fn history_by_post(engine: &Engine, hello: Value) -> im_core::Result<Vec<Bytes>> {
    let history = json!({"t": "history", "id": 2, "room": "tea"});
    let message = Bytes::from(json!([hello, history]).to_string());
    let answers = async { Ok(engine.call(peer(), None, message).await?.all().await) };
    tokio::time::timeout(Duration::from_secs(3600), answers).await.unwrap()
}

/// Calls without session headers count as connections, too, each with the session's `hello` or a
/// new one.
#[tokio::test(start_paused = true)]
async fn calls_begun_by_hello_are_counted() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().max_calls_per_user(2);
    let engine = Engine::builder().allow_anonymous().store(store.clone()).config(config);
    let engine = engine.start().await.unwrap();
    let mut ann = Client::greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea", "kind": "channel", "open": true})).await;
    let call = |hello: Value| history_by_post(&engine, hello);
    let hello = |user: &str| json!({"t": "hello", "id": 1, "v": 1, "user": user});
    let mut opened = engine.call(peer(), None, hello("ann").to_string().into()).await.unwrap();
    let welcome: Value = serde_json::from_slice(&opened.next().await.unwrap().frames[0]).unwrap();
    drop(opened);
    let mut resumed = hello("ann");
    (resumed["session"], resumed["secret"]) =
        (welcome["session"].clone(), welcome["secret"].clone());
    let gate = store.hold(Operation::Read, Moment::Before);
    let meanwhile = async {
        gate.reached(2).await;
        for again in [resumed.clone(), hello("ann")] {
            let refused = call(again).await.unwrap_err();
            assert_eq!(refused.code().number(), 4204);
        }
        gate.release(3);
        // Calls of other users are not affected.
        call(hello("bob")).await.unwrap();
    };
    let (first, second, ()) = tokio::join!(call(resumed.clone()), call(hello("ann")), meanwhile);
    first.unwrap();
    second.unwrap();
    gate.open();
    // A call counts only while it lasts.
    for _ in 0..5 {
        call(resumed.clone()).await.unwrap();
    }
}

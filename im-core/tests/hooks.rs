//! What an embedder plugs in may fail without taking the engine with it.

#![allow(clippy::panic, reason = "a hook that panics is what is tested")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use im_core::engine::Engine;
use im_core::ports::{Action, Hooks, Identity, Verdict};
use im_core::wire::Event;
use serde_json::json;

use support::greeted;

struct Clumsy;

#[async_trait]
impl Hooks for Clumsy {
    fn wants_before(&self) -> bool {
        false
    }

    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        Verdict::Default
    }

    fn after(&self, _: &Arc<Event>) {
        panic!("as planned");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_panics_keeps_no_message_back() {
    let engine = Engine::builder().allow_anonymous().hooks(Arc::new(Clumsy)).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    ann.ask(json!({"t": "sub", "id": 3, "room": "tea"})).await;
    for n in 0..3 {
        let mid = format!("0123456789abcdef-{n}");
        let send = json!({"t": "send", "id": 4, "room": "tea", "mid": mid, "content": n});
        ann.send(send).await;
        assert_eq!(ann.until(|f| f["t"] == "event").await["content"], n);
    }
}

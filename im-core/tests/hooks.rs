//! Failures of embedder code do not stop the engine, and hooks are called for the kinds that they
//! want.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a hook that panics is what is tested")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use im_core::engine::Engine;
use im_core::ports::{Action, ActionKind, Hooks, Identity, Verdict};
use im_core::wire::{Event, RoomKind};
use serde_json::json;

use support::greeted;

struct Clumsy;

#[async_trait]
impl Hooks for Clumsy {
    fn wants(&self, _: ActionKind) -> bool {
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
async fn panicking_hook_blocks_no_message() {
    let engine = Engine::builder().allow_anonymous().hooks(Arc::new(Clumsy)).start().await.unwrap();
    let mut ann = greeted(&engine, "ann").await;
    ann.ask(json!({"t": "create", "id": 2, "room": "tea"})).await;
    ann.ask(json!({"t": "subscribe", "id": 3, "room": "tea"})).await;
    for n in 0..3 {
        let mid = format!("0123456789abcdef-{n}");
        let send = json!({"t": "send", "id": 4, "room": "tea", "mid": mid, "content": n});
        ann.send(send).await;
        assert_eq!(ann.until(|f| f["t"] == "event").await["content"], n);
    }
}

/// Wants some kinds, records the actions, and refuses sends to eve.
struct Registrar {
    wants: &'static [ActionKind],
    asked: Mutex<Vec<Action>>,
}

#[async_trait]
impl Hooks for Registrar {
    fn wants(&self, kind: ActionKind) -> bool {
        self.wants.contains(&kind)
    }

    async fn before(&self, _: &Identity, action: &Action) -> Verdict {
        self.asked.lock().unwrap().push(action.clone());
        match action {
            Action::Create { kind: RoomKind::Direct, with: Some(with), .. }
                if with.as_str() == "eve" =>
            {
                Verdict::Refuse("Leave eve alone.".to_owned())
            }
            // Into an inbox only if a hook allows it.
            Action::Send { to: im_core::wire::Target::User(_), .. } => Verdict::Allow,
            _ => Verdict::Default,
        }
    }
}

impl Registrar {
    fn new(wants: &'static [ActionKind]) -> Arc<Self> {
        Arc::new(Self { wants, asked: Mutex::default() })
    }

    /// The kinds of the calls since the last call of this.
    fn asked(&self) -> Vec<ActionKind> {
        self.asked.lock().unwrap().drain(..).map(|action| action.kind()).collect()
    }
}

async fn engine(hooks: &Arc<Registrar>) -> Engine {
    Engine::builder().allow_anonymous().hooks(hooks.clone()).start().await.unwrap()
}

/// All kinds of actions, by a member and by commands.
#[tokio::test(start_paused = true)]
async fn hook_is_called_per_action_kind() {
    let all = [
        ActionKind::Create,
        ActionKind::Change,
        ActionKind::Read,
        ActionKind::Send,
        ActionKind::Signal,
        ActionKind::PutState,
    ];
    let acts = [
        json!({"t": "create", "id": 2, "room": "tea"}),
        json!({"t": "member", "id": 3, "room": "tea", "user": "bob", "act": "add", "role": "member"}),
        json!({"t": "subscribe", "id": 4, "room": "tea"}),
        json!({"t": "send", "id": 5, "room": "tea", "mid": "0123456789abcdef", "content": 1}),
        json!({"t": "signal", "id": 6, "room": "tea", "kind": "typing", "content": 1}),
        json!({"t": "put_state", "id": 7, "room": "tea", "key": "k", "value": 1}),
    ];
    for kind in all {
        let hooks = Registrar::new(match kind {
            ActionKind::Create => &[ActionKind::Create],
            ActionKind::Change => &[ActionKind::Change],
            ActionKind::Read => &[ActionKind::Read],
            ActionKind::Send => &[ActionKind::Send],
            ActionKind::Signal => &[ActionKind::Signal],
            _ => &[ActionKind::PutState],
        });
        let engine = engine(&hooks).await;
        let mut ann = greeted(&engine, "ann").await;
        for act in &acts {
            let answer = ann.ask(act.clone()).await;
            assert_ne!(answer["t"], "err", "{act}: {answer}");
        }
        assert_eq!(hooks.asked(), [kind]);
    }
}

/// A direct room is created by its first message: the hook for rooms is called for it.
#[tokio::test(start_paused = true)]
async fn direct_room_asks_hook_once() {
    let hooks = Registrar::new(&[ActionKind::Create]);
    let engine = engine(&hooks).await;
    let mut ann = greeted(&engine, "ann").await;
    for n in 0..3 {
        let mid = format!("0123456789abcdef-{n}");
        let send = json!({"t": "send", "id": n + 2, "peer": "bob", "mid": mid, "content": n});
        let sent = ann.ask(send).await;
        assert_eq!(sent["seq"], n + 1, "{sent}");
    }
    assert_eq!(hooks.asked(), [ActionKind::Create]);
}

#[tokio::test(start_paused = true)]
async fn refused_direct_room_is_not_made() {
    let hooks = Registrar::new(&[ActionKind::Create, ActionKind::Send]);
    let engine = engine(&hooks).await;
    let mut ann = greeted(&engine, "ann").await;
    let mid = "0123456789abcdef";
    let send = json!({"t": "send", "id": 2, "peer": "eve", "mid": mid, "content": 1});
    let answer = ann.ask(send.clone()).await;
    assert_eq!(
        (&answer["t"], &answer["msg"]),
        (&json!("err"), &json!("Leave eve alone.")),
        "{answer}"
    );
    assert_eq!(hooks.asked(), [ActionKind::Send, ActionKind::Create]);
    let rooms = ann.ask(json!({"t": "rooms", "id": 3})).await;
    assert_eq!(rooms["list"], json!([]), "{rooms}");
    // And an inbox, created since a hook allowed the message.
    let send = json!({"t": "send", "id": 4, "to": "bob", "mid": mid, "content": 1});
    let sent = ann.ask(send).await;
    assert_eq!(sent["seq"], 1, "{sent}");
    assert_eq!(hooks.asked(), [ActionKind::Send, ActionKind::Create]);
}

//! Hooks: a refusal carries the hook's text, and a hook that hangs delays no other user.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use im_core::ports::{Action, Hooks, Identity, Verdict};
use im_core::{Code, MessageId};

use super::bystander::Bystander;
use super::*;

const WORDS: &str = "No shouting in here.";

/// Refuses `TEA!`, never answers for `mumble`, accepts everything else, and counts its calls.
#[derive(Default)]
struct Doorman {
    asked: AtomicU64,
}

#[async_trait]
impl Hooks for Doorman {
    async fn before(&self, _: &Identity, action: &Action) -> Verdict {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Action::Send { content, .. } = action else { return Verdict::Default };
        match content.get("text").and_then(im_core::wire::Value::as_text) {
            Some("TEA!") => Verdict::Refuse(WORDS.to_owned()),
            Some("mumble") => std::future::pending().await,
            _ => Verdict::Default,
        }
    }
}

async fn hooked<F: TransportFactory>(shape: Shape) -> (World<F>, Arc<Doorman>) {
    let doorman = Arc::new(Doorman::default());
    let config = EngineConfig::default().hook_timeout(Duration::from_millis(50));
    let setup = Setup { hooks: doorman.clone(), config, ..Setup::default() };
    (World::<F>::with(shape, setup).await, doorman)
}

/// Checks that a message is refused with `code` and `words`, and that its id can be used again.
async fn refuses<F: TransportFactory>(shape: Shape, said: &str, code: Code, words: &str) {
    let (world, _) = hooked::<F>(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    let id = MessageId::random();
    let command = ann.begin(message(&r, &id, said)).await;
    let refusal = ann.answer(command).await.unwrap_err();
    assert_eq!((refusal.code, refusal.message.as_str()), (code.number(), words));
    assert_eq!(world.head(&r).await.seq, seq(1), "nothing was stored");
    assert!(!ann.say_as(&r, &id, "tea, please").await.unwrap().duplicate);
    assert_eq!(ann.heard().await, "tea, please");
    bystander.ends_untouched(&world).await;
}

/// A hook's refusal reaches the sender as 4528 with the hook's own text.
pub async fn hook_refuses_with_own_text<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, "TEA!", Code::Refused, WORDS).await;
}

/// A hook that exceeds its time-out refuses the command with 4201.
pub async fn slow_hook_refuses<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, "mumble", Code::Overloaded, Code::Overloaded.meaning()).await;
}

/// A retry, or a conflict, is answered without calling the hook again.
pub async fn a_retry_is_answered_without_asking<F: TransportFactory>(shape: Shape) {
    let (world, doorman) = hooked::<F>(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let id = MessageId::random();
    let first = ann.say_as(&r, &id, "tea, please").await.unwrap();
    let asked = doorman.asked.load(Ordering::Relaxed);
    let retry = ann.say_as(&r, &id, "tea, please").await.unwrap();
    assert!(retry.duplicate && retry.seq == first.seq);
    assert_eq!(ann.say_as(&r, &id, "TEA!").await.unwrap_err(), Code::Conflict);
    assert_eq!(doorman.asked.load(Ordering::Relaxed), asked);
}

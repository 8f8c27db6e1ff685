//! Sender order: one send is refused retryably while later sends of the session are in flight.

use std::sync::Arc;

use im_core::memory::MemoryStore;
use im_core::ports::{Action, Hooks, Identity, Verdict};
use im_core::wire::ErrorReply;
use im_core::{Code, MessageId, RoomId};

use super::*;
use crate::faulty_store::{Fault, FaultyStore, Operation};
use crate::transport_suite::async_trait;

/// A world whose store can fail, with one append a batch.
async fn faulty<F: TransportFactory>(shape: Shape) -> (World<F>, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().append_batch(1);
    let setup = Setup { store: store.clone(), config, ..Setup::default() };
    (World::<F>::with(shape, setup).await, store)
}

/// Sends the messages in one frame batch and returns their answers in the order of the sends.
async fn pipelined(
    peer: &mut Peer,
    room: &RoomId,
    sends: &[(&MessageId, &str)],
) -> Vec<Result<(), ErrorReply>> {
    let bodies = sends.iter().map(|(id, words)| message(room, id, words)).collect();
    let mut answers = Vec::new();
    for command in peer.batch(bodies).await {
        answers.push(peer.answer(command).await.map(drop));
    }
    answers
}

fn codes(answers: &[Result<(), ErrorReply>]) -> Vec<Result<(), u16>> {
    answers.iter().map(|answer| answer.as_ref().copied().map_err(|e| e.code)).collect()
}

async fn said<F: TransportFactory>(world: &World<F>, room: &RoomId) -> Vec<String> {
    world.said(room).await.into_iter().map(|(_, words)| words).collect()
}

/// Later sends of a batch are refused with 4206 until the first one, refused retryably, is retried.
/// The retried batch is stored in the order sent.
pub async fn sends_behind_refusal_wait_for_retry<F: TransportFactory>(shape: Shape) {
    for fault in [Fault::UnknownBefore, Fault::UnknownAfter, Fault::Unavailable, Fault::Full] {
        let (world, store) = faulty::<F>(shape).await;
        let r = world.group("r", &["ann"]).await;
        let mut ann = world.peer("ann").await;
        let [a, b, c] = [(); 3].map(|()| MessageId::random());
        let all = [(&a, "a"), (&b, "b"), (&c, "c")];
        store.fail_times(Operation::Append, fault, 1);
        let answers = pipelined(&mut ann, &r, &all).await;
        let [Err(first), Err(second), Err(third)] = answers.as_slice() else {
            panic!("{answers:?}")
        };
        assert!(matches!(first.code, 4100 | 4202), "{first:?}");
        for waits in [second, third] {
            assert_eq!(waits.code, Code::SenderOrder.number());
            assert!(waits.retry_after.is_some(), "the refusal has a retry delay");
        }
        assert_eq!(codes(&pipelined(&mut ann, &r, &all).await), [Ok(()); 3]);
        assert_eq!(said(&world, &r).await, ["a", "b", "c"]);
    }
}

/// After several refusals, only the retry of the first send unblocks the session.
pub async fn first_refused_send_comes_first<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let world = World::<F>::with(shape, Setup { store: store.clone(), ..Setup::default() }).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let [a, b, c] = [(); 3].map(|()| MessageId::random());
    let all = [(&a, "a"), (&b, "b"), (&c, "c")];
    // The result must not depend on how the sends are split into batches.
    store.fail(Operation::Append, Fault::Unavailable);
    for _ in 0..2 {
        assert!(pipelined(&mut ann, &r, &all).await.iter().all(Result::is_err));
    }
    store.heal(Operation::Append);
    assert_eq!(
        codes(&pipelined(&mut ann, &r, &all[1..]).await),
        [Err(Code::SenderOrder.number()); 2]
    );
    assert_eq!(codes(&pipelined(&mut ann, &r, &all).await), [Ok(()); 3]);
    assert_eq!(said(&world, &r).await, ["a", "b", "c"]);
}

/// A resend in the same batch as the refused sends is stored in the order sent.
pub async fn immediate_resend_keeps_sender_order<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let [a, b] = [(); 2].map(|()| MessageId::random());
    store.fail_times(Operation::Append, Fault::UnknownBefore, 1);
    let sends = [(&a, "a"), (&b, "b"), (&a, "a"), (&b, "b")];
    let answers = codes(&pipelined(&mut ann, &r, &sends).await);
    assert_eq!(answers, [Err(4100), Err(Code::SenderOrder.number()), Ok(()), Ok(())]);
    assert_eq!(said(&world, &r).await, ["a", "b"]);
}

/// Sender order holds for sends in separate messages and after repeated failures.
pub async fn sender_order_holds_across_messages<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let [a, b] = [(); 2].map(|()| MessageId::random());
    for _ in 0..2 {
        store.fail_times(Operation::Append, Fault::Unavailable, 1);
        assert_eq!(ann.say_as(&r, &a, "a").await.unwrap_err(), Code::StoreUnavailable);
        assert_eq!(ann.say_as(&r, &b, "b").await.unwrap_err(), Code::SenderOrder);
    }
    ann.say_as(&r, &a, "a").await.unwrap();
    ann.say_as(&r, &b, "b").await.unwrap();
    assert_eq!(said(&world, &r).await, ["a", "b"]);
}

/// A retryable refusal delays no other room, session or user.
pub async fn refusal_blocks_no_other_sender<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let elsewhere = world.group("elsewhere", &["ann"]).await;
    // All on one engine, so that they share its shards.
    let mut ann = world.nth_peer(0, "ann").await;
    let mut other_device = world.nth_peer(0, "ann").await;
    let mut bob = world.nth_peer(0, "bob").await;
    store.fail_times(Operation::Append, Fault::Unavailable, 1);
    assert_eq!(ann.say(&r, "lost").await.unwrap_err(), Code::StoreUnavailable);
    ann.say(&elsewhere, "hello").await.unwrap();
    other_device.say(&r, "from my phone").await.unwrap();
    bob.say(&r, "hello").await.unwrap();
    assert_eq!(ann.say(&r, "too early").await.unwrap_err(), Code::SenderOrder);
    ann.settled().await;
    assert_eq!(said(&world, &r).await, ["from my phone", "hello"]);
}

/// A final refusal, such as a conflict, does not block later sends.
pub async fn final_refusal_blocks_nothing<F: TransportFactory>(shape: Shape) {
    let (world, _) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann"]).await;
    let foreign = world.group("foreign", &["bob"]).await;
    let mut ann = world.peer("ann").await;
    let [a, b, c] = [(); 3].map(|()| MessageId::random());
    ann.say_as(&r, &a, "a").await.unwrap();
    let sends = [(&a, "another content"), (&b, "b")];
    let answers = codes(&pipelined(&mut ann, &r, &sends).await);
    assert_eq!(answers, [Err(Code::Conflict.number()), Ok(())]);
    assert_eq!(ann.say_as(&foreign, &c, "c").await.unwrap_err(), Code::NotFound);
    assert_eq!(ann.say_as(&foreign, &c, "c").await.unwrap_err(), Code::NotFound);
}

/// A hook that accepts every action, so that each append is preceded by a lookup.
struct Asked;

#[async_trait]
impl Hooks for Asked {
    async fn before(&self, _: &Identity, _: &Action) -> Verdict {
        Verdict::Default
    }
}

/// With hooks, a retry that is acked from the idempotency record, without an append, unblocks later
/// sends. If the lookup fails, the later sends stay refused with 4206.
pub async fn retry_without_store_unblocks_next<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let config = EngineConfig::default().append_batch(1);
    let setup = Setup { store: store.clone(), config, hooks: Arc::new(Asked), ..Setup::default() };
    let world = World::<F>::with(shape, setup).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    let [a, b, c] = [(); 3].map(|()| MessageId::random());
    store.fail_times(Operation::Append, Fault::UnknownAfter, 1);
    let answers = codes(&pipelined(&mut ann, &r, &[(&a, "a"), (&b, "b")]).await);
    assert_eq!(answers, [Err(4100), Err(Code::SenderOrder.number())]);
    store.fail_times(Operation::Sent, Fault::Unavailable, 1);
    let all = [(&a, "a"), (&b, "b"), (&c, "c")];
    let answers = codes(&pipelined(&mut ann, &r, &all).await);
    let sender_order_refusal = Err(Code::SenderOrder.number());
    assert_eq!(
        answers,
        [Err(Code::StoreUnavailable.number()), sender_order_refusal, sender_order_refusal]
    );
    assert_eq!(codes(&pipelined(&mut ann, &r, &all).await), [Ok(()); 3]);
    assert_eq!(said(&world, &r).await, ["a", "b", "c"]);
}

//! A small history with cuts, resumes, a retry, a conflict, a removal, state and a restart, run on
//! a real engine: once unmodified, and once with each mutant.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::Engine;
use im_core::memory::MemoryStore;
use im_core::ports::{Store, Unlimited};
use im_core::wire::{AppendAck, CommandBody, Encoding, MemberAct, RoomKind};
use im_core::{Code, MessageId, RoomId};
use im_testkit::history::{Checker, Verdict, read_back};
use im_testkit::mutants::{Mutant, MutantStore, Overheard};

use client::Client;

mod client;

async fn start(store: &Arc<MutantStore>) -> Engine {
    let store: Arc<dyn Store> = store.clone();
    Engine::builder()
        .allow_anonymous()
        .store(store)
        .rate_limiter(Arc::new(Unlimited))
        .start()
        .await
        .unwrap()
}

/// Four clients in one room.
struct Party {
    alice: Client,
    bob: Client,
    carol: Client,
    dave: Client,
}

impl Party {
    fn new(room: &RoomId, checker: &Checker, mutant: Option<Mutant>) -> Self {
        let overheard = Overheard::default();
        let client =
            |name, encoding| Client::new(name, encoding, room, checker, mutant, &overheard);
        Self {
            alice: client("alice", Encoding::Json),
            bob: client("bob", Encoding::MsgPack),
            carol: client("carol", Encoding::Json),
            dave: client("dave", Encoding::MsgPack),
        }
    }

    /// Returns the clients that stay in the room.
    fn members(&mut self) -> [&mut Client; 3] {
        [&mut self.alice, &mut self.bob, &mut self.carol]
    }

    async fn settle(&mut self) {
        for client in self.members() {
            client.settle().await;
        }
    }
}

async fn history(mutant: Option<Mutant>) -> Verdict {
    let checker = Checker::new();
    let room = RoomId::new("tea").unwrap();
    let store = Arc::new(MutantStore::new(Arc::new(MemoryStore::new()), mutant));
    let mut party = Party::new(&room, &checker, mutant);

    let engine = start(&store).await;
    let first = gather(&mut party, &engine, &room).await;
    talk(&mut party).await;
    cut_and_resume(&mut party, &engine).await;
    retry_and_contradict(&mut party, &first).await;
    remove_dave(&mut party, &room).await;
    restart(&mut party, &store, engine, &first).await;

    let Party { alice, bob, carol, dave } = party;
    drop(dave);
    for client in [alice, bob, carol] {
        client.subscriber.finish();
    }
    read_back(&checker, &*store).await.unwrap();
    checker.finish()
}

/// Connects all clients and sends alice's first message. Returns its id.
async fn gather(party: &mut Party, engine: &Engine, room: &RoomId) -> MessageId {
    let members =
        [&party.bob, &party.carol, &party.dave].map(|client| client.user.clone()).to_vec();
    for client in [&mut party.alice, &mut party.bob, &mut party.carol, &mut party.dave] {
        client.connect(engine).await;
    }
    let create =
        CommandBody::Create { room: room.clone(), kind: RoomKind::Group, open: false, members };
    party.alice.call(create).await.unwrap();
    for client in [&mut party.alice, &mut party.bob, &mut party.carol, &mut party.dave] {
        client.subscribe().await;
    }
    let first = MessageId::random();
    party.alice.send(&first, "the first").await.unwrap();
    first
}

async fn talk(party: &mut Party) {
    for round in 0..3 {
        for client in party.members() {
            client.chat(1).await;
        }
        party.alice.put_state("score", round).await;
        party.settle().await;
        party.dave.settle().await;
    }
}

async fn cut_and_resume(party: &mut Party, engine: &Engine) {
    party.bob.cut();
    party.alice.chat(3).await;
    party.carol.chat(3).await;
    party.bob.connect(engine).await;
    party.bob.resume().await;
    party.bob.chat(1).await;
    party.alice.chat(2).await;
    party.settle().await;
}

/// A retry returns the first ack; other content under its id is refused.
async fn retry_and_contradict(party: &mut Party, first: &MessageId) {
    let again = party.alice.send(first, "the first").await.unwrap();
    assert!(again.duplicate);
    if let Err(error) = party.alice.send(first, "something else").await {
        assert_eq!(error.code, Code::Conflict.number());
    }
}

async fn remove_dave(party: &mut Party, room: &RoomId) {
    let (room, user) = (room.clone(), party.dave.user.clone());
    let remove = CommandBody::Member { room: room.clone(), user, act: MemberAct::Remove };
    let ack = AppendAck::from_value(party.alice.call(remove).await.unwrap()).unwrap();
    party.settle().await;
    party.dave.settle().await;
    party.dave.subscriber.removed(&room, ack.seq);
    party.bob.chat(2).await;
    party.settle().await;
    party.dave.call(CommandBody::Ping).await.unwrap();
    party.dave.settle().await;
}

/// Stops the engine after some last messages and restarts it on the same store.
async fn restart(party: &mut Party, store: &Arc<MutantStore>, engine: Engine, first: &MessageId) {
    store.about_to_restart();
    party.alice.send(&MessageId::random(), "last words").await.unwrap();
    party.alice.settle().await;
    for client in [&mut party.alice, &mut party.bob, &mut party.carol, &mut party.dave] {
        client.cut();
    }
    engine.drain(Duration::from_secs(5)).await;
    drop(engine);
    store.restarted();

    let engine = start(store).await;
    for client in party.members() {
        client.connect(&engine).await;
        client.resume().await;
    }
    party.alice.send(first, "the first").await.unwrap();
    for client in party.members() {
        client.chat(2).await;
    }
    party.settle().await;
}

#[tokio::test(start_paused = true)]
async fn unmodified_engine_breaks_no_rule() {
    let verdict = history(None).await;
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.sends, verdict.acked), (28, 28), "{verdict}");
    assert_eq!(verdict.stored, 30, "28 messages, the creation and the removal");
}

#[tokio::test(start_paused = true)]
async fn every_mutant_breaks_its_rule() {
    for mutant in Mutant::ALL {
        let verdict = history(Some(mutant)).await;
        assert!(verdict.count(mutant.caught_by()) > 0, "{mutant:?} was not caught:\n{verdict}");
        eprintln!("{mutant:?}: {:?}", verdict.broken);
    }
}

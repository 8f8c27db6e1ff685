//! Store failures: the sender gets a code, nothing is lost, and service resumes with the store.

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::Engine;
use im_core::memory::MemoryStore;
use im_core::ports::Credentials;
use im_core::wire::{Encoding, ResumeToken, Status};
use im_core::{Code, Cursor, MessageId, RoomId};

use super::bystander::Bystander;
use super::*;
use crate::faulty_store::{Fault, FaultyStore, Gate, Moment, Operation};
use crate::transport_suite::Kind;

async fn faulty<F: TransportFactory>(shape: Shape) -> (World<F>, Arc<FaultyStore>) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let world = World::<F>::with(shape, Setup { store: store.clone(), ..Setup::default() }).await;
    (world, store)
}

/// A full store refuses a send with 4202; nothing is stored, and a retry is stored once.
pub async fn full_store_refuses_and_stores_nothing<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Fault::Full, "full").await;
}

/// An unavailable store refuses a send with 4202; nothing is stored, and a retry is stored once.
pub async fn failing_store_refuses_and_stores_nothing<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Fault::Unavailable, "unavailable").await;
}

async fn refuses<F: TransportFactory>(shape: Shape, fault: Fault, why: &str) {
    let (world, store) = faulty::<F>(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    ann.say(&r, "before").await.unwrap();
    let id = MessageId::random();
    store.fail_times(Operation::Append, fault, 1);
    let command = ann.begin(message(&r, &id, "during")).await;
    let refusal = ann.answer(command).await.unwrap_err();
    assert_eq!(refusal.code, 4202);
    assert!(refusal.message.contains(why), "{}", refusal.message);
    assert!(refusal.message.contains("nothing was stored"), "{}", refusal.message);
    assert_eq!(world.head(&r).await.seq, seq(2), "nothing was stored");
    assert!(
        !ann.say_as(&r, &id, "during").await.unwrap().duplicate,
        "the refused send was not stored"
    );
    assert!(ann.say_as(&r, &id, "during").await.unwrap().duplicate, "the retry was stored once");
    assert_eq!(world.head(&r).await.seq, seq(3));
    assert_eq!((ann.heard().await, ann.heard().await), ("before".into(), "during".into()));
    bystander.ends_untouched(&world).await;
}

/// After 4100, a retry stores the message once, or is a duplicate if it was stored.
pub async fn retry_settles_unknown_outcome<F: TransportFactory>(shape: Shape) {
    for (fault, kept) in [(Fault::UnknownBefore, false), (Fault::UnknownAfter, true)] {
        let (world, store) = faulty::<F>(shape).await;
        let r = world.group("r", &["ann"]).await;
        let mut ann = world.peer("ann").await;
        ann.subscribe(&r, None).await.unwrap();
        let id = MessageId::random();
        store.fail_times(Operation::Append, fault, 1);
        assert_eq!(ann.say_as(&r, &id, "perhaps").await.unwrap_err(), Code::Unknown);
        assert_eq!(ann.say_as(&r, &id, "perhaps").await.unwrap().duplicate, kept);
        ann.say(&r, "next").await.unwrap();
        assert_eq!((ann.heard().await, ann.heard().await), ("perhaps".into(), "next".into()));
    }
}

/// Connections stay open while the store is unavailable, and commands work again afterwards.
pub async fn connections_survive_absent_store<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    bob.subscribe(&r, None).await.unwrap();
    store.fail_everything(Fault::Unavailable);
    let id = MessageId::random();
    assert_eq!(ann.say_as(&r, &id, "well again").await.unwrap_err(), Code::StoreUnavailable);
    assert_eq!(ann.subscribe(&r, None).await.unwrap_err(), Code::StoreUnavailable);
    let page = im_core::wire::PageFrom::Before(im_core::Seq::MAX);
    assert_eq!(ann.history(&r, page, 5).await.unwrap_err(), Code::StoreUnavailable);
    assert_eq!(ann.ping().await, Ok(()));
    store.heal_everything();
    ann.say_as(&r, &id, "well again").await.unwrap();
    assert_eq!(bob.heard().await, "well again");
}

/// A panic in the store fails one command with 4100; the connection and later commands work.
pub async fn panicking_store_fails_one_command<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    let id = MessageId::random();
    store.fail_times(Operation::Append, Fault::Panic, 1);
    assert_eq!(ann.say_as(&r, &id, "x").await.unwrap_err(), Code::Unknown);
    assert!(!ann.say_as(&r, &id, "x").await.unwrap().duplicate);
    assert_eq!(ann.heard().await, "x");
}

/// A store that runs one call at a time causes no deadlock: a call with a permit is always polled.
pub async fn bounded_store_calls_do_not_deadlock<F: TransportFactory>(shape: Shape) {
    let (world, store) = faulty::<F>(shape).await;
    let rooms = ["a", "b", "c", "d", "e"];
    let mut all = Vec::new();
    for name in rooms {
        all.push(world.group(name, &["ann", "bob"]).await);
    }
    let (mut ann, mut bob) = (world.peer("ann").await, world.peer("bob").await);
    let mut from = Vec::new();
    for r in &all {
        let head = world.head(r).await;
        ann.subscribe(r, None).await.unwrap();
        bob.subscribe(r, None).await.unwrap();
        from.push((r.clone(), head));
    }
    let sessions = [ann.token(), bob.token()];
    drop((ann, bob));
    // No room is in memory after a restart.
    let world = world.restart().await;
    store.take_turns(1);
    let (mut ann, mut bob) = (world.dial().await, world.dial().await);
    let [anns, bobs] = sessions;
    soon(async {
        tokio::join!(again(&mut ann, "ann", anns, &from), again(&mut bob, "bob", bobs, &from))
    })
    .await;
    for r in &all {
        ann.say(r, "back").await.unwrap();
        assert_eq!(bob.heard().await, "back");
    }
}

async fn again(peer: &mut Peer, name: &str, session: ResumeToken, from: &[(RoomId, Cursor)]) {
    peer.hello(hello_again(name, session)).await.unwrap();
    peer.resume(from.to_vec(), None).await.unwrap();
}

/// A connection that waits for a slow store does not count as silent.
pub async fn slow_store_causes_no_idle_timeout<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let setup = Setup {
        store: store.clone(),
        config: EngineConfig::default()
            .handshake_timeout(Duration::from_millis(50))
            .tick(Duration::from_millis(10)),
        ..Setup::default()
    };
    let world = World::<F>::with(shape, setup).await;
    let r = world.group("r", &["ann", "bob"]).await;
    // A stream half attaches its session when it opens.
    let gate = store.hold(Operation::AttachSession, Moment::Before);
    let following = async {
        let mut ann = world.peer("ann").await;
        ann.subscribe(&r, None).await.unwrap();
        ann
    };
    let (mut ann, ()) = tokio::join!(following, time_out::<F>(&world, gate));
    // A request with commands reads its session.
    let gate = store.hold(Operation::Session, Moment::Before);
    let (said, ()) = tokio::join!(ann.say(&r, "x"), time_out::<F>(&world, gate));
    said.unwrap();
    assert_eq!(ann.heard().await, "x");
}

/// Opens the gate when the held call has lasted longer than a handshake may take. Duplex
/// connections make no such call.
async fn time_out<F: TransportFactory>(world: &World<F>, gate: Gate) {
    if F::kind() != Kind::Duplex {
        soon(gate.reached(1)).await;
    }
    for engine in &world.engines {
        silence_is_ended(engine).await;
    }
    gate.open();
}

/// Returns after a silent connection that is accepted now has exceeded its handshake time-out.
async fn silence_is_ended(engine: &Engine) {
    let (encoding, credentials) = (Encoding::Json, Credentials::default());
    let silent =
        im_core::engine::Peer { transport: "silent", encoding, address: None, credentials };
    let silent = engine.accept(silent).unwrap();
    let ended = async {
        loop {
            if let Some(disconnect) = silent.next(1024).await.close {
                return disconnect.code;
            }
        }
    };
    assert_eq!(soon(ended).await, Code::HandshakeTimeout.number());
}

/// A replaced store, such as an older backup, resets members to the new epoch and denies
/// non-members.
pub async fn replaced_store_resets_and_denies<F: TransportFactory>(shape: Shape) {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let setup = Setup {
        store: store.clone(),
        config: EngineConfig::default()
            .head_check(Duration::from_millis(50))
            // The other store does not have the sessions, so do not check them.
            .session_check(Duration::from_secs(3600)),
        ..Setup::default()
    };
    let world = World::<F>::with(shape, setup.clone()).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let (mut ann, mut bob) = (world.nth_peer(0, "ann").await, world.nth_peer(1, "bob").await);
    for peer in [&mut ann, &mut bob] {
        peer.subscribe(&r, None).await.unwrap();
    }
    ann.say(&r, "of the old days").await.unwrap();
    assert_eq!(ann.heard().await, "of the old days");
    assert_eq!(bob.heard().await, "of the old days");
    let other = Arc::new(MemoryStore::new());
    let elsewhere =
        World::<F>::with(shape, Setup { store: other.clone(), ..Setup::default() }).await;
    elsewhere.group("r", &["ann"]).await;
    store.replace(other);
    let reset = ann.status().await;
    assert_eq!((reset.status, reset.cursor.map(|c| c.seq)), (Status::Reset, Some(seq(1))));
    let denied = bob.status().await;
    assert_eq!((denied.status, denied.code), (Status::Denied, Some(Code::NotFound.number())));
    ann.say(&r, "of the new ones").await.unwrap();
    assert_eq!(ann.heard().await, "of the new ones");
    assert_eq!(bob.ping().await, Ok(()));
    assert!(bob.drain_events(seq(0)) == seq(0), "a non-member receives no event of the new epoch");
}

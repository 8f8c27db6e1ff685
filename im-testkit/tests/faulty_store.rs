//! The store with planned faults: it fails as planned, and not otherwise.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests, their helpers included")]

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use im_core::memory::MemoryStore;
use im_core::ports::{
    Appended, LogRange, RoomDirectory, RoomLog, SessionRegistry, StateStore, StoreError,
    StoreErrorKind, Upkeep,
};
use im_core::state::{
    Act, Append, Authority, Base, CheckpointChange, IdempotencyKey, ImportedPart, ImportedRoom,
    Keep, NewEvent, RoomSeed, SecretHash, Ticket,
};
use im_core::state::{SessionRecord, content_hash};
use im_core::wire::{Content, Limits, PageFrom, Role, RoomKind, Secret};
use im_core::{
    DeviceId, Epoch, EventKind, MessageId, NodeId, RoomId, Seq, SessionId, Timestamp, UserId,
};
use im_testkit::faulty_store::{Fault, FaultyStore, Moment, Operation};
use im_testkit::store_suite::{Store, StoreFactory, async_trait};

/// Without a plan it passes the store suite.
mod without_faults {
    use super::*;

    struct Harmless;

    #[async_trait]
    impl StoreFactory for Harmless {
        async fn open(&self) -> Arc<dyn Store> {
            Arc::new(faulty())
        }

        async fn reopen(&self, _closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
            None
        }
    }

    im_testkit::store_suite!(Harmless);
}

fn faulty() -> FaultyStore {
    FaultyStore::new(Arc::new(MemoryStore::new()))
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

fn send(words: &str, id: &MessageId) -> Append {
    let content = Content::text(words, &Limits::default()).unwrap();
    let hash = content_hash(&EventKind::message(), &content.value());
    let key = Some(IdempotencyKey { id: id.clone(), hash });
    let event = NewEvent { from: ann(), kind: EventKind::message(), content, idempotency_key: key };
    let members = vec![(ann(), Role::Owner)];
    let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
    let act = Act::Post { event, seed };
    let at = Timestamp::from_millis(1);
    Append { room: room(), authority: Authority::User(ann()), act, at, max_members: 10 }
}

async fn head(store: &FaultyStore) -> Option<Seq> {
    store.heads(&[room()]).await.unwrap()[0].map(|head| head.cursor.seq)
}

fn kind(error: Option<StoreError>) -> Option<StoreErrorKind> {
    error.map(|error| error.kind())
}

fn unchanged() -> CheckpointChange {
    CheckpointChange {
        base: Base::Held,
        unsubscribe: vec![],
        subscribe: vec![],
        confirm: vec![],
        max_rooms: 1,
    }
}

fn ticket() -> Ticket {
    Ticket {
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        open_until: Timestamp::default(),
        opened: false,
        device: None,
        claims: Bytes::new(),
        expires: None,
    }
}

/// A room to import.
fn new_room(name: &str) -> ImportedRoom {
    let (kind, open, created) = (RoomKind::Group, false, Timestamp::default());
    ImportedRoom { id: RoomId::new(name).unwrap(), kind, open, created, first: Seq::FIRST }
}

type Imports = [(RoomId, Epoch); 2];

/// A store with two imports in progress.
async fn importing() -> (FaultyStore, Imports) {
    let inner = MemoryStore::new();
    let (one, two) = (new_room("one"), new_room("two"));
    let imports = [
        (one.id.clone(), inner.begin_import(one).await.unwrap()),
        (two.id.clone(), inner.begin_import(two).await.unwrap()),
    ];
    (FaultyStore::new(Arc::new(inner)), imports)
}

/// Calls one operation of the store.
async fn call(
    store: &FaultyStore,
    imports: &Imports,
    operation: Operation,
) -> Option<StoreErrorKind> {
    let (user, id) = (ann(), SessionId::new("s").unwrap());
    let session = SessionRecord {
        id: id.clone(),
        user: user.clone(),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        created: Timestamp::default(),
        expires: Timestamp::default(),
        fencing_token: 1,
    };
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 1, max_bytes: 1 };
    let message = MessageId::random();
    kind(match operation {
        Operation::Append => store.append(vec![send("x", &message)]).await.remove(0).err(),
        Operation::Read => store.read(&room(), range).await.err(),
        Operation::Heads => store.heads(&[room()]).await.err(),
        Operation::Sent => store.idempotency_record(&room(), &user, &message).await.err(),
        Operation::Trim => store.trim(&room(), &Keep::ALL, 1).await.err(),
        Operation::Rooms => store.rooms(None, 1).await.err(),
        Operation::Memberships => store.memberships(&room(), None, 1).await.err(),
        Operation::DeleteRoom => store.delete_room(&RoomId::new("gone").unwrap()).await.err(),
        Operation::Purge => store.purge(1).await.err(),
        Operation::EraseUser => store.erase_user(&UserId::new("gone").unwrap(), 1).await.err(),
        Operation::BeginImport => store.begin_import(new_room("three")).await.err(),
        Operation::Import => {
            let (room, epoch) = &imports[0];
            store.import(room, *epoch, ImportedPart::default()).await.err()
        }
        Operation::FinishImport => {
            let (room, epoch) = &imports[1];
            store.finish_import(room, *epoch).await.err()
        }
        Operation::Room => store.room(&room()).await.err(),
        Operation::Membership => store.membership(&room(), &user).await.err(),
        Operation::Members => store.members(&room(), None, 1).await.err(),
        Operation::RoomsOf => store.rooms_of(&user, None, 1).await.err(),
        Operation::OpenSession => store.open_session(session).await.err(),
        Operation::Session => store.session(&id).await.err(),
        Operation::SessionsOf => store.sessions_of(&user, 1).await.err(),
        Operation::AttachSession => store.attach_session(&id, Timestamp::default()).await.err(),
        Operation::TouchSession => store.touch_session(&id, Timestamp::default()).await.err(),
        Operation::EndSession => store.end_session(&id).await.err(),
        Operation::SessionHeads => store.session_heads(&[id]).await.err(),
        Operation::Checkpoint => store.checkpoint(&id).await.err(),
        Operation::ChangeCheckpoint => store.change_checkpoint(&id, unchanged()).await.err(),
        Operation::PutTicket => store.put_ticket(&id, ticket()).await.err(),
        Operation::OpenTicket => store.open_ticket(&id, &ticket().secret).await.err(),
        Operation::Ticket => store.ticket(&id).await.err(),
        Operation::SweepSessions => store.sweep_sessions(Timestamp::default(), 1).await.err(),
        Operation::MergeState => store.merge_state(Vec::new()).await.err(),
        Operation::State => store.state(&room()).await.err(),
        Operation::BeginState => store.begin_state(NodeId(1)).await.err(),
        Operation::StateGeneration => store.state_generation().await.err(),
        Operation::EndState => store.end_state(NodeId(1)).await.err(),
        Operation::Close => store.close().await.err(),
        other => panic!("{other:?} has no call here"),
    })
}

/// Each operation fails alone, in each way, and is counted.
#[tokio::test]
async fn every_operation_fails_in_every_way() {
    let faults = [
        (Fault::Full, StoreErrorKind::Full),
        (Fault::Unavailable, StoreErrorKind::Unavailable),
        (Fault::UnknownBefore, StoreErrorKind::Unknown),
        (Fault::UnknownAfter, StoreErrorKind::Unknown),
    ];
    for planned in Operation::ALL {
        for (fault, expected) in faults {
            let (store, imports) = importing().await;
            store.fail(*planned, fault);
            // Closing comes last in the list: a closed store fails in another way.
            for operation in Operation::ALL {
                let expected = (operation == planned).then_some(expected);
                assert_eq!(
                    call(&store, &imports, *operation).await,
                    expected,
                    "{operation:?}: {fault:?}"
                );
                assert_eq!(store.calls(*operation), 1);
            }
        }
    }
}

#[tokio::test]
async fn error_cause_is_os_error() {
    let store = faulty();
    for (fault, number) in [(Fault::Full, libc::ENOSPC), (Fault::Unavailable, libc::EIO)] {
        store.fail_times(Operation::Room, fault, 1);
        let error = store.room(&room()).await.unwrap_err();
        let cause = std::error::Error::source(&error).unwrap();
        let cause = cause.downcast_ref::<std::io::Error>().unwrap();
        assert_eq!(cause.raw_os_error(), Some(number));
    }
}

/// An append that fails before the commit is not written, and one after it is.
#[tokio::test]
async fn only_faults_after_commit_are_written() {
    for fault in [Fault::Full, Fault::Unavailable, Fault::UnknownBefore, Fault::UnknownAfter] {
        let (store, id) = (faulty(), MessageId::random());
        store.fail_times(Operation::Append, fault, 1);
        let batch = vec![send("a", &id), send("b", &MessageId::random())];
        let answers = store.append(batch.clone()).await;
        assert_eq!(answers.iter().filter(|answer| answer.is_err()).count(), 2, "{fault:?}");
        let written = fault == Fault::UnknownAfter;
        assert_eq!(head(&store).await, written.then(|| Seq::new(2).unwrap()));
        // A retry under the same ids shows the outcome.
        for (n, answer) in store.append(batch).await.into_iter().enumerate() {
            match answer.unwrap() {
                Appended::Committed(event) => {
                    assert!(!written);
                    assert_eq!(event.seq.get(), n as u64 + 1);
                }
                Appended::Duplicate { record, .. } => {
                    assert!(written);
                    assert_eq!(record.seq.get(), n as u64 + 1);
                }
            }
        }
        assert_eq!(head(&store).await, Seq::new(2).ok());
    }
}

#[tokio::test]
async fn faults_run_in_order_and_end() {
    let (store, imports) = importing().await;
    store.fail_after(Operation::Room, Fault::Full, 2, 1);
    store.fail_times(Operation::Room, Fault::Unavailable, 0);
    store.fail_times(Operation::Room, Fault::UnknownBefore, 2);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(call(&store, &imports, Operation::Room).await);
    }
    let (full, unknown) = (Some(StoreErrorKind::Full), Some(StoreErrorKind::Unknown));
    assert_eq!(seen, [None, None, full, unknown, unknown, None]);
    store.fail_everything(Fault::Full);
    assert_eq!(call(&store, &imports, Operation::Room).await, full);
    assert_eq!(call(&store, &imports, Operation::State).await, full);
    store.heal(Operation::Room);
    assert_eq!(call(&store, &imports, Operation::Room).await, None);
    assert_eq!(call(&store, &imports, Operation::State).await, full);
    store.heal_everything();
    assert_eq!(call(&store, &imports, Operation::State).await, None);
}

/// A gate before the commit holds calls and releases them one by one.
#[tokio::test]
async fn gate_before_commit_releases_one_call() {
    let store = Arc::new(faulty());
    let gate = store.hold(Operation::Append, Moment::Before);
    let spawn = |words: &'static str| {
        let store = Arc::clone(&store);
        let id = MessageId::random();
        tokio::spawn(async move { store.append(vec![send(words, &id)]).await.remove(0).is_ok() })
    };
    let first = spawn("a");
    gate.reached(1).await;
    let second = spawn("b");
    gate.reached(2).await;
    assert_eq!((head(&store).await, first.is_finished()), (None, false));
    gate.release(1);
    assert!(first.await.unwrap());
    assert_eq!((head(&store).await, second.is_finished()), (Some(Seq::FIRST), false));
    // A fault that is planned while the call is held applies to it.
    store.fail_times(Operation::Append, Fault::Full, 1);
    gate.open();
    assert!(!second.await.unwrap());
    assert_eq!(head(&store).await, Some(Seq::FIRST));
    assert!(spawn("c").await.unwrap(), "an open gate holds nothing");
    assert_eq!(store.calls(Operation::Append), 3);
}

#[tokio::test]
async fn gate_after_commit_holds_answer() {
    let store = faulty();
    let gate = store.hold(Operation::Append, Moment::After);
    let id = MessageId::random();
    let mut answer = store.append(vec![send("a", &id)]);
    assert!((&mut answer).now_or_never().is_none());
    assert_eq!((gate.arrived(), head(&store).await), (1, Some(Seq::FIRST)));
    drop(gate);
    assert!(answer.await[0].is_ok());
}

#[tokio::test]
async fn second_gate_replaces_and_outlives_first() {
    let store = faulty();
    let first = store.hold(Operation::Room, Moment::Before);
    let room = room();
    let mut early = store.room(&room);
    assert!((&mut early).now_or_never().is_none());
    let second = store.hold(Operation::Room, Moment::Before);
    drop(first);
    assert!(early.await.unwrap().is_none());
    let mut late = store.room(&room);
    assert!((&mut late).now_or_never().is_none(), "the second gate is still there");
    drop(second);
    assert!(late.await.unwrap().is_none());
}

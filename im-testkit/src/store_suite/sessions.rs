//! Sessions: records, checkpoints, tickets.

use bytes::Bytes;
use im_core::state::{
    Base, Checkpoint, CheckpointChange, SecretHash, SessionHead, SessionRecord, SubscriptionRecord,
    Ticket, Unchanged,
};
use im_core::wire::Secret;
use im_core::{Cursor, DeviceId, Epoch, RoomId, SessionId};

use super::StoreFactory;
use super::fixture::*;

fn record(id: &str, owner: &str, created: u64, expires: u64) -> SessionRecord {
    SessionRecord {
        id: session(id),
        user: user(owner),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        created: at(created),
        expires: at(expires),
        fencing_token: 1,
    }
}

fn cursor(n: u64) -> Cursor {
    Cursor { epoch: Epoch { generation: u64::MAX, incarnation: 7 }, seq: seq(n) }
}

/// The first `rooms` rooms, each with the cursor `n`.
fn rooms(rooms: u64, n: u64) -> Vec<(RoomId, Cursor)> {
    (0..rooms).map(|number| (room(&format!("room{number}")), cursor(n))).collect()
}

fn subscribe(base: Base, subscribe: Vec<(RoomId, Cursor)>) -> CheckpointChange {
    CheckpointChange { base, unsubscribe: vec![], subscribe, confirm: vec![], max_rooms: 2_000 }
}

/// A checkpoint with rooms subscribed since `since`.
fn checkpoint(rev: u64, since: u64, subscribe: Vec<(RoomId, Cursor)>) -> Checkpoint {
    let subscription = |(room, cursor)| (room, SubscriptionRecord { cursor, since });
    Checkpoint { rev, rooms: subscribe.into_iter().map(subscription).collect() }
}

/// A session that was opened is read back, with an empty checkpoint.
pub async fn a_session_is_kept<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    assert_eq!(store.session(&session("s")).await.unwrap(), None);
    let first = record("s", "ann", 1, 100);
    store.open_session(first.clone()).await.unwrap();
    assert_eq!(store.session(&session("s")).await.unwrap(), Some(first));
    assert_eq!(store.session(&session("S")).await.unwrap(), None);
    assert_eq!(store.checkpoint(&session("s")).await.unwrap(), Checkpoint::default());
}

/// Attaching increments the fencing token and sets the expiry, and keeps the checkpoint.
pub async fn attaching_counts_and_moves_the_expiry<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    assert_eq!(store.attach_session(&id, at(100)).await.unwrap(), None);
    assert_eq!(store.session(&id).await.unwrap(), None, "attaching creates no session");
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    store.change_checkpoint(&id, subscribe(Base::Held, rooms(2, 5))).await.unwrap().unwrap();
    assert_eq!(store.attach_session(&id, at(300)).await.unwrap(), Some(2));
    assert_eq!(store.attach_session(&id, at(200)).await.unwrap(), Some(3));
    let held = SessionRecord { fencing_token: 3, ..record("s", "ann", 1, 200) };
    assert_eq!(store.session(&id).await.unwrap(), Some(held.clone()));
    assert_eq!(store.sessions_of(&user("ann"), 10).await.unwrap(), [held]);
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(1, 1, rooms(2, 5)));
}

/// Touching moves the expiry of an existing session and creates none.
pub async fn touched_session_expires_later<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.touch_session(&id, at(500)).await.unwrap();
    assert_eq!(store.session(&id).await.unwrap(), None, "touching creates no session");
    store.open_session(record("s", "ann", 5, 50)).await.unwrap();
    store.touch_session(&id, at(500)).await.unwrap();
    assert_eq!(store.session(&id).await.unwrap(), Some(record("s", "ann", 5, 500)));
    assert_eq!(
        store.sweep_sessions(at(100), 10).await.unwrap(),
        0,
        "touching has moved the expiry"
    );
    assert_eq!(store.sweep_sessions(at(501), 10).await.unwrap(), 1);
    store.touch_session(&id, at(900)).await.unwrap();
    assert_eq!(
        store.session(&id).await.unwrap(),
        None,
        "a late write does not restore the session"
    );
}

/// The sessions of a user are listed from the oldest on, up to a limit.
pub async fn sessions_are_listed_oldest_first<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for (id, owner, created) in
        [("z", "ann", 1), ("b", "ann", 300), ("c", "ann", 20), ("d", "anna", 10), ("e", "an", 10)]
    {
        store.open_session(record(id, owner, created, 1_000)).await.unwrap();
    }
    let listed = async |limit| -> Vec<SessionId> {
        let sessions = store.sessions_of(&user("ann"), limit).await.unwrap();
        assert!(sessions.iter().all(|record| record.user == user("ann")));
        sessions.into_iter().map(|record| record.id).collect()
    };
    assert_eq!(listed(10).await, ["z", "c", "b"].map(session));
    assert_eq!(listed(2).await, ["z", "c"].map(session));
    assert!(listed(0).await.is_empty());
    assert!(store.sessions_of(&user("bob"), 10).await.unwrap().is_empty());
}

/// An ended session is gone, and late writes do not restore it.
pub async fn ended_session_never_returns<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.open_session(record("other", "ann", 1, 100)).await.unwrap();
    store.end_session(&id).await.unwrap();
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    store.change_checkpoint(&id, subscribe(Base::Held, rooms(2, 5))).await.unwrap().unwrap();
    store.end_session(&id).await.unwrap();
    for _ in 0..2 {
        assert_eq!(store.session(&id).await.unwrap(), None);
        assert_eq!(store.checkpoint(&id).await.unwrap(), Checkpoint::default());
        assert_eq!(store.session_heads(std::slice::from_ref(&id)).await.unwrap(), [None]);
        assert_eq!(store.sessions_of(&user("ann"), 10).await.unwrap().len(), 1);
        // Late writes of the ended connection.
        store.touch_session(&id, at(900)).await.unwrap();
        assert_eq!(store.attach_session(&id, at(900)).await.unwrap(), None);
        let late = store.change_checkpoint(&id, subscribe(Base::Held, rooms(1, 6))).await.unwrap();
        assert_eq!(late, Err(Unchanged::NoSession));
        store.end_session(&id).await.unwrap();
    }
    assert_eq!(store.sweep_sessions(at(1_000), 10).await.unwrap(), 1, "the other session");
}

/// Listing and ending sessions in a loop ends all sessions of a user.
pub async fn ending_listed_sessions_reaches_all<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for n in 0..10 {
        store.open_session(record(&format!("s{n}"), "ann", n, 100)).await.unwrap();
    }
    store.open_session(record("other", "bob", 1, 100)).await.unwrap();
    for expected in [3, 3, 3, 1, 0] {
        let listed = store.sessions_of(&user("ann"), 3).await.unwrap();
        assert_eq!(listed.len(), expected, "ended sessions are not listed");
        for record in listed {
            store.end_session(&record.id).await.unwrap();
        }
    }
    assert_eq!(store.sessions_of(&user("bob"), 3).await.unwrap().len(), 1);
}

/// Heads of sessions have the fencing token and the revision, in the order of the request.
pub async fn heads_show_fencing_token_and_revision<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    assert!(store.session_heads(&[]).await.unwrap().is_empty());
    for id in ["a", "b"] {
        store.open_session(record(id, "ann", 1, 100)).await.unwrap();
    }
    store.attach_session(&session("a"), at(100)).await.unwrap();
    for _ in 0..3 {
        let change = subscribe(Base::Held, rooms(1_000, 5));
        store.change_checkpoint(&session("b"), change).await.unwrap().unwrap();
    }
    let heads = store.session_heads(&["b", "nobody", "a", "b"].map(session)).await.unwrap();
    let (a, b) =
        (SessionHead { fencing_token: 2, rev: 0 }, SessionHead { fencing_token: 1, rev: 3 });
    assert_eq!(heads, [Some(b), None, Some(a), Some(b)]);
}

/// Changes of a checkpoint have the results of `Checkpoint::apply`.
pub async fn a_checkpoint_changes_step_by_step<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    let nobody = store.change_checkpoint(&id, subscribe(Base::Held, rooms(1, 5))).await.unwrap();
    assert_eq!(nobody, Err(Unchanged::NoSession));
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    let mut expected = Checkpoint::default();
    let unfollow =
        CheckpointChange { unsubscribe: vec![room("room1")], ..subscribe(Base::Rev(2), vec![]) };
    let confirm = CheckpointChange { confirm: rooms(9, 8), ..subscribe(Base::Held, vec![]) };
    let crowded = CheckpointChange { max_rooms: 2, ..subscribe(Base::Held, rooms(4, 1)) };
    for change in [
        subscribe(Base::Held, rooms(2, 5)),
        subscribe(Base::Held, rooms(3, 6)),
        subscribe(Base::Rev(1), rooms(5, 1)),
        unfollow,
        confirm,
        crowded,
        subscribe(Base::Empty, rooms(1, 2)),
        subscribe(Base::Empty, vec![]),
    ] {
        let changed = store.change_checkpoint(&id, change.clone()).await.unwrap();
        assert_eq!(changed, expected.apply(&change), "{change:?}");
        assert_eq!(store.checkpoint(&id).await.unwrap(), expected, "{change:?}");
    }
    assert_eq!(expected, checkpoint(6, 0, vec![]));
}

/// A checkpoint of a thousand rooms round trips and can be replaced.
pub async fn thousand_room_checkpoint_is_stored<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    store.change_checkpoint(&id, subscribe(Base::Held, rooms(1_000, 5))).await.unwrap().unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(1, 1, rooms(1_000, 5)));
    let few = subscribe(Base::Empty, rooms(2, 7));
    store.change_checkpoint(&id, few).await.unwrap().unwrap();
    assert_eq!(store.checkpoint(&id).await.unwrap(), checkpoint(2, 2, rooms(2, 7)));
}

/// Concurrent changes of a checkpoint all apply, each with its own revision.
pub async fn concurrent_checkpoint_changes_all_count<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    let changes = rooms(20, 5).into_iter().map(|one| {
        let (store, id) = (store.clone(), id.clone());
        async move { store.change_checkpoint(&id, subscribe(Base::Held, vec![one])).await }
    });
    let mut revs: Vec<u64> = futures::future::join_all(changes)
        .await
        .into_iter()
        .map(|changed| changed.unwrap().unwrap())
        .collect();
    revs.sort_unstable();
    assert_eq!(revs, (1..=20).collect::<Vec<_>>());
    assert_eq!(store.checkpoint(&id).await.unwrap().rooms.len(), 20);
}

/// A ticket needs a session, opens once with its secret, and ends with the session.
pub async fn ticket_ends_with_its_session<F: StoreFactory>(factory: &F) {
    let (store, id) = (factory.open().await, session("s"));
    let ticket = |secret: &str, opened: bool| Ticket {
        secret: SecretHash::of(&Secret::new(secret)),
        open_until: at(60),
        opened,
        device: opened.then(|| DeviceId::new("phone").unwrap()),
        claims: Bytes::from(vec![7; 9_000]),
        expires: opened.then(|| at(0)),
    };
    store.put_ticket(&id, ticket("a", false)).await.unwrap();
    assert_eq!(store.ticket(&id).await.unwrap(), None, "a ticket needs a session");
    store.open_session(record("s", "ann", 1, 100)).await.unwrap();
    assert_eq!(store.ticket(&id).await.unwrap(), None);
    let [a, b] = ["a", "b"].map(|secret| SecretHash::of(&Secret::new(secret)));
    assert!(!store.open_ticket(&id, &a).await.unwrap(), "no ticket to open");
    store.put_ticket(&id, ticket("a", false)).await.unwrap();
    assert!(!store.open_ticket(&id, &b).await.unwrap(), "the ticket has another secret");
    assert!(store.open_ticket(&id, &a).await.unwrap());
    assert!(!store.open_ticket(&id, &a).await.unwrap(), "a ticket opens once");
    assert!(store.ticket(&id).await.unwrap().unwrap().opened);
    for next in [ticket("a", false), ticket("a", true), ticket("b", false)] {
        store.put_ticket(&id, next.clone()).await.unwrap();
        assert_eq!(store.ticket(&id).await.unwrap(), Some(next));
    }
    store.end_session(&id).await.unwrap();
    assert_eq!(store.ticket(&id).await.unwrap(), None);
}

/// A sweep removes expired sessions and their checkpoints, at most `limit` in each call.
pub async fn expired_sessions_are_swept_in_steps<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    for (id, expires) in [("a", 10), ("b", 99), ("c", 100), ("d", 101), ("e", 5), ("f", 70_000)] {
        store.open_session(record(id, "ann", 1, expires)).await.unwrap();
        let change = subscribe(Base::Held, rooms(2, 2));
        store.change_checkpoint(&session(id), change).await.unwrap().unwrap();
    }
    assert_eq!(store.sweep_sessions(at(5), 10).await.unwrap(), 0);
    assert_eq!(store.sweep_sessions(at(100), 0).await.unwrap(), 0);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 2);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 1);
    assert_eq!(store.sweep_sessions(at(100), 2).await.unwrap(), 0);
    for (id, kept) in [("a", false), ("b", false), ("e", false), ("c", true), ("d", true)] {
        assert_eq!(store.session(&session(id)).await.unwrap().is_some(), kept, "{id}");
        let checkpoint = store.checkpoint(&session(id)).await.unwrap();
        assert_eq!(checkpoint != Checkpoint::default(), kept, "{id}");
    }
    assert_eq!(store.sessions_of(&user("ann"), 10).await.unwrap().len(), 3);
}

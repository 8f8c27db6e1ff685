//! Where rows lie in the tables, and what upkeep leaves in them.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, Publish};
use im_core::ports::{LogRange, RoomDirectory, RoomLog, StateStore, Store, Upkeep};
use im_core::state::{Act, Append, ImportedEvent, ImportedPart, ImportedRoom, Keep, RoomSeed};
use im_core::wire::{Content, Limits, PageFrom, Role, RoomKind, StateUpdate, Target};
use im_core::{EventKind, MessageId, NodeId, RoomId, Seq, Stamp, StateKey, Timestamp, UserId};
use im_store_sql::{SqlConfig, SqliteStore};
use im_testkit::store_suite::turns::look_up_passes_pages;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};

use self::support::message;

const OF_ROOMS: [&str; 7] =
    ["im_rooms", "im_members", "im_messages", "im_runs", "im_state", "im_state_heads", "im_doomed"];

/// What makes a retry a retry.
const IDEMPOTENCY_RECORDS: &str =
    "im_messages WHERE message_id IS NOT NULL AND content_hash IS NOT NULL";

async fn count(path: &Path, table: &str) -> i64 {
    let mut conn = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
    sqlx::query(sql).fetch_one(&mut conn).await.unwrap().get(0)
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// A room that several have written to, the service in the name of one among them, and with state.
async fn lived_in(store: &Arc<SqliteStore>, engine: &Engine, room: &RoomId) {
    let members = vec![(user("ann"), Role::Owner), (user("bob"), Role::Member)];
    let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
    engine.create_room(room.clone(), seed, &user("ann")).await.unwrap();
    let mut batch: Vec<Append> = Vec::new();
    for n in 0..30 {
        let from = user(["ann", "bob", "mia", "zoe"][n % 4]);
        let message = Publish::text(Target::Room(room.clone()), from, &format!("words {n}"));
        batch.push(engine.prepare(message.id(MessageId::random())).unwrap());
    }
    assert!(store.append(batch).await.iter().all(Result::is_ok));
    for (n, from) in ["bob", "mia", "eve"].into_iter().enumerate() {
        let update = StateUpdate {
            room: room.clone(),
            key: StateKey::new(format!("k{n}")).unwrap(),
            stamp: Stamp { ms: Timestamp::from_millis(5), counter: 0, node: NodeId(1) },
            from: user(from),
            value: Some(Content::text(&format!("{from}'s"), &Limits::default()).unwrap()),
        };
        store.merge_state(vec![Arc::new(update)]).await.unwrap();
    }
}

/// However many pages are asked for, a look-up waits for those under way and not for the others.
#[tokio::test(flavor = "multi_thread")]
async fn look_up_passes_pages_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    look_up_passes_pages(&store).await;
    store.close().await.unwrap();
}

/// How many runs of 16 places there are. Each message has the place that its room and seq give it, and no run is without any.
async fn runs(path: &Path) -> i64 {
    let found = "im_messages m JOIN im_runs u ON u.room = m.room AND u.part = m.seq / 16 AND m.place = u.place + m.seq % 16";
    assert_eq!(count(path, found).await, count(path, "im_messages").await);
    let runs = count(path, "im_runs").await;
    assert_eq!(runs, count(path, "(SELECT DISTINCT place / 16 FROM im_messages)").await);
    runs
}

/// The messages of a room are stored in runs, whichever writer commits them and when.
#[tokio::test(flavor = "multi_thread")]
async fn room_messages_are_stored_in_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let url = format!("sqlite:{}", path.display());
    let rooms: Vec<String> = (0..8).map(|n| format!("r{n}")).collect();
    let to_each = |n: usize| -> Vec<Append> {
        rooms.iter().map(|room| message(room, format!("words {n}"))).collect()
    };
    for life in 0..3 {
        let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
        for n in 0..7 {
            assert!(store.append(to_each(n)).await.iter().all(Result::is_ok), "{life}");
        }
        // An embedder's own transaction goes on with what the store has begun, and the store with what that one has.
        let mut own = SqliteConnection::connect(&url).await.unwrap();
        let mut tx = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
        let answers = store.append_in(&mut tx, &to_each(7)).await.unwrap();
        assert!(answers.iter().all(Result::is_ok));
        tx.commit().await.unwrap();
        // One that is rolled back has begun none.
        let mut tx = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
        for n in 0..16 {
            let answers = store.append_in(&mut tx, &to_each(n)).await.unwrap();
            assert!(answers.iter().all(Result::is_ok));
        }
        tx.rollback().await.unwrap();
        assert!(store.append(to_each(8)).await.iter().all(Result::is_ok));
        store.close().await.unwrap();
    }
    // 27 in each room, 15 of them in the first run, which begins with seq 1.
    assert_eq!(count(&path, "im_messages").await, 8 * 27);
    assert_eq!(runs(&path).await, 8 * 2);
}

/// A run is removed with its last message, and the next message begins another.
#[tokio::test(flavor = "multi_thread")]
async fn emptied_run_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    let send = async |room: &str| {
        let mut message = message(room, "words".to_owned());
        let Act::Post { event, .. } = &mut message.act else { panic!() };
        event.idempotency_key = None;
        assert!(store.append(vec![message]).await[0].is_ok());
    };
    let tea = RoomId::new("tea").unwrap();
    for _ in 0..40 {
        send("shop").await;
        send("tea").await;
    }
    assert_eq!(runs(&path).await, 6);
    store.trim(&tea, &Keep { count: Some(4), ..Keep::ALL }, 1_000).await.unwrap();
    assert_eq!(runs(&path).await, 4, "of seq 37 to 40, and three of the other room");
    store.trim(&tea, &Keep { count: Some(0), ..Keep::ALL }, 1_000).await.unwrap();
    assert_eq!(runs(&path).await, 3, "the last place is free again");
    for n in 1..=9 {
        // The other room begins a run with seq 48.
        send("shop").await;
        send("tea").await;
        let range = LogRange { from: PageFrom::Before(Seq::MAX), limit: 50, max_bytes: 1 << 20 };
        let page = store.read(&tea, range).await.unwrap().unwrap();
        let seqs: Vec<_> = page.events.iter().map(|event| event.seq.get()).collect();
        assert_eq!(seqs, (41..41 + n).rev().collect::<Vec<_>>());
    }
    assert_eq!(count(&path, "im_messages").await, 49 + 9);
    assert_eq!(runs(&path).await, 4 + 2);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn imported_messages_are_stored_in_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    let tea = RoomId::new("tea").unwrap();
    let (kind, open, created) = (RoomKind::Group, true, Timestamp::from_millis(5));
    let first = Seq::new(21).unwrap();
    let new = ImportedRoom { id: tea.clone(), kind, open, created, first };
    let epoch = store.begin_import(new).await.unwrap();
    // In parts that begin and end within runs, with others' writes between.
    for part in [21..24, 24..25, 25..48, 48..53] {
        let event = |seq| ImportedEvent {
            seq: Seq::new(seq).unwrap(),
            from: user("ann"),
            at: created,
            kind: EventKind::message(),
            send: None,
            content: Content::text("words", &Limits::default()).unwrap(),
        };
        let part = ImportedPart { memberships: Vec::new(), events: part.map(event).collect() };
        store.import(&tea, epoch, part).await.unwrap();
        assert!(store.append(vec![message("shop", "words".to_owned())]).await[0].is_ok());
    }
    store.finish_import(&tea, epoch).await.unwrap();
    for _ in 0..2 {
        assert!(store.append(vec![message("tea", "words".to_owned())]).await[0].is_ok());
    }
    assert_eq!(count(&path, "im_messages").await, 32 + 4 + 2);
    assert_eq!(runs(&path).await, 3 + 1, "16 to 31, 32 to 47 and 48 to 63, and the other room's");
    store.close().await.unwrap();
}

/// Rows of an embedder are seen after a store call waited for the lock in vain.
#[tokio::test(flavor = "multi_thread")]
async fn embedder_rows_are_seen_after_wait() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let config = SqlConfig::sqlite(&path).patience(Duration::ZERO);
    let store = SqliteStore::open(config.lock_wait(Duration::from_millis(20))).await.unwrap();
    let send = async |room: &str| store.append(vec![message(room, "words".to_owned())]).await;
    for _ in 0..15 {
        assert!(send("tea").await[0].is_ok());
    }
    // A connection that the store opens after it gave one up takes no notice of a commit that came in between.
    let mut own = SqliteConnection::connect(&format!("sqlite:{}", path.display())).await.unwrap();
    let mut tx = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let order = message("shop", "a lamp".to_owned());
    assert!(store.append_in(&mut tx, &[order]).await.unwrap()[0].is_ok());
    assert!(send("tea").await[0].is_err(), "the database is locked");
    tx.commit().await.unwrap();
    for _ in 0..3 {
        assert!(send("tea").await[0].is_ok());
        assert!(send("shop").await[0].is_ok());
    }
    assert_eq!(count(&path, "im_messages").await, 15 + 1 + 6);
    assert_eq!(runs(&path).await, 3);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_leaves_no_room_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = Arc::new(SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap());
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    for (limit, most) in [(1, 1_000), (7, 100), (100_000, 1)] {
        let room = RoomId::new(format!("r{limit}")).unwrap();
        lived_in(&store, &engine, &room).await;
        // Two members, two in whose names the service wrote, and one who set state and did no more.
        assert_eq!(count(&path, "im_members").await, 5);
        assert_eq!(count(&path, IDEMPOTENCY_RECORDS).await, 30);
        assert!(store.delete_room(&room).await.unwrap());
        assert_eq!(count(&path, "im_messages").await, 31, "they go bit by bit");
        let mut calls = 1;
        while store.purge(limit).await.unwrap() {
            calls += 1;
        }
        assert!(calls <= most, "{calls}");
        for table in OF_ROOMS {
            assert_eq!(count(&path, table).await, 0, "{table}");
        }
    }
    store.close().await.unwrap();
}

/// Idempotency records of trimmed events stay until their sender is erased.
#[tokio::test(flavor = "multi_thread")]
async fn idempotency_records_outlive_trim_until_erasure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = Arc::new(SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap());
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let room = RoomId::new("r").unwrap();
    lived_in(&store, &engine, &room).await;
    let keep = Keep { count: Some(10), ..Keep::ALL };
    while store.trim(&room, &keep, 7).await.unwrap().unwrap().more {}
    assert_eq!(count(&path, "im_messages WHERE seq < 22 AND message_id IS NULL").await, 0);
    assert_eq!(count(&path, "im_messages WHERE seq < 22 AND content IS NULL").await, 20);
    assert_eq!(count(&path, "im_messages WHERE seq > 21 AND content IS NOT NULL").await, 10);
    assert_eq!(count(&path, IDEMPOTENCY_RECORDS).await, 30);
    while store.erase_user(&user("bob"), 4).await.unwrap().more {}
    assert_eq!(count(&path, "im_messages WHERE sender = 'bob'").await, 0);
    assert_eq!(count(&path, IDEMPOTENCY_RECORDS).await, 22);
    assert_eq!(runs(&path).await, 2);
    for name in ["ann", "mia", "zoe"] {
        while store.erase_user(&user(name), 4).await.unwrap().more {}
    }
    // The first run held what was trimmed, and receipts of theirs.
    assert_eq!(count(&path, "im_messages").await, 10);
    assert_eq!(runs(&path).await, 1);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn erasure_leaves_no_row_with_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let store = Arc::new(SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap());
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let room = RoomId::new("r").unwrap();
    lived_in(&store, &engine, &room).await;
    for (name, limit) in [("bob", 3), ("mia", 1), ("eve", 1_000)] {
        while store.erase_user(&user(name), limit).await.unwrap().more {}
        for (table, column) in [
            ("im_members", "user_id"),
            ("im_messages", "sender"),
            ("im_messages", "content"),
            ("im_state", "sender"),
            ("im_state", "value"),
        ] {
            let found = count(&path, &format!("{table} WHERE {column} LIKE '%{name}%'")).await;
            assert_eq!(found, 0, "{name} in {table}.{column}");
        }
    }
    assert_eq!(count(&path, "im_members").await, 2, "ann and zoe");
    assert_eq!(count(&path, IDEMPOTENCY_RECORDS).await, 15);
    let record = store.room(&room).await.unwrap().unwrap();
    let bytes = count(&path, "im_messages WHERE bytes <= 0").await;
    assert_eq!((record.members, record.head.get(), bytes), (1, 31, 0));
    assert_eq!(runs(&path).await, 2);
    store.close().await.unwrap();
}

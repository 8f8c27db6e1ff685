//! Backups of an SQLite store in use.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::Path;
use std::sync::Arc;

use im_core::engine::{Engine, Publish};
use im_core::ports::{
    Appended, LogRange, RoomDirectory, RoomLog, StateStore, Store, StoreErrorKind,
};
use im_core::state::{Append, RoomSeed};
use im_core::wire::{PageFrom, Role, RoomKind, Target};
use im_core::{NodeId, RoomId, Seq, UserId};
use im_store_sql::{SqlConfig, SqliteStore};

async fn open(path: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(SqlConfig::sqlite(path)).await.unwrap())
}

fn room() -> RoomId {
    RoomId::new("r").unwrap()
}

/// An engine on the store, with a room; it prepares messages to it.
async fn engine(store: &Arc<SqliteStore>) -> Engine {
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let ann = UserId::new("ann").unwrap();
    let members = vec![(ann.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
    engine.create_room(room(), seed, &ann).await.unwrap();
    engine
}

fn message(engine: &Engine, n: u64) -> Append {
    let ann = UserId::new("ann").unwrap();
    engine.prepare(Publish::text(Target::Room(room()), ann, &format!("words {n}"))).unwrap()
}

async fn send(store: &SqliteStore, engine: &Engine, n: u64) -> u64 {
    let answer = store.append(vec![message(engine, n)]).await.remove(0).unwrap();
    assert!(matches!(answer, Appended::Committed(_)), "each is new");
    let Appended::Committed(event) = answer else { return 0 };
    event.seq.get()
}

async fn log(store: &SqliteStore) -> Vec<(u64, String)> {
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 10_000, max_bytes: 1 << 26 };
    let page = store.read(&room(), range).await.unwrap().unwrap();
    assert_eq!(page.head.seq.get(), page.events.len() as u64);
    page.events.iter().map(|e| (e.seq.get(), format!("{:?}", e.content.value()))).collect()
}

/// A backup is one moment of a store in use.
#[tokio::test(flavor = "multi_thread")]
async fn backup_is_consistent_during_use() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("im.db")).await;
    let engine = engine(&store).await;
    for n in 0..50 {
        send(&store, &engine, n).await;
    }
    let before = store.room(&room()).await.unwrap().unwrap().head;
    let state_generation = store.begin_state(NodeId(1)).await.unwrap();
    let to = folder.path().join("copy.db");
    let (writing, copied) = (Arc::new(tokio::sync::Notify::new()), tokio::sync::oneshot::channel());
    let (tell, mut told) = copied;
    let writer = {
        let (store, engine, writing) = (store.clone(), engine.clone(), Arc::clone(&writing));
        tokio::spawn(async move {
            let mut last = 0;
            for n in 50.. {
                last = send(&store, &engine, n).await;
                writing.notify_one();
                if told.try_recv().is_ok() {
                    break;
                }
            }
            last
        })
    };
    writing.notified().await;
    let backup = store.backup(&to).await.unwrap();
    tell.send(()).unwrap();
    let last = writer.await.unwrap();
    assert_eq!((&backup.path, backup.rooms), (&to, 1));
    assert_eq!(backup.bytes, std::fs::metadata(&to).unwrap().len());
    let copy = open(&to).await;
    let (whole, held) = (log(&store).await, log(&copy).await);
    assert_eq!(whole.len() as u64, last);
    assert!(held.len() as u64 > before.get(), "what was sent before the call is in it");
    assert_eq!(held, whole[..held.len()]);
    let epochs =
        [&store, &copy].map(async |store| store.room(&room()).await.unwrap().unwrap().epoch);
    let [own, copied] = epochs;
    let (own, copied) = (own.await, copied.await);
    assert_ne!(own.generation, copied.generation, "a new epoch");
    assert_ne!(copy.state_generation().await.unwrap(), state_generation);
    assert_eq!(store.state_generation().await.unwrap(), state_generation, "the store is as it was");
    let fresh = copy.begin_state(NodeId(2)).await.unwrap();
    assert_eq!(fresh, copy.state_generation().await.unwrap());
    assert_eq!(send(&copy, &engine, 0).await, held.len() as u64 + 1);
    copy.close().await.unwrap();
    store.close().await.unwrap();
}

/// A backup overwrites no file, and a failed one leaves no partial file.
#[tokio::test(flavor = "multi_thread")]
async fn backup_never_overwrites_or_stays_partial() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("im.db")).await;
    let to = folder.path().join("copy.db");
    std::fs::write(&to, "mine").unwrap();
    let refused = store.backup(&to).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Unavailable);
    assert_eq!(std::fs::read(&to).unwrap(), b"mine");
    let nowhere = folder.path().join("none").join("copy.db");
    let failed = store.backup(&nowhere).await.unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::Unavailable, "{failed}");
    store.backup(folder.path().join("whole.db")).await.unwrap();
    let partial =
        |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().contains("partial");
    assert!(!std::fs::read_dir(folder.path()).unwrap().any(|entry| partial(entry.unwrap())));
    store.close().await.unwrap();
    let late = store.backup(folder.path().join("late.db")).await.unwrap_err();
    assert_eq!(late.kind(), StoreErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_by_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("im.db")).await;
    let engine = engine(&store).await;
    for n in 0..300 {
        send(&store, &engine, n).await;
    }
    let path = folder.path().join("damaged.db");
    store.backup(&path).await.unwrap();
    store.close().await.unwrap();
    // A page in the middle of the log, which opening does not look at.
    let mut bytes = std::fs::read(&path).unwrap();
    let needle = b"words 150";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let store = open(&path).await;
    let to = folder.path().join("copy.db");
    let failed = store.backup(&to).await.unwrap_err();
    assert_eq!(failed.kind(), StoreErrorKind::Corrupt, "{failed}");
    assert!(!to.exists());
    store.close().await.unwrap();
}

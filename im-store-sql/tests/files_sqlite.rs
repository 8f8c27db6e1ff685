//! Files of SQLite: what they may be called, what an earlier process leaves in them, and what of it is damaged.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::FutureExt;
use im_core::ports::{Durability, LogRange, RoomDirectory, RoomLog, Store, StoreErrorKind};
use im_core::state::{Act, Append};
use im_core::wire::PageFrom;
use im_core::{RoomId, Seq};
use im_store_sql::{SqlConfig, SqliteStore};
use sqlx::{Connection, SqliteConnection};
use tempfile::TempDir;

use self::support::message;

async fn send(store: &SqliteStore, count: usize) {
    let batch = (0..count).map(|n| message("r", format!("words {n}"))).collect();
    store.append(batch).await.into_iter().for_each(|answer| drop(answer.unwrap()));
}

async fn head(store: &SqliteStore) -> u64 {
    store.room(&RoomId::new("r").unwrap()).await.unwrap().unwrap().head.get()
}

/// Characters that have a meaning in a URL have none in a path.
#[tokio::test]
async fn path_is_used_literally() {
    let folder = TempDir::new().unwrap();
    for name in
        ["100%.db", "a%20b.db", "what?.db", "q?mode=memory", "a#b c.db", "file:x", ":memory:"]
    {
        let path = folder.path().join(name);
        let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
        send(&store, 3).await;
        assert!(path.is_file(), "{name}");
        let copy = folder.path().join(format!("{name} copied"));
        store.backup(&copy).await.unwrap();
        assert!(copy.is_file());
        store.close().await.unwrap();
        let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
        assert_eq!(head(&store).await, 3);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn non_file_address_is_refused() {
    let folder = TempDir::new().unwrap();
    let memory = format!("sqlite:{}?mode=memory", folder.path().join("im.db").display());
    let urls = ["sqlite::memory:", "sqlite:", "sqlite://?mode=memory", "sqlite:file:x", &memory];
    let urls = urls.map(SqlConfig::new).into_iter();
    for config in urls.chain([":memory:", ""].map(SqlConfig::sqlite)) {
        let told = SqliteStore::open(config).await.unwrap_err();
        assert_eq!(told.kind(), StoreErrorKind::Unavailable);
        assert!(told.to_string().contains("a store needs a file"), "{told}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn non_utf8_path_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"/tmp/\xff.db");
    let told = SqliteStore::open(SqlConfig::sqlite(name)).await.unwrap_err();
    assert!(told.to_string().contains("is not UTF-8"), "{told}");
}

/// A file system that cannot hold a WAL is detected and lowers the durability.
#[cfg(unix)]
#[tokio::test]
async fn file_system_without_wal_is_detected() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    // Without locks SQLite has no shared memory either.
    let config = SqlConfig::new(format!("sqlite:{}?vfs=unix-none", path.display()));
    let store = SqliteStore::open(config).await.unwrap();
    assert_eq!(store.durability(), Durability::ProcessCrash);
    store.close().await.unwrap();
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    assert_eq!(store.durability(), Durability::PowerLoss);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_store_commits_pending_appends() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path).max_batch(1)).await.unwrap();
    for n in 0..40 {
        // It is in the queue once it was polled. Nobody hears the answer.
        assert!(store.append(vec![message("r", n.to_string())]).now_or_never().is_none());
    }
    drop(store);
    let store = loop {
        match SqliteStore::open(SqlConfig::sqlite(&path)).await {
            Ok(store) => break store,
            // It has the file until it is through.
            Err(told) => assert!(told.to_string().contains("in use by another process"), "{told}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(head(&store).await, 40);
    store.close().await.unwrap();
}

/// What a process leaves that is killed: the database and its log, as they are now.
fn leave(path: &Path, folder: &TempDir) -> PathBuf {
    let left = folder.path().join("left.db");
    for end in ["", "-wal"] {
        let name = |path: &Path| format!("{}{end}", path.display());
        std::fs::copy(name(path), name(&left)).unwrap();
    }
    left
}

/// Reads without an end.
async fn reader(path: &Path) -> SqliteConnection {
    let mut conn = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
    sqlx::raw_sql("SELECT COUNT(*) FROM im_messages").execute(&mut conn).await.unwrap();
    conn
}

fn brief(path: &Path) -> SqlConfig {
    SqlConfig::sqlite(path).lock_wait(Duration::from_millis(20))
}

/// A leftover WAL is checkpointed on open, and a reader that prevents it is reported.
#[tokio::test]
async fn leftover_wal_is_checkpointed_on_open() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    send(&store, 10).await;
    let left = leave(&path, &folder);
    store.close().await.unwrap();
    let long = reader(&left).await;
    let told = SqliteStore::open(brief(&left)).await.unwrap_err();
    assert_eq!(told.kind(), StoreErrorKind::Unavailable);
    assert!(told.to_string().contains("somebody is reading"), "{told}");
    long.close().await.unwrap();
    let store = SqliteStore::open(brief(&left)).await.unwrap();
    assert_eq!(head(&store).await, 10);
    store.close().await.unwrap();
}

#[tokio::test]
async fn leftover_wal_is_checkpointed_before_writes() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    send(&store, 200).await;
    let left = leave(&path, &folder);
    store.close().await.unwrap();
    // As long as it is there, the log is not taken away.
    let mut idle = reader(&left).await;
    sqlx::raw_sql("COMMIT").execute(&mut idle).await.unwrap();
    let log = || std::fs::metadata(format!("{}-wal", left.display())).unwrap().len();
    let before = log();
    let store = SqliteStore::open(SqlConfig::sqlite(&left)).await.unwrap();
    // All that there was is in the database itself, and the log begins anew with one page.
    assert!(log() > 4096 && log() < 3 * 4096 && log() < before, "{before}, {}", log());
    let alone = folder.path().join("alone.db");
    std::fs::copy(&left, &alone).unwrap();
    store.close().await.unwrap();
    idle.close().await.unwrap();
    let store = SqliteStore::open(SqlConfig::sqlite(&alone)).await.unwrap();
    assert_eq!(head(&store).await, 200);
    store.close().await.unwrap();
}

/// A reader of a file without leftover WAL does not delay the open.
#[tokio::test]
async fn open_without_wal_ignores_readers() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    send(&store, 10).await;
    store.close().await.unwrap();
    let long = reader(&path).await;
    let store = SqliteStore::open(brief(&path)).await.unwrap();
    send(&store, 1).await;
    assert_eq!(head(&store).await, 11);
    long.close().await.unwrap();
    store.close().await.unwrap();
}

/// Overwrites what begins at the `nth` place in the file where these bytes stand.
fn spoil(path: &Path, what: &str, nth: usize, spoil: impl FnOnce(&mut [u8], usize)) {
    let mut bytes = std::fs::read(path).unwrap();
    let places = bytes.windows(what.len()).enumerate();
    let at = places.filter(|(_, part)| *part == what.as_bytes()).nth(nth).unwrap().0;
    spoil(&mut bytes, at);
    std::fs::write(path, bytes).unwrap();
}

fn id(append: &Append) -> String {
    let Act::Post { event, .. } = &append.act else { panic!("it is a message") };
    event.idempotency_key.as_ref().unwrap().id.as_str().to_owned()
}

#[tokio::test]
async fn inconsistent_copy_is_no_backup() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    let batch: Vec<Append> = (0..50).map(|n| message("r", n.to_string())).collect();
    let id = id(&batch[20]);
    store.append(batch).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    store.close().await.unwrap();
    drop(store);
    // It stands with the message, in the index of receipts, and where nothing stands any more. Each page can be read, and is
    // copied as it is.
    let (whole, mut told) = (std::fs::read(&path).unwrap(), Vec::new());
    let places = whole.windows(id.len()).filter(|part| *part == id.as_bytes()).count();
    for nth in 0..places {
        std::fs::write(&path, &whole).unwrap();
        spoil(&path, &id, nth, |bytes, at| bytes[at] ^= 1);
        let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
        told.extend(store.backup(folder.path().join(format!("copy{nth}.db"))).await.err());
        store.close().await.unwrap();
    }
    assert!(told.iter().all(|told| told.kind() == StoreErrorKind::Corrupt));
    assert!(told.iter().all(|told| told.to_string().contains("integrity_check")), "{told:?}");
    let left = std::fs::read_dir(folder.path()).unwrap();
    let copies = left
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("copy"));
    assert_eq!((copies.count(), told.len()), (places - 2, 2));
}

/// A damaged page is reported to calls that read it, and other rooms go on.
#[tokio::test]
async fn damaged_page_spares_other_rooms() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    for room in ["hurt", "whole"] {
        let words = |n: usize| format!("{room} {n} {}", "x".repeat(500));
        let batch = (0..300).map(|n| message(room, words(n))).collect();
        store.append(batch).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    store.close().await.unwrap();
    drop(store);
    spoil(&path, "hurt 150 ", 0, |bytes, at| bytes[at / 4096 * 4096..][..4096].fill(0xa5));
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    let whole = async |room: &str| {
        let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 1_000, max_bytes: 1 << 24 };
        store.read(&RoomId::new(room).unwrap(), range).await.map(|page| page.unwrap().events.len())
    };
    assert_eq!(whole("hurt").await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    assert_eq!(whole("whole").await.unwrap(), 300);
    store.append(vec![message("whole", "on".to_owned())]).await.remove(0).unwrap();
    assert_eq!(whole("whole").await.unwrap(), 301);
    assert_eq!(whole("hurt").await.unwrap_err().kind(), StoreErrorKind::Corrupt);
    store.close().await.unwrap();
}

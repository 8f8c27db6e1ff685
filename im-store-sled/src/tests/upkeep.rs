//! What the store's own layout makes of trimming, deleting and erasing.

use std::sync::Arc;

use im_core::UserId;
use im_core::ports::{RoomDirectory, RoomLog, StateStore, Store, StoreErrorKind, Upkeep};
use im_core::state::Keep;
use tempfile::TempDir;

use super::device::{Faulty, Site, Work};
use super::fixture::{ann, commit, config, long_post, open, room};
use crate::{SledStore, keys, record};

/// How many rows begin like this in a store that is closed.
fn rows(folder: &TempDir, prefix: &[u8]) -> usize {
    let db = sled::open(folder.path().join("sled")).unwrap();
    db.scan_prefix(prefix).count()
}

/// Trimmed events leave no rows, and neither do the parts of large ones.
#[tokio::test]
async fn trimmed_events_leave_no_rows() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    for n in 0..8 {
        store.append(vec![long_post(n, &"x".repeat(20_000))]).await;
    }
    let keep = Keep { count: Some(3), ..Keep::ALL };
    store.trim(&room(), &keep, 100).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows(&folder, &keys::events(1)), 3 * 5);
    assert_eq!(rows(&folder, &keys::all_idempotency_records(1)), 8);
}

/// A trim removes the rows that a killed one left.
#[tokio::test]
async fn trim_finishes_interrupted_trim() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    for n in 0..6 {
        commit(&store, n).await;
    }
    let keep = Keep { count: Some(2), ..Keep::ALL };
    // The first step alone.
    store.write(0, move |txn| txn.trim(&room(), &keep, 100)).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(rows(&folder, &keys::events(1)), 6);
    let store = open(folder.path()).await;
    let trimmed = store.trim(&room(), &keep, 100).await.unwrap().unwrap();
    assert_eq!((trimmed.removed, trimmed.first.get()), (0, 5));
    store.close().await.unwrap();
    assert_eq!(rows(&folder, &keys::events(1)), 2);
}

#[tokio::test]
async fn purged_room_leaves_only_its_number() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    store.append(vec![long_post(2, &"x".repeat(20_000))]).await;
    store.merge_state(vec![super::layout::update(1, &"y".repeat(20_000))]).await.unwrap();
    assert!(store.delete_room(&room()).await.unwrap());
    while store.purge(2).await.unwrap() {}
    store.close().await.unwrap();
    let db = sled::open(folder.path().join("sled")).unwrap();
    let left: Vec<_> = db.iter().keys().map(|key| key.unwrap()[0]).collect();
    assert_eq!(left, [0, 0, 0], "numbers of the store itself");
}

#[tokio::test]
async fn erased_user_is_in_no_row() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    store.append(vec![long_post(2, &"secret".repeat(4_000))]).await;
    store.merge_state(vec![super::layout::update(1, &"secret".repeat(4_000))]).await.unwrap();
    while store.erase_user(&ann(), 3).await.unwrap().more {}
    while store.purge(100).await.unwrap() {}
    store.close().await.unwrap();
    let db = sled::open(folder.path().join("sled")).unwrap();
    let holds =
        |row: &[u8], what: &str| row.windows(what.len()).any(|part| part == what.as_bytes());
    for row in db.iter() {
        let (key, value) = row.unwrap();
        for what in ["ann", "secret"] {
            assert!(
                !holds(&key, what) && !holds(&value, what),
                "{what} in a row of kind {}",
                key[0]
            );
        }
    }
}

#[tokio::test]
async fn partially_erased_store_can_be_copied() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    for n in 0..6 {
        commit(&store, n).await;
    }
    let keep = Keep { count: Some(4), ..Keep::ALL };
    store.trim(&room(), &keep, 100).await.unwrap();
    let mut copies = 0;
    while store.erase_user(&ann(), 1).await.unwrap().more {
        copies += 1;
        store.backup(folder.path().join(format!("copy-{copies}"))).await.unwrap();
    }
    assert!(copies > 6, "{copies}");
    store.close().await.unwrap();
    assert_eq!(rows(&folder, &keys::all_idempotency_records(1)), 0);
}

/// Takes away what layout 2 has added.
fn as_layout_1(folder: &TempDir) {
    let status = folder.path().join("status");
    let text = std::fs::read_to_string(&status).unwrap();
    std::fs::write(&status, text.replace("im-store-sled 2\n", "im-store-sled 1\n")).unwrap();
    let db = sled::open(folder.path().join("sled")).unwrap();
    for row in db.scan_prefix(keys::ROOMS) {
        let (key, value) = row.unwrap();
        db.insert(key, &value[..record::ROOM_LEN_1]).unwrap();
    }
    for row in db.scan_prefix(keys::memberships(1)) {
        let (key, value) = row.unwrap();
        if record::read_membership(&value).unwrap().is_none() {
            db.remove(key).unwrap();
        }
    }
    for row in db.scan_prefix([14]).keys() {
        db.remove(row.unwrap()).unwrap();
    }
    db.flush().unwrap();
}

/// A migration that fails half-way is gone on with by the next opening.
#[tokio::test]
async fn failed_migration_stays_at_layout_1() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    let before = store.room(&room()).await.unwrap();
    store.close().await.unwrap();
    as_layout_1(&folder);
    let layout = || {
        let status = std::fs::read_to_string(folder.path().join("status")).unwrap();
        status.lines().next().map(str::to_owned).unwrap()
    };
    for (site, passes) in [(Site::Apply, 0), (Site::Apply, 1), (Site::Flush, 0), (Site::Sync, 0)] {
        let device = Arc::new(Faulty::default());
        (0..passes).for_each(|_| device.pass(site));
        device.fail(site, Work::Undone, libc::EIO);
        let opened = SledStore::open_on(config(folder.path()), device.clone()).await;
        assert_eq!(opened.err().unwrap().kind(), StoreErrorKind::Unavailable, "{site:?}");
        assert_eq!((device.left(), layout().as_str()), (0, "im-store-sled 1"), "{site:?}");
    }
    let store = open(folder.path()).await;
    assert_eq!(layout(), "im-store-sled 2");
    assert_eq!(store.room(&room()).await.unwrap(), before);
    store.close().await.unwrap();
}

#[tokio::test]
async fn layout_1_migrates_bytes_and_traces() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    store.append(vec![long_post(2, &"x".repeat(20_000))]).await;
    let eve = UserId::new("eve").unwrap();
    let mut from_eve = long_post(3, "by eve, who was never in");
    if let im_core::state::Act::Post { event, .. } = &mut from_eve.act {
        event.from = eve.clone();
    }
    store.append(vec![from_eve]).await;
    let before = store.room(&room()).await.unwrap();
    store.close().await.unwrap();
    as_layout_1(&folder);
    let store = SledStore::open(config(folder.path())).await.unwrap();
    assert_eq!(store.room(&room()).await.unwrap(), before);
    let mut erased = 0;
    loop {
        let step = store.erase_user(&eve, 100).await.unwrap();
        erased += step.events;
        if !step.more {
            break;
        }
    }
    assert_eq!(erased, 1, "who was never a member is found all the same");
    store.close().await.unwrap();
    let status = std::fs::read_to_string(folder.path().join("status")).unwrap();
    assert!(status.starts_with("im-store-sled 2\n"), "{status}");
    let db = sled::open(folder.path().join("sled")).unwrap();
    assert!(crate::open::verify(&db, 1).is_ok());
}

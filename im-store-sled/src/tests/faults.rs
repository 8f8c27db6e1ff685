//! A disk that is full or broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::ports::{Appended, RoomLog, Store, StoreErrorKind, Upkeep};
use tempfile::TempDir;

use crate::device::{Device, Disk};
use crate::{keys, record};

use super::device::{Faulty, SITES, Site, Work};
use super::fixture::{append, commit, id, log, open, open_on, seq};

const ENOSPC: i32 = libc::ENOSPC;
const EIO: i32 = libc::EIO;

/// Whatever fails in a commit: the answer is true, what was there before stays, and it goes on without a restart.
#[tokio::test]
async fn failed_commit_reports_true_outcome() {
    for site in [Site::Apply, Site::Flush, Site::Sync] {
        for work in [Work::Undone, Work::Done] {
            for (errno, kind) in
                [(ENOSPC, StoreErrorKind::Full), (EIO, StoreErrorKind::Unavailable)]
            {
                let case = format!("{site:?} {work:?} {errno}");
                let folder = TempDir::new().unwrap();
                let device = Arc::new(Faulty::default());
                let store = open_on(folder.path(), &device).await;
                commit(&store, 1).await;
                device.fail(site, work, errno);
                match append(&store, 2).await {
                    Ok(Appended::Committed(event)) => {
                        assert_eq!(event.seq.get(), 2, "{case}");
                        assert_eq!(log(&store).await, [id(1), id(2)], "{case}");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), kind, "{case}");
                        assert_eq!(log(&store).await, [id(1)], "{case}");
                    }
                    other => panic!("{case}: {other:?}"),
                }
                assert_eq!(device.left(), 0, "{case}: it did not fail");
                // The retry and the next one.
                assert_eq!(seq(append(&store, 2).await), 2, "{case}");
                assert_eq!(commit(&store, 3).await.seq.get(), 3, "{case}");
                store.close().await.unwrap();
                let store = open(folder.path()).await;
                assert_eq!(log(&store).await, [id(1), id(2), id(3)], "{case}");
                store.close().await.unwrap();
            }
        }
    }
}

/// What was not applied was not written, and the sender is told that the disk is full.
#[tokio::test]
async fn full_disk_is_reported() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = open_on(folder.path(), &device).await;
    device.fail(Site::Apply, Work::Undone, ENOSPC);
    let error = append(&store, 1).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Full);
    assert!(error.to_string().contains("nothing was written"), "{error}");
    assert_eq!(commit(&store, 1).await.seq.get(), 1);
    store.close().await.unwrap();
}

/// sled puts the entries of a commit into its log one by one. Here it fails when it has put the commit's number there.
#[derive(Default)]
struct StopsHalfWay(AtomicBool);

impl Device for StopsHalfWay {
    fn apply(&self, db: &sled::Db, batch: sled::Batch) -> sled::Result<()> {
        if !self.0.swap(false, Ordering::SeqCst) {
            return Disk.apply(db, batch);
        }
        let last = record::read_number(&db.get(keys::BATCH)?.unwrap()).unwrap();
        db.insert(keys::BATCH, record::number(last + 1))?;
        Err(std::io::Error::from_raw_os_error(EIO).into())
    }
}

#[tokio::test]
async fn partial_commit_is_rolled_back() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(StopsHalfWay::default());
    let config = super::fixture::config(folder.path());
    let store = crate::SledStore::open_on(config, device.clone()).await.unwrap();
    commit(&store, 1).await;
    device.0.store(true, Ordering::SeqCst);
    let error = append(&store, 2).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(error.to_string().contains("nothing was written"), "{error}");
    assert_eq!(log(&store).await, [id(1)]);
    assert_eq!(seq(append(&store, 2).await), 2);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn partial_deletion_is_rolled_back() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(StopsHalfWay::default());
    let config = super::fixture::config(folder.path());
    let store = crate::SledStore::open_on(config, device.clone()).await.unwrap();
    commit(&store, 1).await;
    device.0.store(true, Ordering::SeqCst);
    let room = super::fixture::room();
    let error = store.delete_room(&room).await.unwrap_err();
    assert!(error.to_string().contains("nothing was written"), "{error}");
    assert_eq!(log(&store).await, [id(1)]);
    assert!(store.delete_room(&room).await.unwrap());
    while store.purge(100).await.unwrap() {}
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, []);
    store.close().await.unwrap();
}

/// A failed sync is not retried before the data was copied.
#[tokio::test]
async fn failed_sync_is_retried_on_copy() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = open_on(folder.path(), &device).await;
    commit(&store, 1).await;
    device.calls();
    device.fail(Site::Sync, Work::Undone, EIO);
    assert_eq!(seq(append(&store, 2).await), 2, "it is found in the copy");
    let calls = device.calls();
    assert_eq!(calls[..3], [Site::Apply, Site::Flush, Site::Sync]);
    // It is noted, for a process that may have to go on from here.
    assert_eq!(calls[3..], [Site::Replace, Site::Copy, Site::Open, Site::Sync]);
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
}

/// As long as it cannot be opened again: unknown for what was on its way, then a clear no, then it is back.
#[tokio::test]
async fn failing_store_acknowledges_nothing_until_recovery() {
    for (first, then) in
        [(Site::Sync, Site::Copy), (Site::Flush, Site::Open), (Site::Flush, Site::Sync)]
    {
        let folder = TempDir::new().unwrap();
        let device = Arc::new(Faulty::default());
        let store = open_on(folder.path(), &device).await;
        commit(&store, 1).await;
        for site in [first, then, then, then] {
            device.fail(site, Work::Undone, ENOSPC);
        }
        let error = append(&store, 2).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unknown, "{first:?} {then:?}: {error}");
        let heads = store.heads(&[super::fixture::room()]).await;
        assert_eq!(heads.unwrap_err().kind(), StoreErrorKind::Full);
        let error = append(&store, 3).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Full, "{first:?} {then:?}: {error}");
        let mut tries = 0;
        while append(&store, 3).await.is_err() {
            tries += 1;
            assert!(tries < 10, "{first:?} {then:?}: it does not come back");
        }
        assert_eq!(device.left(), 0);
        append(&store, 2).await.unwrap();
        let mut all = log(&store).await;
        all.sort();
        assert_eq!(all, [id(1), id(2), id(3)], "{first:?} {then:?}: each once");
        store.close().await.unwrap();
    }
}

/// Somebody removes the data under a running store: it stays away rather than begin anew under the same generation.
#[tokio::test]
async fn vanished_data_keeps_store_closed() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = open_on(folder.path(), &device).await;
    commit(&store, 1).await;
    for site in [Site::Apply, Site::Open] {
        device.fail(site, Work::Undone, ENOSPC);
    }
    append(&store, 2).await.unwrap_err();
    std::fs::remove_dir_all(folder.path().join("sled")).unwrap();
    for n in 3..6 {
        let error = append(&store, n).await.unwrap_err();
        assert!(error.to_string().contains("lost its data"), "{error}");
    }
    assert_eq!(device.left(), 0);
    drop(store.close().await);
    let config = super::fixture::config(folder.path());
    let error = crate::SledStore::open(config).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
}

#[tokio::test]
async fn failed_open_is_reported_and_retryable() {
    for errno in [ENOSPC, EIO] {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path()).await;
        commit(&store, 1).await;
        store.close().await.unwrap();
        for site in SITES {
            let device = Arc::new(Faulty::default());
            device.fail(site, Work::Undone, errno);
            let config = super::fixture::config(folder.path());
            match crate::SledStore::open_on(config, device.clone()).await {
                Ok(store) => {
                    assert!(matches!(site, Site::Apply | Site::Flush | Site::Copy), "{site:?}");
                    drop(store.close().await);
                }
                Err(error) => {
                    assert!(!matches!(site, Site::Apply | Site::Flush), "{site:?}");
                    let kind = if errno == ENOSPC {
                        StoreErrorKind::Full
                    } else {
                        StoreErrorKind::Unavailable
                    };
                    assert_eq!(error.kind(), kind, "{site:?}: {error}");
                }
            }
        }
        let store = open(folder.path()).await;
        assert_eq!(log(&store).await, [id(1)]);
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn appends_sync_and_state_does_not() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = open_on(folder.path(), &device).await;
    device.calls();
    commit(&store, 1).await;
    assert_eq!(device.calls(), [Site::Apply, Site::Flush, Site::Sync]);
    seq(append(&store, 1).await);
    assert_eq!(device.calls(), [], "a repeat writes nothing");
    im_core::ports::StateStore::merge_state(&store, vec![super::layout::update(1, "value")])
        .await
        .unwrap();
    assert_eq!(device.calls(), [Site::Apply, Site::Flush]);
    store.close().await.unwrap();
}

//! Copies of a store that is in use.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use im_core::ports::{Appended, RoomDirectory, RoomLog, SessionRegistry, Store, StoreErrorKind};
use im_core::state::{Keep, SecretHash, SessionRecord};
use im_core::wire::Secret;
use im_core::{DeviceId, SessionId, Timestamp};
use parking_lot::{Condvar, Mutex};
use tempfile::TempDir;

use super::device::{Faulty, Site, Work};
use super::fixture::{ann, append, commit, id, log, long_post, open, open_on, room, seq};
use crate::SledStore;
use crate::device::{Device, Disk};

async fn generation(store: &SledStore) -> u64 {
    store.room(&room()).await.unwrap().unwrap().epoch.generation
}

#[tokio::test]
async fn backup_holds_everything_in_new_generation() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(folder.path()).await;
    for n in 0..5 {
        commit(&store, n).await;
    }
    store.append(vec![long_post(5, &"x".repeat(30_000))]).await;
    store.trim(&room(), &Keep { count: Some(4), ..Keep::ALL }, 100).await.unwrap();
    let session = SessionRecord {
        id: SessionId::new("s").unwrap(),
        user: ann(),
        device: DeviceId::new("phone").unwrap(),
        secret: SecretHash::of(&Secret::new("a secret that nobody guesses")),
        created: Timestamp::from_millis(1),
        expires: Timestamp::from_millis(100),
        fencing_token: 1,
    };
    store.open_session(session.clone()).await.unwrap();
    let to = copies.path().join("monday");
    let backup = store.backup(&to).await.unwrap();
    assert_eq!((&backup.path, backup.rooms), (&to, 1));
    let status = std::fs::read_to_string(to.join("status")).unwrap();
    assert!(status.contains("left backup"), "{status}");
    // The store goes on.
    commit(&store, 6).await;
    let first = generation(&store).await;
    store.close().await.unwrap();

    let copy = open(&to).await;
    assert_eq!(log(&copy).await, [id(2), id(3), id(4), id(5)]);
    assert_ne!(generation(&copy).await, first);
    assert_eq!(copy.session(&session.id).await.unwrap(), Some(session));
    assert_eq!(seq(append(&copy, 1).await), 2, "a send whose event was trimmed is known");
    assert_eq!(seq(append(&copy, 6).await), 7, "what came after the backup is not in it");
    let second = generation(&copy).await;
    copy.close().await.unwrap();
    let copy = open(&to).await;
    assert_eq!(generation(&copy).await, second, "once is enough");
    copy.close().await.unwrap();
}

#[tokio::test]
async fn backup_restores_repeatedly() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    let first = generation(&store).await;
    let kept = copies.path().join("kept");
    store.backup(&kept).await.unwrap();
    let in_use = SledStore::restore(folder.path(), copies.path().join("x")).await.unwrap_err();
    assert!(in_use.to_string().contains("in use"), "{in_use}");
    store.close().await.unwrap();
    let status = std::fs::read_to_string(kept.join("status")).unwrap();
    let mut generations = vec![first];
    for (from, name) in [(&kept, "one"), (&kept, "two"), (&folder.path().to_owned(), "three")] {
        let to = copies.path().join(name);
        SledStore::restore(from, &to).await.unwrap();
        let store = open(&to).await;
        assert_eq!(log(&store).await, [id(1)]);
        let now = generation(&store).await;
        assert!(!generations.contains(&now), "each is a life of its own");
        generations.push(now);
        store.close().await.unwrap();
        assert!(SledStore::restore(from, &to).await.is_err(), "it is not empty");
    }
    assert_eq!(std::fs::read_to_string(kept.join("status")).unwrap(), status);
    let error = SledStore::restore(copies.path(), copies.path().join("y")).await.unwrap_err();
    assert!(error.to_string().contains("no store"), "{error}");
}

/// A backup made during writes is one moment of the store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_is_consistent_under_writes() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Arc::new(open(folder.path()).await);
    for n in 0..200 {
        commit(&store, n).await;
    }
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writer = {
        let (store, acknowledged) = (Arc::clone(&store), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for n in 200.. {
                match append(&store, n).await {
                    Ok(Appended::Committed(event)) => {
                        acknowledged.store(event.seq.get() as usize, Ordering::SeqCst);
                    }
                    Ok(other) => panic!("{other:?}"),
                    // It was closed.
                    Err(error) => return assert_eq!(error.kind(), StoreErrorKind::Closed),
                }
                if n % 10 == 0 {
                    let keep = Keep { count: Some(150), ..Keep::ALL };
                    if store.trim(&room(), &keep, 1_000).await.is_err() {
                        return;
                    }
                }
            }
        })
    };
    for name in ["one", "two", "three"] {
        let before = acknowledged.load(Ordering::SeqCst);
        let backup = store.backup(copies.path().join(name)).await.unwrap();
        let after = acknowledged.load(Ordering::SeqCst) + 1;
        let copy = open(&backup.path).await;
        let record = copy.room(&room()).await.unwrap().unwrap();
        let head = record.head.get() as usize;
        assert!(head >= before && head <= after, "{before} {head} {after}");
        let log = log(&copy).await;
        assert_eq!(log.len() as u64, record.kept());
        // Message n is event n + 1.
        assert_eq!(log.last(), Some(&id(head - 1)));
        assert_eq!(seq(append(&copy, 3).await), 4);
        copy.close().await.unwrap();
    }
    store.close().await.unwrap();
    writer.await.unwrap();
}

#[tokio::test]
async fn backup_refuses_non_empty_folders() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    std::fs::write(copies.path().join("thesis.txt"), "words").unwrap();
    for to in [copies.path(), folder.path()] {
        let error = store.backup(to).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert!(error.to_string().contains("not empty"), "{error}");
    }
    assert_eq!(std::fs::read_dir(copies.path()).unwrap().count(), 1);
    store.backup(copies.path().join("new")).await.unwrap();
    store.close().await.unwrap();
    let error = store.backup(copies.path().join("late")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Closed);
}

/// A process that is killed while it copies leaves no status file.
#[tokio::test]
async fn unfinished_copy_is_no_store() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    let to = copies.path().join("new");
    store.backup(&to).await.unwrap();
    store.close().await.unwrap();
    std::fs::remove_file(to.join("status")).unwrap();
    let error = SledStore::open(super::fixture::config(&to)).await.unwrap_err();
    assert!(error.to_string().contains("no store"), "{error}");
}

/// Holds a commit of the store's between what it read and what it writes, until a backup has copied all of the store and
/// then what it was told had changed.
#[derive(Default)]
struct InBetween {
    state: Mutex<Held>,
    changed: Condvar,
}

#[derive(Default)]
struct Held {
    armed: bool,
    commits: usize,
    copied: usize,
}

impl Device for InBetween {
    fn apply(&self, db: &sled::Db, batch: sled::Batch) -> sled::Result<()> {
        let is_commit = std::thread::current().name() == Some("im-store-sled");
        let mut state = self.state.lock();
        if state.armed && is_commit {
            state.commits += 1;
            self.changed.notify_all();
            while state.copied < 2 {
                self.changed.wait(&mut state);
            }
        } else if state.armed {
            state.copied += 1;
            self.changed.notify_all();
            while state.commits == 0 {
                self.changed.wait(&mut state);
            }
        }
        drop(state);
        Disk.apply(db, batch)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_during_copy_is_in_backup() {
    let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let device = Arc::new(InBetween::default());
    let config = super::fixture::config(folder.path());
    let store = Arc::new(SledStore::open_on(config, device.clone()).await.unwrap());
    commit(&store, 1).await;
    device.state.lock().armed = true;
    let to = copies.path().join("copy");
    let backup = {
        let (store, to) = (Arc::clone(&store), to.clone());
        tokio::spawn(async move { store.backup(to).await })
    };
    while !store.shared().is_watched() {
        tokio::task::yield_now().await;
    }
    assert_eq!(commit(&store, 2).await.seq.get(), 2);
    backup.await.unwrap().unwrap();
    store.close().await.unwrap();
    let copy = open(&to).await;
    assert_eq!(log(&copy).await, [id(1), id(2)]);
    copy.close().await.unwrap();
}

/// Whatever fails: it is told, the folder is no store, and the store that was copied goes on.
#[tokio::test]
async fn failed_backup_is_no_store() {
    let is_store = |path: &Path| path.join("status").exists();
    for (errno, kind) in
        [(libc::ENOSPC, StoreErrorKind::Full), (libc::EIO, StoreErrorKind::Unavailable)]
    {
        let (folder, copies) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let device = Arc::new(Faulty::default());
        let store = open_on(folder.path(), &device).await;
        commit(&store, 1).await;
        for site in [Site::Open, Site::Apply, Site::Flush, Site::Sync, Site::Replace] {
            let case = format!("{site:?} {errno}");
            let to = copies.path().join(&case);
            device.fail(site, Work::Undone, errno);
            let error = store.backup(&to).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{case}: {error}");
            assert_eq!(device.left(), 0, "{case}: it did not fail");
            assert!(!is_store(&to), "{case}");
        }
        let to = copies.path().join("well");
        store.backup(&to).await.unwrap();
        assert!(is_store(&to));
        assert_eq!(commit(&store, 2).await.seq.get(), 2);
        store.close().await.unwrap();
    }
}

//! Folders that are in use, from elsewhere, damaged, or left in the middle of something.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use im_core::Error;
use im_core::ports::{RoomDirectory, Store, StoreError, StoreErrorKind};
use tempfile::TempDir;

use super::device::{Faulty, Site, Work};
use super::fixture::{append, commit, config, id, log, open, open_on, room};
use crate::SledStore;
use crate::folder::{Snapshots, copy};

async fn refused(path: &Path) -> StoreError {
    SledStore::open(config(path)).await.unwrap_err()
}

async fn generation(store: &SledStore) -> u64 {
    store.room(&room()).await.unwrap().unwrap().epoch.generation
}

/// A folder with messages 1 and 2 that was closed, and its generation. Sled has a snapshot there.
async fn closed() -> (TempDir, u64) {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    commit(&store, 2).await;
    let generation = generation(&store).await;
    store.close().await.unwrap();
    (folder, generation)
}

/// The files as a kill of the process would leave them: copied while the store is open.
async fn killed() -> (TempDir, TempDir, u64) {
    let (folder, generation) = closed().await;
    let store = open(folder.path()).await;
    commit(&store, 3).await;
    let killed = TempDir::new().unwrap();
    fs::remove_dir(killed.path()).unwrap();
    copy(folder.path(), killed.path(), Snapshots::Keep).unwrap();
    store.close().await.unwrap();
    (folder, killed, generation)
}

fn edit(path: &Path, from: &str, to: &str) {
    let status = path.join("status");
    let text = fs::read_to_string(&status).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(status, text.replace(from, to)).unwrap();
}

fn snapshots(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path.join("sled")).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("snap."))
        .collect()
}

/// A folder in use is refused, and is free after the store was closed.
#[tokio::test]
async fn folder_in_use_is_refused() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    let error = refused(folder.path()).await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let words = error.to_string();
    assert!(words.contains("in use") && words.contains(folder.path().to_str().unwrap()), "{words}");
    assert_eq!(Error::from(error).code().number(), 4202);
    commit(&store, 2).await;
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
}

#[tokio::test]
async fn unknown_layout_is_refused_untouched() {
    let (folder, generation) = closed().await;
    for (layout, word) in [("3", "newer version"), ("0", "layout 0")] {
        let first = format!("im-store-sled {layout}\n");
        edit(folder.path(), "im-store-sled 2\n", &first);
        let error = refused(folder.path()).await;
        assert!(error.to_string().contains(word), "{error}");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(Error::from(error).code().number(), 4202);
        edit(folder.path(), &first, "im-store-sled 2\n");
    }
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert_eq!(self::generation(&store).await, generation);
    store.close().await.unwrap();
}

#[tokio::test]
async fn folder_with_foreign_files_is_refused() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("thesis.txt"), "words").unwrap();
    let error = refused(folder.path()).await;
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was put there");
}

#[tokio::test]
async fn a_damaged_status_is_refused() {
    let (folder, _) = closed().await;
    edit(folder.path(), "generation ", "gen");
    assert_eq!(refused(folder.path()).await.kind(), StoreErrorKind::Corrupt);
}

/// However much of it is gone, and however it was left.
#[tokio::test]
async fn vanished_data_is_refused() {
    let (closed, killed, _) = killed().await;
    let first_epoch = TempDir::new().unwrap();
    let store = open(first_epoch.path()).await;
    commit(&store, 1).await;
    let young = TempDir::new().unwrap();
    fs::remove_dir(young.path()).unwrap();
    copy(first_epoch.path(), young.path(), Snapshots::Keep).unwrap();
    store.close().await.unwrap();
    for folder in [closed, killed, young] {
        let (sled, kept) = (folder.path().join("sled"), folder.path().join("sled.kept"));
        fs::rename(&sled, &kept).unwrap();
        let empty_folder = || fs::create_dir(&sled).unwrap();
        let empty_log = || fs::write(sled.join("db"), "").unwrap();
        let zeros = || fs::write(sled.join("db"), [0; 4096]).unwrap();
        let less_and_less: [&dyn Fn(); 4] = [&|| {}, &empty_folder, &empty_log, &zeros];
        for lose in less_and_less {
            lose();
            let before = fs::read_to_string(folder.path().join("status")).unwrap();
            let error = refused(folder.path()).await;
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            let words = error.to_string();
            assert!(words.contains("lost its data") && words.contains("backup"), "{words}");
            assert!(words.contains(folder.path().to_str().unwrap()), "{words}");
            assert_eq!(Error::from(error).code().number(), 4202);
            let after = fs::read_to_string(folder.path().join("status")).unwrap();
            assert_eq!(before, after, "nothing was changed");
        }
        // Put back, it is a store again.
        fs::remove_dir_all(&sled).unwrap();
        fs::rename(&kept, &sled).unwrap();
        let store = open(folder.path()).await;
        assert_eq!(log(&store).await[0], id(1));
        store.close().await.unwrap();
    }
}

/// Whatever of the first opening reaches the disk, the next one takes it for what it is: an empty store.
#[tokio::test]
async fn interrupted_first_open_starts_over() {
    // The first status is written; the note before sled is opened is not, or the second status after that.
    for (site, passes) in [(Site::Open, 0), (Site::Sync, 0), (Site::Replace, 1), (Site::Replace, 2)]
    {
        for sled_survives in [true, false] {
            let folder = TempDir::new().unwrap();
            let device = Arc::new(Faulty::default());
            (0..passes).for_each(|_| device.pass(site));
            device.fail(site, Work::Undone, libc::EIO);
            SledStore::open_on(config(folder.path()), device.clone()).await.unwrap_err();
            assert_eq!(device.left(), 0, "{site:?}");
            let sled = folder.path().join("sled");
            if !sled_survives && sled.exists() {
                fs::remove_dir_all(sled).unwrap();
            }
            let store = open(folder.path()).await;
            commit(&store, 1).await;
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn data_is_synced_before_status() {
    let (_folder, killed, generation) = killed().await;
    let device = Arc::new(Faulty::default());
    let store = open_on(killed.path(), &device).await;
    assert_eq!(device.calls(), [Site::Replace, Site::Open, Site::Sync, Site::Replace]);
    assert_eq!(self::generation(&store).await, generation);
    commit(&store, 4).await;
    device.calls();
    store.close().await.unwrap();
    assert_eq!(device.calls(), [Site::Flush, Site::Sync, Site::Replace]);
}

/// A sync may have failed when an opening did: the next one in this boot writes all of it anew, and once.
#[tokio::test]
async fn failed_open_forces_full_rewrite() {
    let (folder, generation) = closed().await;
    let device = Arc::new(Faulty::default());
    device.fail(Site::Sync, Work::Undone, libc::EIO);
    SledStore::open_on(config(folder.path()), device.clone()).await.unwrap_err();
    for copies in [1, 0] {
        device.calls();
        let store = open_on(folder.path(), &device).await;
        let copied = device.calls().iter().filter(|site| **site == Site::Copy).count();
        assert_eq!(copied, copies);
        assert_eq!(self::generation(&store).await, generation);
        assert_eq!(log(&store).await, [id(1), id(2)]);
        store.close().await.unwrap();
    }
    // What another boot has noted is over: what can be read was read from the disk.
    fs::write(folder.path().join("suspect"), "another").unwrap();
    let store = open_on(folder.path(), &device).await;
    assert!(!device.calls().contains(&Site::Copy));
    store.close().await.unwrap();
}

/// sled writes its parameters once, does not sync them, and takes a folder for damaged in which they are zeros.
#[tokio::test]
async fn lost_conf_is_rewritten() {
    let (folder, _) = closed().await;
    let conf = folder.path().join("sled").join("conf");
    let written = fs::read(&conf).unwrap();
    fs::write(&conf, vec![0; written.len()]).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert_eq!(fs::read(&conf).unwrap(), written);
    store.close().await.unwrap();
}

#[tokio::test]
async fn kill_keeps_generation_and_data() {
    let (_folder, killed, generation) = killed().await;
    let store = open(killed.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2), id(3)]);
    assert_eq!(self::generation(&store).await, generation);
    store.close().await.unwrap();
}

/// A stop in an earlier boot changes the generation, unless the store was closed.
#[tokio::test]
async fn unclean_stop_before_boot_changes_generation() {
    let (folder, killed, generation) = killed().await;
    let boot = crate::status::boot_id().unwrap_or_default();
    let line = format!("boot {boot}\n");
    for path in [folder.path(), killed.path()] {
        edit(path, &line, "boot another\n");
        let store = open(path).await;
        let same = self::generation(&store).await == generation;
        assert_eq!(same, path == folder.path());
        store.close().await.unwrap();
    }
}

#[tokio::test]
async fn missing_commits_change_the_generation() {
    let (folder, generation) = closed().await;
    let status = fs::read_to_string(folder.path().join("status")).unwrap();
    let batch = status.lines().find(|line| line.starts_with("batch ")).unwrap().to_owned();
    edit(folder.path(), &batch, "batch 1000");
    let store = open(folder.path()).await;
    assert_ne!(self::generation(&store).await, generation);
    store.close().await.unwrap();
}

#[tokio::test]
async fn unfinished_snapshot_is_dropped() {
    let (folder, generation) = closed().await;
    let draft = folder.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating");
    fs::write(&draft, "half").unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert_eq!(self::generation(&store).await, generation);
    assert!(!draft.exists());
    store.close().await.unwrap();
}

#[tokio::test]
async fn damaged_snapshot_recovers_on_copy() {
    let (folder, generation) = closed().await;
    let snapshots = snapshots(folder.path());
    assert_eq!(snapshots.len(), 1);
    let mut bytes = fs::read(&snapshots[0]).unwrap();
    bytes[3] ^= 0x55;
    fs::write(&snapshots[0], &bytes).unwrap();

    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert_ne!(self::generation(&store).await, generation, "a new generation");
    assert_eq!(commit(&store, 3).await.seq.get(), 3);
    store.close().await.unwrap();
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> =
        names.filter(|name| name.to_string_lossy().starts_with("sled.damaged-")).collect();
    assert_eq!(aside.len(), 1, "what was there is kept beside it");
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2), id(3)]);
    store.close().await.unwrap();
}

/// Killed after the exchange and before the new generation is in use: it is begun all the same.
#[tokio::test]
async fn interrupted_recovery_begins_new_generation() {
    let (folder, generation) = closed().await;
    let snapshot = &snapshots(folder.path())[0];
    let mut bytes = fs::read(snapshot).unwrap();
    bytes[3] ^= 0x55;
    fs::write(snapshot, &bytes).unwrap();
    let device = Arc::new(Faulty::default());
    device.fail(Site::Sync, Work::Undone, libc::EIO);
    SledStore::open_on(config(folder.path()), device.clone()).await.unwrap_err();
    assert_eq!(device.left(), 0);
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert_ne!(self::generation(&store).await, generation);
    store.close().await.unwrap();
}

/// A store that cannot be recovered is left as it is, and the error suggests a remedy.
#[tokio::test]
async fn unrecoverable_store_is_left_untouched() {
    let (folder, _) = closed().await;
    fs::write(&snapshots(folder.path())[0], "no snapshot at all").unwrap();
    let db = folder.path().join("sled/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes[200..].fill(0);
    fs::write(&db, &bytes).unwrap();

    for _ in 0..2 {
        let error = refused(folder.path()).await;
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
        let words = error.to_string();
        assert!(
            words.contains("backup") && words.contains(folder.path().to_str().unwrap()),
            "{words}"
        );
        assert_eq!(fs::read(&db).unwrap(), bytes, "nothing was changed");
        assert!(!folder.path().join("sled.new").exists());
    }
}

/// Killed between the two renames of an exchange, or in the middle of a copy.
#[tokio::test]
async fn interrupted_exchange_is_finished_or_undone() {
    let (folder, _) = closed().await;
    let (sled, new) = (folder.path().join("sled"), folder.path().join("sled.new"));
    fs::rename(&sled, &new).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
    fs::create_dir(&new).unwrap();
    fs::write(new.join("db"), "half").unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    assert!(!new.exists());
    store.close().await.unwrap();
}

/// `cp -al` makes a second folder around the same log.
#[tokio::test]
async fn log_with_two_names_is_refused() {
    let (folder, _) = closed().await;
    let twin = folder.path().with_extension("twin");
    fs::create_dir_all(twin.join("sled")).unwrap();
    fs::copy(folder.path().join("status"), twin.join("status")).unwrap();
    for file in ["db", "conf"] {
        let name = Path::new("sled").join(file);
        fs::hard_link(folder.path().join(&name), twin.join(&name)).unwrap();
    }
    for path in [folder.path(), &twin] {
        let told = refused(path).await;
        assert_eq!(told.kind(), StoreErrorKind::Unavailable);
        assert!(told.to_string().contains("has 2 names"), "{told}");
    }
    fs::remove_dir_all(&twin).unwrap();
    let store = open(folder.path()).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
}

/// What is acknowledged must be in the folder that is found at the next start.
#[tokio::test]
async fn moved_folder_is_not_written() {
    let above = TempDir::new().unwrap();
    let (path, other) = (above.path().join("data"), above.path().join("other"));
    let store = open(&path).await;
    commit(&store, 1).await;
    fs::rename(&path, &other).unwrap();
    let told = append(&store, 2).await.unwrap_err();
    assert_eq!(told.kind(), StoreErrorKind::Unavailable);
    assert!(told.to_string().contains("moved, removed or replaced"), "{told}");
    assert!(refused(&other).await.to_string().contains("in use"));
    fs::rename(&other, &path).unwrap();
    commit(&store, 2).await;
    assert_eq!(log(&store).await, [id(1), id(2)]);
    store.close().await.unwrap();
}

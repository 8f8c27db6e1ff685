//! Names of SQLite's file: one file is open once, whatever it is called, and what is acknowledged is in the file that is found.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]
#![cfg(unix)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use im_core::ports::{RoomDirectory, RoomLog, Store, StoreError, StoreErrorKind};
use im_core::{RoomId, Seq};
use im_store_sql::{SqlConfig, SqliteStore};
use tempfile::TempDir;

use self::support::message;

async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    SqliteStore::open(SqlConfig::sqlite(path)).await
}

async fn send(store: &SqliteStore) -> Result<(), StoreError> {
    store.append(vec![message("r", "words".to_owned())]).await.remove(0).map(drop)
}

async fn head(store: &SqliteStore) -> Seq {
    store.room(&RoomId::new("r").unwrap()).await.unwrap().unwrap().head
}

/// A store cannot be opened, for a reason in words.
async fn is_refused(path: &Path, why: &str) {
    let told = open(path).await.expect_err("it is refused");
    assert_eq!(told.kind(), StoreErrorKind::Unavailable);
    assert!(told.to_string().contains(why), "{told}");
}

fn folder() -> (TempDir, PathBuf, PathBuf) {
    let folder = TempDir::new().unwrap();
    let (path, other) = (folder.path().join("im.db"), folder.path().join("other.db"));
    (folder, path, other)
}

/// The name of the log of a database.
fn log(path: &Path) -> PathBuf {
    format!("{}-wal", path.display()).into()
}

/// SQLite would keep a log for each name: all that the one store had acknowledged would be lost.
#[tokio::test]
async fn hard_link_of_open_file_is_refused() {
    let (_folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    fs::hard_link(&path, &other).unwrap();
    is_refused(&other, "has 2 names").await;
    send(&store).await.unwrap();
    store.close().await.unwrap();
    is_refused(&path, "has 2 names").await;
    fs::remove_file(&other).unwrap();
    let store = open(&path).await.unwrap();
    assert_eq!(head(&store).await.get(), 2);
    store.close().await.unwrap();
}

/// The lock was on the link's name, and two engines would not have heard of each other.
#[tokio::test]
async fn symbolic_link_leads_to_same_lock() {
    let (_folder, path, other) = folder();
    symlink("im.db", &other).unwrap();
    // Also where there is nothing yet at its end.
    let store = open(&other).await.unwrap();
    is_refused(&path, "in use by another process").await;
    send(&store).await.unwrap();
    store.close().await.unwrap();
    let store = open(&path).await.unwrap();
    is_refused(&other, "in use by another process").await;
    assert_eq!(head(&store).await.get(), 1);
    store.close().await.unwrap();
}

/// The same for links among the folders, and a path that is written in another way.
#[tokio::test]
async fn linked_folder_leads_to_same_lock() {
    let folder = TempDir::new().unwrap();
    let (real, link) = (folder.path().join("real"), folder.path().join("link"));
    symlink(&real, &link).unwrap();
    fs::create_dir(&real).unwrap();
    let store = open(&link.join("below/im.db")).await.unwrap();
    is_refused(&real.join("below/im.db"), "in use by another process").await;
    is_refused(&real.join("below/../below/im.db"), "in use by another process").await;
    store.close().await.unwrap();
    let store = open(&real.join("below/im.db")).await.unwrap();
    store.close().await.unwrap();
}

/// What a killed process left in its log was passed over if the next one came by a link.
#[tokio::test]
async fn log_is_found_behind_symbolic_link() {
    let (_folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    let left = path.with_file_name("left.db");
    fs::copy(&path, &left).unwrap();
    fs::copy(log(&path), log(&left)).unwrap();
    store.close().await.unwrap();
    symlink(&left, &other).unwrap();
    let reader = SqlConfig::sqlite(&left);
    let long = reading(&left).await;
    let told = SqliteStore::open(SqlConfig::sqlite(&other).lock_wait(BRIEF)).await.unwrap_err();
    assert!(told.to_string().contains("somebody is reading"), "{told}");
    sqlx::Connection::close(long).await.unwrap();
    let store = SqliteStore::open(reader).await.unwrap();
    assert_eq!(head(&store).await.get(), 1);
    store.close().await.unwrap();
}

const BRIEF: std::time::Duration = std::time::Duration::from_millis(20);

async fn reading(path: &Path) -> sqlx::SqliteConnection {
    let mut conn = <sqlx::SqliteConnection as sqlx::Connection>::connect(path.to_str().unwrap())
        .await
        .unwrap();
    for sql in ["BEGIN", "SELECT COUNT(*) FROM im_messages"] {
        sqlx::raw_sql(sql).execute(&mut conn).await.unwrap();
    }
    conn
}

/// The store must not acknowledge what nobody finds who starts it again, and the next one must not begin beside it.
#[tokio::test]
async fn moved_file_is_not_used() {
    let (_folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    fs::rename(&path, &other).unwrap();
    let told = send(&store).await.unwrap_err();
    assert_eq!(told.kind(), StoreErrorKind::Unavailable);
    assert!(told.to_string().contains("moved, removed or replaced"), "{told}");
    assert!(!path.exists(), "an empty one was made in its place");
    is_refused(&other, "still has it").await;
    // Put back, it goes on.
    fs::rename(&other, &path).unwrap();
    send(&store).await.unwrap();
    assert_eq!(head(&store).await.get(), 2);
    store.close().await.unwrap();
}

/// The same of one that another file has taken the place of.
#[tokio::test]
async fn replaced_file_is_not_written() {
    let (_folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    store.backup(&other).await.unwrap();
    fs::rename(&other, &path).unwrap();
    let told = send(&store).await.unwrap_err();
    assert!(told.to_string().contains("moved, removed or replaced"), "{told}");
    store.close().await.unwrap();
}

/// What was acknowledged last is in the log: a file that was moved alone has lost it.
#[tokio::test]
async fn file_moved_without_wal_is_refused() {
    let (folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    // As a kill leaves it.
    let left = folder.path().join("left");
    fs::create_dir(&left).unwrap();
    for file in [path.clone(), log(&path)] {
        fs::copy(&file, left.join(file.file_name().unwrap())).unwrap();
    }
    store.close().await.unwrap();
    for file in [path.clone(), log(&path)] {
        fs::rename(left.join(file.file_name().unwrap()), file).unwrap();
    }
    fs::rename(&path, &other).unwrap();
    is_refused(&other, "its log stayed behind").await;
    fs::rename(log(&path), log(&other)).unwrap();
    let store = open(&other).await.unwrap();
    assert_eq!(head(&store).await.get(), 1);
    store.close().await.unwrap();
}

/// Copies, backups and whole folders go where one likes.
#[tokio::test]
async fn copies_and_moved_folders_are_opened() {
    let (folder, path, other) = folder();
    let store = open(&path).await.unwrap();
    send(&store).await.unwrap();
    store.backup(&other).await.unwrap();
    let copy = open(&other).await.unwrap();
    assert_eq!(head(&copy).await.get(), 1);
    for store in [store, copy] {
        store.close().await.unwrap();
    }
    fs::copy(&path, folder.path().join("copy.db")).unwrap();
    open(&folder.path().join("copy.db")).await.unwrap().close().await.unwrap();
    let moved = folder.path().join("moved");
    fs::create_dir(&moved).unwrap();
    fs::rename(&path, moved.join("im.db")).unwrap();
    let store = open(&moved.join("im.db")).await.unwrap();
    assert_eq!(head(&store).await.get(), 1);
    store.close().await.unwrap();
}

/// Somebody has tidied up: the lock is taken again by the next write, and a second process that was faster is noticed.
#[tokio::test]
async fn removed_lock_is_acquired_again() {
    let (_folder, path, _) = folder();
    let lock = PathBuf::from(format!("{}.lock", path.display()));
    let store = open(&path).await.unwrap();
    fs::remove_file(&lock).unwrap();
    send(&store).await.unwrap();
    is_refused(&path, "in use by another process").await;
    fs::remove_file(&lock).unwrap();
    let second = open(&path).await.unwrap();
    let told = send(&store).await.unwrap_err();
    assert!(told.to_string().contains("another process may have opened"), "{told}");
    second.close().await.unwrap();
    send(&store).await.unwrap();
    store.close().await.unwrap();
}

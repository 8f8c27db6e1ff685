//! What must not be: each is said in words that tell what to do, and nothing is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod support;

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use im_core::ports::{Appended, Durability, LogRange, RoomLog, Store, StoreError, StoreErrorKind};
use im_core::wire::PageFrom;
use im_core::{RoomId, Seq};
use im_store_sql::{Dialect, MySqlStore, PostgresStore, SqlConfig, SqlStore, SqliteStore};
use im_test_databases::{Kind, Server, or_skip};
use sqlx::{Connection, MySql, Postgres, SqlSafeStr, Sqlite};
use tempfile::TempDir;

use self::support::{Database, message};

async fn execute<D: Dialect>(url: &str, sql: &'static str) {
    let mut connection = D::Connection::connect(url).await.unwrap();
    D::execute_text(&mut connection, sql.into_sql_str()).await.unwrap();
    connection.close().await.unwrap();
}

/// Opening must fail like this.
async fn refused<D: Dialect>(config: SqlConfig, words: &str) -> StoreError {
    let error = SqlStore::<D>::open(config).await.expect_err("it must not open");
    assert!(error.to_string().contains(words), "{error} should say: {words}");
    error
}

async fn newer<D: Dialect>(url: String) {
    let store = SqlStore::<D>::open(SqlConfig::new(&url)).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    execute::<D>(&url, "INSERT INTO im_migrations (version, name) VALUES (99, 'of tomorrow')")
        .await;
    let error = refused::<D>(SqlConfig::new(&url), "made by a newer version (schema 99").await;
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    // It was left as it was: the version that made it opens it.
    execute::<D>(&url, "DELETE FROM im_migrations WHERE version = 99").await;
    SqlStore::<D>::open(SqlConfig::new(&url)).await.unwrap().close().await.unwrap();
}

#[tokio::test]
async fn newer_tables_are_refused_on_sqlite() {
    let folder = TempDir::new().unwrap();
    newer::<Sqlite>(format!("sqlite:{}", folder.path().join("im.db").display())).await;
}

#[tokio::test]
async fn newer_tables_are_refused_on_postgres() {
    let Some(database) = Database::make("newer tables", Kind::Postgres) else { return };
    newer::<Postgres>(database.url()).await;
}

#[tokio::test]
async fn newer_tables_are_refused_on_mysql() {
    let Some(database) = Database::make("newer tables", Kind::MariaDb) else { return };
    newer::<MySql>(database.url()).await;
}

/// A migration that was killed between two statements is run again.
#[tokio::test]
async fn killed_migration_runs_again() {
    let sql = include_str!("../src/migrations/mysql/0001_initial.sql");
    let statements: Vec<&'static str> = sql.split_inclusive("InnoDB;").collect();
    for made in [1, statements.len() / 2, statements.len() - 1] {
        let Some(database) = Database::make("half a migration", Kind::MariaDb) else { return };
        // Each commits by itself.
        for statement in &statements[..made] {
            execute::<MySql>(&database.url(), statement).await;
        }
        let store = MySqlStore::open(SqlConfig::new(database.url())).await.unwrap();
        let kept = store.append(vec![message("r", "words".to_owned())]).await.remove(0).unwrap();
        assert!(matches!(kept, Appended::Committed(_)));
        store.close().await.unwrap();
    }
}

/// The same address with another password, and with another database.
fn spoiled(url: &str) -> [String; 2] {
    let (before, place) = url.rsplit_once('@').unwrap();
    let (user, _) = before.rsplit_once(':').unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    [format!("{user}:wrong@{place}"), format!("{server}/there_is_none")]
}

/// Wrong credentials and databases are reported at once, without waiting.
#[tokio::test]
async fn wrong_credentials_fail_at_once() {
    if let Some(database) = Database::make("wrong credentials", Kind::Postgres) {
        for url in spoiled(&database.url()) {
            refused::<Postgres>(SqlConfig::new(url), "Check the address, the credentials").await;
        }
    }
    if let Some(database) = Database::make("wrong credentials", Kind::MariaDb) {
        for url in spoiled(&database.url()) {
            refused::<MySql>(SqlConfig::new(url), "Check the address, the credentials").await;
        }
    }
}

#[tokio::test]
async fn malformed_address_is_refused() {
    refused::<Postgres>(SqlConfig::new("chat"), "address makes no sense").await;
    refused::<MySql>(SqlConfig::new("mysql//x"), "address makes no sense").await;
}

#[tokio::test]
async fn absent_database_fails_after_patience() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let brief = |url: String| SqlConfig::new(url).patience(Duration::from_millis(50));
    let words = "Check the address";
    refused::<Postgres>(brief(format!("postgres://im:x@127.0.0.1:{port}/im")), words).await;
    refused::<MySql>(brief(format!("mysql://im:x@127.0.0.1:{port}/im")), words).await;
}

#[tokio::test]
async fn open_file_is_not_opened_twice() {
    let folder = TempDir::new().unwrap();
    let config = || SqlConfig::sqlite(folder.path().join("im.db"));
    let first = SqliteStore::open(config()).await.unwrap();
    refused::<Sqlite>(config(), "in use by another process").await;
    first.close().await.unwrap();
    drop(first);
    SqliteStore::open(config()).await.unwrap().close().await.unwrap();
}

/// A file that is no database is refused and left as it is.
#[tokio::test]
async fn foreign_file_is_left_unchanged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("letter.txt");
    let letter = "Dear Ann, this is no database, and it is long enough to be one. ".repeat(20);
    std::fs::write(&path, &letter).unwrap();
    refused::<Sqlite>(SqlConfig::sqlite(&path), "not a database").await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), letter);
}

/// Writes rubbish over the middle third of a file.
fn damage(path: &Path) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    let len = file.metadata().unwrap().len();
    file.seek(SeekFrom::Start(len / 3 / 4096 * 4096)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(len / 3).unwrap()]).unwrap();
}

/// A damaged page is reported as corrupt and never returned as history.
#[tokio::test]
async fn damaged_page_is_reported() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("im.db");
    let store = SqliteStore::open(SqlConfig::sqlite(&path)).await.unwrap();
    for n in 0..4 {
        let batch = (0..250).map(|m| message("r", format!("{n}/{m} {}", "x".repeat(500))));
        store.append(batch.collect()).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    }
    store.close().await.unwrap();
    drop(store);
    damage(&path);
    let (mut next, mut told) = (Seq::ZERO, false);
    match SqliteStore::open(SqlConfig::sqlite(&path)).await {
        Err(error) => told = error.kind() != StoreErrorKind::Closed,
        Ok(store) => {
            while next.get() < 1_000 {
                let range = LogRange { from: PageFrom::After(next), limit: 50, max_bytes: 1 << 20 };
                match store.read(&RoomId::new("r").unwrap(), range).await {
                    Ok(Some(page)) => {
                        for event in page.events {
                            assert_eq!(event.seq, next.next(), "no event is left out in silence");
                            next = event.seq;
                        }
                    }
                    Ok(None) => panic!("the room is there"),
                    Err(error) => {
                        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{error}");
                        told = true;
                        break;
                    }
                }
            }
            store.close().await.unwrap();
        }
    }
    assert!(told, "the damage is told");
}

#[tokio::test]
async fn settings_that_weaken_durability_are_seen() {
    if let Some(database) = Database::make("weak settings", Kind::Postgres) {
        let open = || PostgresStore::open(SqlConfig::new(database.url()));
        let store = open().await.unwrap();
        assert_eq!(store.durability(), Durability::PowerLoss);
        store.close().await.unwrap();
        let sql = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); \
                   END $$";
        execute::<Postgres>(&database.url(), sql).await;
        let store = open().await.unwrap();
        assert_eq!(store.durability(), Durability::Volatile);
        store.close().await.unwrap();
    }
    if let Some(database) = Database::make("weak settings", Kind::MariaDb) {
        let store = MySqlStore::open(SqlConfig::new(database.url())).await.unwrap();
        assert_eq!(store.durability(), Durability::PowerLoss);
        store.close().await.unwrap();
    }
}

/// A server is killed while many send, and started again: sends wait for it, and what was acknowledged is there.
async fn killed<D: Dialect>(mut server: Server) {
    let config = SqlConfig::new(server.url()).patience(Duration::from_secs(60));
    let store = Arc::new(SqlStore::<D>::open(config).await.unwrap());
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let senders: Vec<_> = (0..8)
        .map(|sender| {
            let (store, told) = (Arc::clone(&store), told.clone());
            tokio::spawn(async move {
                let room = format!("room{}", sender % 3);
                let mut kept = Vec::new();
                for n in 0..60 {
                    let append = message(&room, format!("{sender}/{n}"));
                    // As a client does: the same again, as long as nobody knows whether it was written.
                    let place = loop {
                        match store.append(vec![append.clone()]).await.remove(0) {
                            Ok(Appended::Committed(event)) => break event.seq,
                            Ok(Appended::Duplicate { record, .. }) => break record.seq,
                            Err(error) if error.is_retryable() => {}
                            Err(error) => panic!("{error}"),
                        }
                    };
                    kept.push((room.clone(), place, format!("{sender}/{n}")));
                    let _ = told.send(());
                }
                kept
            })
        })
        .collect();
    for _ in 0..100 {
        hear.recv().await.unwrap();
    }
    let server = tokio::task::spawn_blocking(move || {
        server.kill().unwrap();
        server.restart().unwrap();
        server
    })
    .await
    .unwrap();
    let mut kept = Vec::new();
    for sender in senders {
        kept.extend(sender.await.unwrap());
    }
    let mut found = 0;
    for room in ["room0", "room1", "room2"] {
        let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 1_000, max_bytes: 1 << 24 };
        let page = store.read(&RoomId::new(room).unwrap(), range).await.unwrap().unwrap();
        for (n, event) in (1..).zip(&page.events) {
            assert_eq!(event.seq.get(), n, "dense");
            let value = event.content.value();
            let text = value.get("text").unwrap().as_text().unwrap();
            let held = kept
                .iter()
                .filter(|(r, seq, t)| (r.as_str(), *seq, t.as_str()) == (room, event.seq, text));
            assert_eq!(held.count(), 1, "{room} {n} {text}: acknowledged once, with this place");
            found += 1;
        }
    }
    assert_eq!(found, 8 * 60);
    store.close().await.unwrap();
    tokio::task::spawn_blocking(move || server.stop().unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_wait_for_killed_postgres() {
    let Some(server) = or_skip("killed postgres", Server::start(Kind::Postgres)) else { return };
    killed::<Postgres>(server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_wait_for_killed_mariadb() {
    let Some(server) = or_skip("killed mariadb", Server::start(Kind::MariaDb)) else { return };
    killed::<MySql>(server).await;
}

//! Servers and networks that fail without a word, and locks that nobody gives back: every call ends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod support;

use std::pin::pin;
use std::time::Duration;

use im_core::ports::{
    Appended, LogRange, RoomDirectory, RoomLog, Store, StoreError, StoreErrorKind,
};
use im_core::wire::PageFrom;
use im_core::{RoomId, Seq};
use im_store_sql::{Dialect, SqlConfig, SqlStore};
use im_test_databases::Kind;
use sqlx::{Connection, MySql, Postgres, SqlSafeStr, Sqlite};

use self::support::{Database, Mood, Proxy, message};

/// A store behind a proxy.
struct Far<D: Dialect> {
    store: SqlStore<D>,
    proxy: Proxy,
    _database: Database,
}

impl<D: Dialect> Far<D> {
    /// It waits for little, and has one connection for each purpose.
    async fn open(
        test: &str,
        kind: Kind,
        tune: impl FnOnce(SqlConfig) -> SqlConfig,
    ) -> Option<Self> {
        let database = Database::make(test, kind)?;
        let proxy = Proxy::start(&database.url()).await;
        let config = SqlConfig::new(proxy.url()).connections(1).committers(1);
        let config = config.patience(Duration::from_secs(2)).time_limit(Duration::from_secs(3));
        let store = SqlStore::<D>::open(tune(config)).await.unwrap();
        kept(&store, "r").await;
        Some(Self { store, proxy, _database: database })
    }
}

async fn kept<D: Dialect>(store: &SqlStore<D>, room: &str) {
    let kept = store.append(vec![message(room, "words".to_owned())]).await.remove(0).unwrap();
    assert!(matches!(kept, Appended::Committed(_)));
}

async fn head<D: Dialect>(store: &SqlStore<D>) -> Result<u64, StoreError> {
    Ok(store.room(&RoomId::new("r").unwrap()).await?.unwrap().head.get())
}

async fn page<D: Dialect>(store: &SqlStore<D>) -> Result<usize, StoreError> {
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 10, max_bytes: 1 << 20 };
    Ok(store.read(&RoomId::new("r").unwrap(), range).await?.unwrap().events.len())
}

async fn refused<D: Dialect>(store: &SqlStore<D>, room: &str) -> StoreError {
    store.append(vec![message(room, "words".to_owned())]).await.remove(0).unwrap_err()
}

async fn vanished_peer_blocks_no_call_forever<D: Dialect>(kind: Kind) {
    let Some(far) = Far::<D>::open("vanished peer", kind, |config| config).await else { return };
    assert_eq!(head(&far.store).await.unwrap(), 1);
    far.proxy.set(Mood::Deaf);
    assert_eq!(refused(&far.store, "r").await.kind(), StoreErrorKind::Unavailable);
    assert_eq!(head(&far.store).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    far.proxy.set(Mood::Open);
    kept(&far.store, "r").await;
    assert_eq!(head(&far.store).await.unwrap(), 2);
    far.proxy.set(Mood::Deaf);
    far.store.close().await.unwrap();
}

/// A commit without an answer is unknown, and its retry is a duplicate.
async fn unanswered_commit_retry_is_duplicate<D: Dialect>(kind: Kind) {
    let Some(far) = Far::<D>::open("unanswered commit", kind, |config| config).await else {
        return;
    };
    let append = message("r", "once".to_owned());
    // As each protocol has it, and not the isolation level that begins alike.
    let commit = if kind == Kind::Postgres { "COMMIT\0" } else { "\u{3}COMMIT" };
    far.proxy.set(Mood::DeafAfter(commit));
    let unknown = far.store.append(vec![append.clone()]).await.remove(0).unwrap_err();
    assert_eq!(unknown.kind(), StoreErrorKind::Unknown, "{unknown}");
    let again = far.store.append(vec![append]).await.remove(0).unwrap();
    assert!(matches!(again, Appended::Duplicate { .. }), "the server got it");
    assert_eq!(head(&far.store).await.unwrap(), 2);
    far.store.close().await.unwrap();
}

/// A read without an answer is retried within the patience.
async fn unanswered_read_is_retried<D: Dialect>(kind: Kind) {
    let patient = |config: SqlConfig| config.patience(Duration::from_secs(60));
    let Some(far) = Far::<D>::open("unanswered read", kind, patient).await else { return };
    far.proxy.set(Mood::DeafAfter("FROM im_rooms t WHERE t.id = "));
    assert_eq!(head(&far.store).await.unwrap(), 1);
    far.proxy.deafened(1).await;
    far.store.close().await.unwrap();
}

async fn dropped_read_closes_its_connection<D: Dialect>(kind: Kind) {
    // No time limit that could end it instead.
    let long = Duration::from_secs(600);
    let patient = |config: SqlConfig| config.time_limit(long).patience(long / 10);
    let Some(far) = Far::<D>::open("dropped read", kind, patient).await else { return };
    far.proxy.set(Mood::DeafAfter("FROM im_rooms t WHERE t.id = "));
    tokio::select! {
        _ = head(&far.store) => panic!("it has no answer"),
        () = far.proxy.deafened(1) => {}
    }
    let before = far.proxy.accepted();
    // There is one connection at a time.
    assert_eq!(head(&far.store).await.unwrap(), 1);
    assert_eq!(far.proxy.accepted(), before + 1);
    far.store.close().await.unwrap();
}

/// While a server is away, one call at a time tries to reach it.
async fn absent_server_is_probed_once<D: Dialect>(kind: Kind) {
    let many = |config: SqlConfig| config.connections(8).patience(Duration::ZERO);
    let Some(far) = Far::<D>::open("server away", kind, many).await else { return };
    assert_eq!(head(&far.store).await.unwrap(), 1);
    far.proxy.set(Mood::Shut);
    let before = far.proxy.accepted();
    assert_eq!(head(&far.store).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(
        far.proxy.accepted(),
        before + 1,
        "it looks once beyond the connection that was there"
    );
    // On one thread, so that none of them comes to its end before all have begun.
    let all = futures::future::join_all((0..20).map(|_| head(&far.store))).await;
    assert!(all.iter().all(|told| told.as_ref().is_err_and(StoreError::is_retryable)));
    assert_eq!(far.proxy.accepted(), before + 2, "{all:#?}");
    far.proxy.set(Mood::Open);
    assert_eq!(head(&far.store).await.unwrap(), 1, "it is back");
    let all = futures::future::join_all((0..20).map(|_| head(&far.store))).await;
    assert!(all.into_iter().all(|told| told.is_ok_and(|head| head == 1)));
    far.store.close().await.unwrap();
}

/// A page read does not queue while the server is away.
async fn absent_server_fails_pages_at_once<D: Dialect>(kind: Kind) {
    let one = |config: SqlConfig| {
        config.connections(2).patience(Duration::ZERO).time_limit(Duration::from_secs(600))
    };
    let Some(far) = Far::<D>::open("page of an absent server", kind, one).await else { return };
    far.proxy.set(Mood::DeafAfter("JOIN im_messages m"));
    let mut stuck = pin!(page(&far.store));
    tokio::select! {
        _ = &mut stuck => panic!("it has no answer"),
        () = far.proxy.deafened(1) => {}
    }
    let behind = page(&far.store).await.unwrap_err();
    assert_eq!(behind.kind(), StoreErrorKind::Unavailable);
    assert!(behind.to_string().contains("pages that others read"), "{behind}");
    far.proxy.set(Mood::Shut);
    assert_eq!(head(&far.store).await.unwrap_err().kind(), StoreErrorKind::Unavailable);
    let away = page(&far.store).await.unwrap_err();
    assert_eq!(away.kind(), StoreErrorKind::Unavailable);
    assert!(away.to_string().contains("is away"), "{away}");
}

async fn unreleased_lock_blocks_only_its_room<D: Dialect>(kind: Kind, begin: &'static str) {
    let Some(database) = Database::make("idle transaction", kind) else { return };
    let config = SqlConfig::new(database.url()).committers(1);
    let config = config.patience(Duration::ZERO).lock_wait(Duration::from_millis(100));
    let store = SqlStore::<D>::open(config).await.unwrap();
    kept(&store, "locked").await;
    let mut own = D::Connection::connect(&database.url()).await.unwrap();
    let mut tx = own.begin_with(begin.into_sql_str()).await.unwrap();
    let mine = message("locked", "mine".to_owned());
    store.append_in(&mut tx, &[mine]).await.unwrap().remove(0).unwrap();
    // All of them wait for one commit.
    let (one, other, free) =
        tokio::join!(refused(&store, "locked"), refused(&store, "locked"), kept(&store, "free"));
    let () = free;
    for told in [one, other] {
        assert_eq!(told.kind(), StoreErrorKind::Unavailable);
        assert!(told.to_string().contains("holds a lock"), "{told}");
    }
    tx.rollback().await.unwrap();
    kept(&store, "locked").await;
    store.close().await.unwrap();
}

/// A transaction that never ends fails appends in time and leaves reads alone.
#[tokio::test]
async fn endless_sqlite_transaction_blocks_no_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("im.db");
    let config = SqlConfig::sqlite(&path).patience(Duration::ZERO);
    let store =
        SqlStore::<Sqlite>::open(config.lock_wait(Duration::from_millis(20))).await.unwrap();
    kept(&store, "r").await;
    let mut own = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    let tx = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let all = futures::future::join_all((0..20).map(|_| refused(&store, "r"))).await;
    assert!(all.iter().all(|told| told.to_string().contains("holds a lock")), "{all:?}");
    assert_eq!(head(&store).await.unwrap(), 1, "readers do not mind");
    tx.rollback().await.unwrap();
    kept(&store, "r").await;
    store.close().await.unwrap();
}

macro_rules! on_each_server {
    ($($case:ident),+ $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $case() { super::$case::<super::Postgres>(super::Kind::Postgres).await; })+

            #[tokio::test]
            async fn unreleased_lock_blocks_only_its_room() {
                let (kind, begin) = (super::Kind::Postgres, "BEGIN");
                super::unreleased_lock_blocks_only_its_room::<super::Postgres>(kind, begin).await;
            }
        }
        mod mysql {
            $(#[tokio::test]
            async fn $case() { super::$case::<super::MySql>(super::Kind::MariaDb).await; })+

            #[tokio::test]
            async fn unreleased_lock_blocks_only_its_room() {
                let begin = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";
                let kind = super::Kind::MariaDb;
                super::unreleased_lock_blocks_only_its_room::<super::MySql>(kind, begin).await;
            }
        }
    };
}

on_each_server!(
    vanished_peer_blocks_no_call_forever,
    unanswered_commit_retry_is_duplicate,
    unanswered_read_is_retried,
    dropped_read_closes_its_connection,
    absent_server_is_probed_once,
    absent_server_fails_pages_at_once,
);

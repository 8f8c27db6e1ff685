//! Messages in a transaction of the embedder's own: there with its rows, or never.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "these are tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::{Engine, EngineConfig, Publish, Subscription};
use im_core::ports::{Appended, RoomDirectory, Store, StoreErrorKind};
use im_core::state::{Append, Intent, RoomSeed};
use im_core::wire::{Event, PageFrom, Push, Role, RoomKind, Target};
use im_core::{MessageId, RoomId, Seq, UserId};
use im_store_sql::sqlx::{self, Connection, MySql, Postgres, SqlSafeStr, Sqlite};
use im_store_sql::{Dialect, SqlConfig, SqlStore, Within};
use im_test_databases::Kind;

use self::support::Database;

/// What a test needs of a database beside the store.
struct Shop<D: Dialect> {
    store: Arc<SqlStore<D>>,
    engine: Engine,
    /// The embedder's own connection.
    own: D::Connection,
    begin: &'static str,
    room: RoomId,
    user: UserId,
    /// Kept as long as the test runs.
    _home: Home,
}

enum Home {
    Folder(#[allow(dead_code, reason = "it is removed when it is dropped")] tempfile::TempDir),
    Server(#[allow(dead_code, reason = "it is dropped when it is dropped")] Database),
}

impl<D: Dialect> Shop<D> {
    async fn open(url: String, begin: &'static str, home: Home) -> Self {
        let store = Arc::new(SqlStore::<D>::open(SqlConfig::new(&url)).await.unwrap());
        let mut own = D::Connection::connect(&url).await.unwrap();
        run::<D>(&mut own, "CREATE TABLE orders (what VARCHAR(20) NOT NULL)").await;
        let engine = engine(store.clone()).await;
        let (room, user) = (RoomId::new("orders").unwrap(), UserId::new("shop").unwrap());
        let members = vec![(user.clone(), Role::Owner)];
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        engine.create_room(room.clone(), seed, &user).await.unwrap();
        Self { store, engine, own, begin, room, user, _home: home }
    }

    fn message(&self, text: &str) -> Append {
        let to = Target::Room(self.room.clone());
        self.engine.prepare(Publish::text(to, self.user.clone(), text)).unwrap()
    }

    /// Writes an order and the message about it, and commits or rolls back.
    async fn order(&mut self, what: &'static str, commit: bool) -> Vec<Arc<Event>> {
        let message = self.message(what);
        let mut tx = self.own.begin_with(self.begin.into_sql_str()).await.unwrap();
        let sql = format!("INSERT INTO orders (what) VALUES ('{what}')");
        D::execute_text(&mut tx, sqlx::AssertSqlSafe(sql).into_sql_str()).await.unwrap();
        let answers = self.store.append_in(&mut tx, &[message]).await.unwrap();
        let events = answers.into_iter().map(|answer| match answer.unwrap() {
            Appended::Committed(event) => event,
            Appended::Duplicate { .. } => panic!("it is new"),
        });
        let events = events.collect();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
        }
        events
    }

    async fn texts(&self) -> Vec<String> {
        let page = self.engine.history(&self.room, PageFrom::After(Seq::FIRST), 100).await.unwrap();
        page.events.iter().map(text_of).collect()
    }
}

async fn engine(store: Arc<dyn Store>) -> Engine {
    let config = EngineConfig::default().head_check(Duration::from_millis(50));
    Engine::builder().allow_anonymous().store(store).config(config).start().await.unwrap()
}

async fn run<D: Dialect>(connection: &mut D::Connection, sql: &'static str) {
    D::execute_text(connection, sql.into_sql_str()).await.unwrap();
}

fn text_of(event: &Event) -> String {
    event.content.value().get("text").unwrap().as_text().unwrap().to_owned()
}

async fn next(subscription: &mut Subscription) -> String {
    let event = async {
        loop {
            if let Push::Event(event) = subscription.next().await.expect("the engine is there") {
                return text_of(&event);
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("an event comes")
}

/// Events of a committed transaction are read, and those rolled back never existed.
async fn committed_events_are_read<D: Dialect>(mut shop: Shop<D>) {
    let kept = shop.order("a lamp", true).await;
    assert_eq!(kept[0].seq.get(), 2);
    let gone = shop.order("a chair", false).await;
    assert_eq!(gone[0].seq.get(), 3);
    assert_eq!(shop.texts().await, ["a lamp"]);
    // Its place is free again: the log stays dense.
    let next = shop.order("a table", true).await;
    assert_eq!(next[0].seq.get(), 3);
    assert_eq!(shop.texts().await, ["a lamp", "a table"]);
}

/// Announced events are pushed, and those that were rolled back are not.
async fn announced_events_are_pushed<D: Dialect>(mut shop: Shop<D>) {
    let mut subscription = shop.engine.subscribe(&shop.room, None).await.unwrap();
    let gone = shop.order("a chair", false).await;
    let kept = shop.order("a lamp", true).await;
    // Both claim the same place; the store knows which one it is.
    shop.engine.announce([gone, kept].concat()).await.unwrap();
    assert_eq!(next(&mut subscription).await, "a lamp");
}

async fn unannounced_events_are_found<D: Dialect>(mut shop: Shop<D>) {
    let mut subscription = shop.engine.subscribe(&shop.room, None).await.unwrap();
    shop.order("a lamp", true).await;
    assert_eq!(next(&mut subscription).await, "a lamp");
}

/// A refusal is one answer of the batch and leaves the transaction usable.
async fn refusal_keeps_transaction_usable<D: Dialect>(mut shop: Shop<D>) {
    let mut nowhere = shop.message("to nobody");
    nowhere.room = RoomId::new("there is none".replace(' ', "-")).unwrap();
    let (one, id) = (shop.message("one"), MessageId::random());
    let named = Publish::text(Target::Room(shop.room.clone()), shop.user.clone(), "two");
    let named = shop.engine.prepare(named.id(id)).unwrap();
    let batch = [nowhere, one, named.clone(), named];
    let mut tx = shop.own.begin_with(shop.begin.into_sql_str()).await.unwrap();
    let answers = shop.store.append_in(&mut tx, &batch).await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(answers[0].as_ref().unwrap_err().kind(), StoreErrorKind::Refused(_)));
    assert!(matches!(answers[1], Ok(Appended::Committed(_))));
    assert!(matches!(answers[2], Ok(Appended::Committed(_))));
    assert!(matches!(answers[3], Ok(Appended::Duplicate { .. })));
    assert_eq!(shop.texts().await, ["one", "two"]);
}

/// A room, who is in it and the first message, with the embedder's row or not at all.
async fn room_is_made_with_own_rows<D: Dialect>(mut shop: Shop<D>) {
    let (order, ann) = (RoomId::new("order-1").unwrap(), UserId::new("ann").unwrap());
    let members = vec![(shop.user.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
    let intent = Intent::Add(ann.clone(), Role::Member);
    let text = Publish::text(Target::Room(order.clone()), shop.user.clone(), "placed");
    let batch = [
        shop.engine.prepare_room(order.clone(), seed, &shop.user).unwrap(),
        shop.engine.prepare_change(order.clone(), &shop.user, intent),
        shop.engine.prepare(text).unwrap(),
    ];
    for commits in [false, true] {
        let mut tx = shop.own.begin_with(shop.begin.into_sql_str()).await.unwrap();
        let answers = shop.store.append_in(&mut tx, &batch).await.unwrap();
        let events = answers.into_iter().map(|answer| match answer.unwrap() {
            Appended::Committed(event) => event,
            Appended::Duplicate { .. } => panic!("it is new"),
        });
        let events: Vec<_> = events.collect();
        if !commits {
            tx.rollback().await.unwrap();
            assert!(shop.store.room(&order).await.unwrap().is_none());
            continue;
        }
        tx.commit().await.unwrap();
        shop.engine.announce(events).await.unwrap();
        let members = shop.store.members(&order, None, 10).await.unwrap();
        assert_eq!(members, [(ann.clone(), Role::Member), (shop.user.clone(), Role::Owner)]);
        let page = shop.engine.history(&order, PageFrom::After(Seq::ZERO), 10).await.unwrap();
        assert_eq!(page.events.len(), 3);
        assert_eq!(text_of(&page.events[2]), "placed");
    }
}

/// A transaction, a pooled connection and a plain one are taken alike.
async fn every_connection_kind_is_accepted<D: Dialect>(mut shop: Shop<D>)
where
    D::Connection: Within<D>,
{
    let message = shop.message("by a plain one");
    let mut own = shop.own.begin_with(shop.begin.into_sql_str()).await.unwrap();
    shop.store.append_in(&mut *own, &[message]).await.unwrap().remove(0).unwrap();
    own.commit().await.unwrap();
    assert_eq!(shop.texts().await, ["by a plain one"]);
}

/// What the causes of an error say, from the outermost to the last.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    std::iter::successors(error.source(), |error| error.source()).map(|e| e.to_string()).collect()
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<String>>);

impl tracing::field::Visit for Log {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0.lock().unwrap().push_str(&format!("{field}={value:?} "));
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        *about.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Other sends ended in 4202, and nothing said why: the embedder's own transaction was open.
#[tokio::test]
async fn open_transaction_is_named_as_cause() {
    let log = Log::default();
    let _logged = tracing::subscriber::set_default(log.clone());
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("shop.db");
    let wait = Duration::from_millis(50);
    let config = SqlConfig::sqlite(&path).lock_wait(wait).patience(wait);
    let store = Arc::new(SqlStore::<Sqlite>::open(config).await.unwrap());
    let engine = engine(store.clone()).await;
    let (ann, shop) = (UserId::new("ann").unwrap(), UserId::new("shop").unwrap());
    let publish = || Publish::text(Target::User(ann.clone()), shop.clone(), "placed");
    let mut own = sqlx::SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    let mut tx = own.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let message = engine.prepare(publish()).unwrap();
    store.append_in(&mut tx, &[message]).await.unwrap().remove(0).unwrap();
    let told = engine.publish(publish()).await.unwrap_err();
    assert_eq!(told.code().number(), 4202);
    let causes = causes(&told);
    for words in ["another transaction holds a lock", "`append_in` was called", "one writer"] {
        assert!(causes[0].contains(words), "{causes:?}");
    }
    assert!(causes.last().unwrap().contains("database is locked"), "{causes:?}");
    let logged = log.0.lock().unwrap().clone();
    assert!(logged.contains("another transaction holds a lock"), "{logged}");
    assert!(logged.contains("`append_in` was called"), "{logged}");
    tx.rollback().await.unwrap();
    engine.publish(publish()).await.unwrap();
}

macro_rules! on_each_database {
    ($($case:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let folder = tempfile::TempDir::new().unwrap();
                let url = format!("sqlite:{}?mode=rwc", folder.path().join("shop.db").display());
                let home = super::Home::Folder(folder);
                super::$case(super::Shop::<super::Sqlite>::open(url, "BEGIN IMMEDIATE", home).await).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let Some(database) = super::Database::make(stringify!($case), super::Kind::Postgres) else { return };
                let (url, home) = (database.url(), super::Home::Server(database));
                super::$case(super::Shop::<super::Postgres>::open(url, "BEGIN", home).await).await;
            })+
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                let Some(database) = super::Database::make(stringify!($case), super::Kind::MariaDb) else { return };
                let (url, home) = (database.url(), super::Home::Server(database));
                let begin = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";
                super::$case(super::Shop::<super::MySql>::open(url, begin, home).await).await;
            })+
        }
    };
}

on_each_database!(
    committed_events_are_read,
    announced_events_are_pushed,
    unannounced_events_are_found,
    refusal_keeps_transaction_usable,
    room_is_made_with_own_rows,
    every_connection_kind_is_accepted,
);

/// Transactions of another sqlx version are other types: the docs of `append_in` and the compiler's error name the right one.
#[test]
fn docs_and_errors_name_sqlx_version() {
    let read = |path: &str| {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let manifest = read("../Cargo.toml");
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("sqlx = { version = \""));
    let (version, _) = wanted.unwrap().split_once('"').unwrap();
    let named = format!("sqlx {version}");
    for page in ["src/lib.rs", "src/publish.rs", "../examples/embed-axum/README.md"] {
        assert!(read(page).contains(&named), "{page} does not name {named}");
    }
    let refusal = format!("is no connection or transaction of {named}");
    assert!(read("src/publish.rs").contains(&refusal), "the compiler's error names no version");
}

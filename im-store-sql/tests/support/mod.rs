//! Databases of a server for tests: each its own, and dropped when it is not needed any more.
#![allow(clippy::unwrap_used, reason = "these are tests")]
#![allow(dead_code, unreachable_pub, reason = "not every test needs all of it")]

mod proxy;
mod server;

use im_core::id::random_bytes;
use im_core::state::{Act, Append, Authority, IdempotencyKey, NewEvent, RoomSeed, content_hash};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Timestamp, UserId};
use im_test_databases::{Kind, or_skip, url};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

#[allow(unused_imports, reason = "not every test needs it")]
pub use proxy::{Mood, Proxy};
#[allow(unused_imports, reason = "the store suites use it")]
pub use server::Server;

/// A message under an id of its own to a room that the first one makes.
pub fn message(room: &str, text: String) -> Append {
    let (kind, from) = (EventKind::message(), UserId::new("ann").unwrap());
    let value: Value = Map::from_iter([("text", text)]).into();
    let key = IdempotencyKey { id: MessageId::random(), hash: content_hash(&kind, &value) };
    let content = Content::new(&value, &Limits::default()).unwrap();
    let members = vec![(from.clone(), Role::Owner)];
    let event = NewEvent { from, kind, content, idempotency_key: Some(key) };
    let seed = Some(RoomSeed { kind: RoomKind::Group, open: true, members });
    Append {
        room: RoomId::new(room).unwrap(),
        authority: Authority::Service,
        act: Act::Post { event, seed },
        at: Timestamp::from_millis(1_700_000_000_000),
        max_members: 10,
    }
}

/// A database on a server that others use too.
pub struct Database {
    /// The server's address, with a database that is there already.
    server: String,
    name: String,
}

impl Database {
    /// Makes one. `None` if there is no such server here: then the test is skipped.
    pub fn make(test: &str, kind: Kind) -> Option<Self> {
        let server = or_skip(test, url(kind))?;
        let name = format!("im_test_{:016x}", u64::from_be_bytes(random_bytes()));
        let made = Self { server, name };
        made.on_server(&format!("CREATE DATABASE {}", made.name)).unwrap();
        Some(made)
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// Runs a statement on the server, on a thread of its own: a runtime may be running on this one.
    fn on_server(&self, sql: &str) -> Result<(), sqlx::Error> {
        sqlx::any::install_default_drivers();
        let (server, sql) = (self.server.clone(), sql.to_owned());
        let work = async move {
            let mut connection = AnyConnection::connect(&server).await?;
            connection.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await?;
            connection.close().await
        };
        let thread = std::thread::spawn(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(work)
        });
        thread.join().unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Connections that a test has left open must not keep it.
        let force = if self.server.starts_with("postgres") { " WITH (FORCE)" } else { "" };
        let _ = self.on_server(&format!("DROP DATABASE {}{force}", self.name));
    }
}

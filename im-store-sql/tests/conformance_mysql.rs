//! The store suite on a MariaDB server.
#![allow(clippy::unwrap_used, reason = "these are tests")]

mod support;

use std::sync::{Arc, Mutex};

use im_store_sql::{MySqlStore, SqlConfig};
use im_test_databases::Kind;
use im_testkit::store_suite::{Store, StoreFactory, async_trait};

use self::support::Database;

/// Each store that it opens has a database of its own: the first is made with the factory, to see whether there is a server.
struct Server {
    spare: Mutex<Option<Database>>,
    used: Mutex<Vec<Database>>,
}

fn server() -> Option<Server> {
    let first = Database::make("store suite", Kind::MariaDb)?;
    Some(Server { spare: Mutex::new(Some(first)), used: Mutex::new(Vec::new()) })
}

async fn open(url: String) -> Arc<dyn Store> {
    Arc::new(MySqlStore::open(SqlConfig::new(url).connections(4)).await.unwrap())
}

#[async_trait]
impl StoreFactory for Server {
    async fn open(&self) -> Arc<dyn Store> {
        let spare = self.spare.lock().unwrap().take();
        let database = spare.or_else(|| Database::make("store suite", Kind::MariaDb)).unwrap();
        let url = database.url();
        self.used.lock().unwrap().push(database);
        open(url).await
    }

    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(closed);
        let url = self.used.lock().unwrap().last()?.url();
        Some(open(url).await)
    }
}

im_testkit::store_suite!(match server() {
    Some(server) => server,
    None => return,
});

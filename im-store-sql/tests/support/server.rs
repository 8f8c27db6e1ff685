//! Opening stores on a server, for the store suite.

use std::marker::PhantomData;
use std::sync::{Arc, Mutex};

use im_store_sql::{Dialect, SqlConfig, SqlStore};
use im_test_databases::Kind;
use im_testkit::store_suite::{Store, StoreFactory, async_trait};

use super::Database;

/// Each store that it opens has a database of its own: the first is made with the factory, to see whether there is a server.
pub struct Server<D> {
    kind: Kind,
    spare: Mutex<Option<Database>>,
    used: Mutex<Vec<Database>>,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect> Server<D> {
    /// `None` if there is no such server here: then the test is skipped.
    pub fn find(kind: Kind) -> Option<Self> {
        let first = Database::make("store suite", kind)?;
        let (spare, used) = (Mutex::new(Some(first)), Mutex::new(Vec::new()));
        Some(Self { kind, spare, used, dialect: PhantomData })
    }
}

async fn open<D: Dialect>(url: String) -> Arc<dyn Store> {
    Arc::new(SqlStore::<D>::open(SqlConfig::new(url).connections(4)).await.unwrap())
}

#[async_trait]
impl<D: Dialect> StoreFactory for Server<D> {
    async fn open(&self) -> Arc<dyn Store> {
        let spare = self.spare.lock().unwrap().take();
        let database = spare.or_else(|| Database::make("store suite", self.kind)).unwrap();
        let url = database.url();
        self.used.lock().unwrap().push(database);
        open::<D>(url).await
    }

    async fn reopen(&self, closed: Arc<dyn Store>) -> Option<Arc<dyn Store>> {
        drop(closed);
        let url = self.used.lock().unwrap().last()?.url();
        Some(open::<D>(url).await)
    }
}

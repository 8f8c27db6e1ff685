//! Kills of the writing process, or of its database, lose and duplicate nothing that was
//! acknowledged.
//!
//! Short runs by default, made longer as those in `kills.rs`. They are a process of their own: a
//! process that starts servers would at times pass them, until their exec, the locks on the folders
//! of other stores.
#![allow(clippy::panic, clippy::unwrap_used, reason = "these are tests")]

use std::process::Command;
use std::sync::Arc;

use async_trait::async_trait;
use im_core::ports::Store;
use im_store_sql::{PostgresStore, SqlConfig};
use im_test_databases::{Error, Kind, Server, or_skip};
use im_testkit::crash::{
    CrashPlan, CrashReport, Database, DatabaseError, Task, Violation, run_with_database,
};
use im_tests::stores::{self, SERVERS, chosen, kill_runs, kills};
use tokio::sync::Mutex;

/// Kills in a short run. Four of them are of the database.
const SHORT: u64 = 20;

/// The command of a worker on the store at this address.
fn worker(store: &str, url: &str, task: &Task) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crash-writer"));
    command.arg(store).arg(url).args(task.words());
    command
}

/// Kills of the writing process and of its database lose and duplicate nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn process_and_database_kills_lose_nothing() {
    let test = "process_and_database_kills_lose_nothing";
    for store in chosen(SERVERS) {
        kill_writers_and_server(test, store).await;
    }
}

async fn kill_writers_and_server(test: &str, store: &str) {
    let kind = stores::server(store).unwrap();
    let (kills, seed) = kills(store, "while writing", SHORT);
    let mut all = CrashReport::default();
    for (kills, seed) in kill_runs(kills, seed) {
        let Some(own) = or_skip(test, Own::start(kind).await) else { return };
        all += kill_writers_in_one_life(own, store, kills, seed).await;
    }
    eprintln!("{store}, in all: {all}");
    assert_eq!(u64::from(all.all_kills()), kills);
    assert!(all.acknowledged > 0, "nothing was written, so this run proves nothing");
    assert!(kills < 5 || all.database_kills > 0, "the database was not killed");
}

async fn kill_writers_in_one_life(mut own: Own, store: &str, kills: u32, seed: u64) -> CrashReport {
    let plan = CrashPlan::new(kills, seed);
    let report = own.run(&plan, store, "").await;
    if !report.violations.is_empty() {
        let words = own.server.lock().await.log_tail();
        panic!("seed {seed}: {:#?}\nthe end of the server's log:\n{words}", report.violations);
    }
    own.stop().await;
    report
}

/// PostgreSQL acknowledges before writing if a client asks for it: the proof must notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn early_ack_is_detected() {
    let test = "early_ack_is_detected";
    if !chosen(SERVERS).contains(&"postgres") {
        return;
    }
    let Some(mut own) = or_skip(test, Own::start(Kind::Postgres).await) else { return };
    // Synced, so that the first kill does not lose the tables, without which no worker can
    // continue.
    let tables = PostgresStore::open(SqlConfig::new(&own.url)).await.unwrap();
    tables.close().await.unwrap();
    // The first few find the loss, however many are planned.
    let (kills, seed) = kills("postgres", "at most, without syncs,", 40);
    let mut plan = CrashPlan::new(u32::try_from(kills.max(40)).unwrap(), seed);
    plan.database_every = 2;
    let report = own.run(&plan, "postgres", "?options=-c%20synchronous_commit%3Doff").await;
    let is_found = |violation: &Violation| {
        matches!(violation, Violation::Lost(_) | Violation::Gap(_) | Violation::Reordered(_))
    };
    assert!(report.violations.iter().any(is_found), "{report}");
    own.stop().await;
}

/// A server that belongs to the run.
struct Own {
    server: Arc<Mutex<Server>>,
    url: String,
}

impl Own {
    async fn start(kind: Kind) -> Result<Self, Error> {
        let server = blocking(move || Server::start(kind)).await?;
        Ok(Self { url: server.url(), server: Arc::new(Mutex::new(server)) })
    }

    /// Kills workers and the server; `suffix` is added to the server's address for the worker.
    async fn run(&mut self, plan: &CrashPlan, store: &str, suffix: &str) -> CrashReport {
        let url = format!("{}{suffix}", self.url);
        let open = || async { stores::open(store, &url).await.unwrap() };
        let report = run_with_database(plan, self, |task| worker(store, &url, task), open).await;
        eprintln!("{report}");
        report
    }

    async fn act(
        &self,
        act: impl FnOnce(&mut Server) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), DatabaseError> {
        let mut server = Arc::clone(&self.server).lock_owned().await;
        Ok(blocking(move || act(&mut server)).await?)
    }

    async fn stop(self) {
        // The server runs, so this shows whether it can stop cleanly after so many crashes.
        let server = Arc::into_inner(self.server).unwrap().into_inner();
        blocking(move || server.stop()).await.unwrap();
    }
}

#[async_trait]
impl Database for Own {
    async fn kill(&mut self) -> Result<(), DatabaseError> {
        self.act(Server::kill).await
    }

    async fn restart(&mut self) -> Result<(), DatabaseError> {
        self.act(Server::restart).await
    }
}

async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(act).await.unwrap()
}

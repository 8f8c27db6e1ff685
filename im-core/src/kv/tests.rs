//! The backend over a database that fails, or is written to by another one, at a chosen call.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;

use super::database::{Database, DatabaseInfo, Each, Rows, Value, WriteBatch, Written};
use super::{KeyValueBackend, OpenAs};
use crate::backend::{
    self, Answer, Backend, BackendError, BackendErrorKind, BackendResult, Change, Column, Commit,
    Datum, Found, Index, LogAct, LogChange, LogTable, Read, Row, Schema, SyncLevel, Table, TableId,
    Type, Way,
};
use crate::memory::MemoryDatabase;
use crate::ports::Durability;

type Hook = Box<dyn FnOnce() + Send>;

/// What happens at which call.
#[derive(Default)]
struct Script {
    /// Runs before the next write.
    before: Mutex<Option<Hook>>,
    /// The next write is made, and its outcome is in doubt.
    doubt: Mutex<bool>,
    /// So many flushes fail from now on.
    bad_flushes: AtomicUsize,
    /// Writes that are still made; those behind fail.
    writes: AtomicUsize,
    flushes: AtomicUsize,
}

struct Scripted {
    rows: Arc<MemoryDatabase>,
    script: Arc<Script>,
    exclusive: bool,
}

impl Rows for Scripted {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        self.rows.get(key)
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        self.rows.scan(range, way, each)
    }
}

impl Database for Scripted {
    fn info(&self) -> DatabaseInfo {
        let (name, durability) = ("scripted", Durability::PowerLoss);
        let exclusive = self.exclusive;
        DatabaseInfo { name, durability, exclusive, snapshots: true, immediate: true }
    }

    fn snapshot(&self) -> BackendResult<Option<Box<dyn Rows + '_>>> {
        self.rows.snapshot()
    }

    fn write(&self, batch: &WriteBatch) -> BackendResult<Written> {
        if let Some(hook) = self.script.before.lock().take() {
            hook();
        }
        let left = &self.script.writes;
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err() {
            return Err(BackendError::new(BackendErrorKind::Unavailable, "no more writes"));
        }
        let written = self.rows.write(batch);
        match std::mem::take(&mut *self.script.doubt.lock()) {
            true => Err(BackendError::new(BackendErrorKind::InDoubt, "the answer was lost")),
            false => written,
        }
    }

    fn flush(&self) -> BackendResult<()> {
        self.script.flushes.fetch_add(1, Ordering::SeqCst);
        let bad = &self.script.bad_flushes;
        match bad.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => Err(BackendError::new(BackendErrorKind::InDoubt, "the flush failed")),
            Err(_) => Ok(()),
        }
    }

    fn close(&self) -> BackendResult<()> {
        Ok(())
    }
}

const ROOMS: TableId = TableId(0);

fn schema(indexes: Vec<Index>, version: u32) -> Schema {
    let columns = vec![
        Column::new("id", Type::Int, ""),
        Column::new("name", Type::Text(64), ""),
        Column::new("rank", Type::Int, ""),
    ];
    let name = "rooms";
    let rooms = Table { name, version, doc: "", columns, key: 1, indexes, revives: false };
    let columns = vec![
        Column::new("log", Type::Int, ""),
        Column::new("seq", Type::Int, ""),
        Column::new("sender", Type::Text(64), ""),
        Column::nullable("id", Type::Text(64), ""),
        Column::new("bytes", Type::Int, ""),
    ];
    let (name, indexes) = ("log", Vec::new());
    let table = Table { name, version: 1, doc: "", columns, key: 2, indexes, revives: false };
    let log = LogTable { table, unique: [2, 3], outlives: Vec::new(), size: 4 };
    Schema { log, tables: vec![rooms] }
}

fn by_name() -> Index {
    Index { name: "by_name", columns: vec![1], unique: true }
}

fn by_rank() -> Index {
    Index { name: "by_rank", columns: vec![2], unique: false }
}

fn scripted(rows: &Arc<MemoryDatabase>, exclusive: bool) -> (Arc<Script>, Scripted) {
    let script = Arc::new(Script { writes: AtomicUsize::new(usize::MAX), ..Script::default() });
    (Arc::clone(&script), Scripted { rows: Arc::clone(rows), script, exclusive })
}

async fn opened(rows: &Arc<MemoryDatabase>, exclusive: bool) -> (Arc<Script>, impl Backend) {
    let (script, database) = scripted(rows, exclusive);
    let backend = KeyValueBackend::new(database, OpenAs::SameGeneration);
    backend.open(&schema(vec![by_name()], 1)).await.unwrap();
    (script, backend)
}

fn put(id: i64, name: &str) -> Commit {
    let row: Row = vec![id.into(), name.into(), (id % 7).into()];
    Commit { changes: vec![Change::Put { table: ROOMS, row }], ..Commit::default() }
}

fn send(seq: i64) -> Commit {
    let row: Row = vec![Datum::Int(1), seq.into(), "ann".into(), "id".into(), Datum::Int(1)];
    let log = Some(LogChange { log: 1, act: LogAct::Append(vec![row]) });
    Commit { log, ..Commit::default() }
}

async fn one(backend: &impl Backend, commit: Commit) -> BackendResult<Answer> {
    backend.commit(vec![commit]).await.remove(0)
}

/// A change record that may have been written is not overwritten by the next commit's.
#[tokio::test]
async fn tick_in_doubt_is_not_reused() {
    let (script, backend) = opened(&Arc::default(), true).await;
    let touching = |id: i64| Commit { touched: vec![vec![id.into()]], ..put(id, &id.to_string()) };
    *script.doubt.lock() = true;
    assert!(one(&backend, touching(1)).await.is_err());
    assert!(one(&backend, touching(2)).await.is_ok());
    let read = Read::Changes { after: Default::default(), limit: 10 };
    let Found::Changes(changes) = backend.read(vec![read]).await.unwrap().remove(0) else {
        panic!("change records")
    };
    let touched: Vec<Row> = changes.into_iter().flat_map(|record| record.touched).collect();
    assert_eq!(touched, [[Datum::Int(1)], [Datum::Int(2)]]);
}

/// The retry of a send whose flush failed is answered as a duplicate only after a flush.
#[tokio::test]
async fn duplicate_waits_for_a_flush() {
    let (script, backend) = opened(&Arc::default(), true).await;
    script.bad_flushes.store(2, Ordering::SeqCst);
    assert!(one(&backend, send(1)).await.is_err());
    assert!(one(&backend, send(2)).await.is_err(), "the second flush fails as well");
    let before = script.flushes.load(Ordering::SeqCst);
    assert!(matches!(one(&backend, send(2)).await, Ok(Answer::Duplicate { .. })));
    assert!(matches!(one(&backend, send(2)).await, Ok(Answer::Duplicate { .. })));
    assert_eq!(script.flushes.load(Ordering::SeqCst), before + 1, "one flush is enough for both");
}

/// The retry of an unsynced send that asks to be synced is.
#[tokio::test]
async fn synced_duplicate_flushes_unsynced_send() {
    let (script, backend) = opened(&Arc::default(), true).await;
    let before = script.flushes.load(Ordering::SeqCst);
    one(&backend, Commit { sync: SyncLevel::Unsynced, ..send(1) }).await.unwrap();
    assert_eq!(script.flushes.load(Ordering::SeqCst), before);
    one(&backend, send(2)).await.unwrap();
    assert_eq!(script.flushes.load(Ordering::SeqCst), before + 1);
}

/// A unique value that another process takes between reading and writing is taken.
#[tokio::test]
async fn unique_value_taken_meanwhile_conflicts() {
    let rows = Arc::default();
    let (script, backend) = opened(&rows, false).await;
    let (_, other) = opened(&rows, false).await;
    *script.before.lock() = Some(Box::new(move || {
        let made = one(&other, put(2, "tea")).now_or_never().unwrap();
        assert!(matches!(made, Ok(Answer::Applied(_))));
    }));
    let answer = one(&backend, put(1, "tea")).await.unwrap();
    let fresh = Some(vec![Datum::Int(2), "tea".into(), Datum::Int(2)]);
    assert_eq!(answer, Answer::Conflict { guard: None, fresh });
}

/// An index whose filling came to an end half-way is filled by the next opening.
#[tokio::test]
async fn interrupted_filling_is_repeated() {
    let rows = Arc::default();
    let (_, backend) = opened(&rows, true).await;
    for part in 0..3 {
        let changes = (part * 1_000..part * 1_000 + 1_000)
            .flat_map(|id| put(id, &format!("room {id}")).changes)
            .collect();
        one(&backend, Commit { changes, ..Commit::default() }).await.unwrap();
    }
    let grown = schema(vec![by_name(), by_rank()], 2);
    for writes in [0, 1, 2, 3, usize::MAX] {
        let (script, database) = scripted(&rows, true);
        script.writes.store(writes, Ordering::SeqCst);
        let backend = KeyValueBackend::new(database, OpenAs::SameGeneration);
        if backend.open(&grown).await.is_err() {
            assert!(writes < 20);
            continue;
        }
        let range = backend::Range::of(ROOMS, Vec::new()).by(1);
        let found = backend.read(vec![Read::Range(range)]).await.unwrap().remove(0);
        assert!(matches!(found, Found::Records(rows) if rows.len() == 3_000));
        return;
    }
    panic!("it was never opened");
}

/// A unique index over records that agree is refused, and the database can be opened as before.
#[tokio::test]
async fn unique_index_over_doubles_is_refused() {
    let rows = Arc::default();
    let without = schema(Vec::new(), 1);
    let open = |rows: &Arc<MemoryDatabase>| {
        KeyValueBackend::new(scripted(rows, true).1, OpenAs::SameGeneration)
    };
    let backend = open(&rows);
    backend.open(&without).await.unwrap();
    for id in [1, 2] {
        one(&backend, put(id, "tea")).await.unwrap();
    }
    let error = open(&rows).open(&schema(vec![by_name()], 2)).await.unwrap_err();
    assert_eq!(error.kind(), BackendErrorKind::Misuse);
    open(&rows).open(&without).await.unwrap();
}

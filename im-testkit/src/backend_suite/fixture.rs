//! The schema of the suite, and short ways to say what the cases need.

use std::sync::Arc;

use bytes::Bytes;
use im_core::backend::{
    Answer, Applied, Backend, BackendResult, Change, ChangeRecord, Column, Commit, Datum, Expect,
    FeedPosition, Found, Guard, GuardAct, Index, LogAct, LogChange, LogRead, LogTable, Range, Read,
    Row, Schema, Sends, Table, TableId, Type, Way,
};
use im_core::ports::Durability;
use im_core::wire::{Content, Limits, Value};

use super::BackendFactory;

/// Guarded records with a place in the change feed: id; name (unique), kind, rank, revision, place.
pub(super) const ROOMS: TableId = TableId(0);
/// Plain records: owner, slot; number, label, data, value.
pub(super) const ITEMS: TableId = TableId(1);
/// Guarded records that revive: name; value, revision.
pub(super) const LIVES: TableId = TableId(2);
/// All tables.
pub(super) const TABLES: [TableId; 3] = [ROOMS, ITEMS, LIVES];

/// The index of [`ROOMS`] by name.
pub(super) const BY_NAME: usize = 0;
/// The index of [`ROOMS`] by kind and rank.
pub(super) const BY_KIND: usize = 1;
/// The index of [`ITEMS`] by number.
pub(super) const BY_NUMBER: usize = 0;

/// The columns that the backend fills in [`ROOMS`].
pub(super) const ROOM_REV: usize = 4;
pub(super) const ROOM_CHANGED: usize = 5;
/// The revision in [`LIVES`].
pub(super) const LIFE_REV: usize = 2;
/// The content of an entry.
pub(super) const CONTENT: usize = 8;

fn rooms() -> Table {
    Table {
        name: "suite_rooms",
        version: 1,
        doc: "Guarded records of the suite.",
        columns: vec![
            Column::new("id", Type::Int, "The key."),
            Column::new("name", Type::Text(64), "Unique."),
            Column::new("kind", Type::Text(16), "Indexed with the rank."),
            Column::new("rank", Type::Int, "Indexed behind the kind."),
            Column::new("rev", Type::Revision, "The revision."),
            Column::new("changed", Type::Changed, "The place in the change feed."),
        ],
        key: 1,
        indexes: vec![
            Index { name: "by_name", columns: vec![1], unique: true },
            Index { name: "by_kind", columns: vec![2, 3], unique: false },
        ],
        revives: false,
    }
}

fn items() -> Table {
    Table {
        name: "suite_items",
        version: 1,
        doc: "Plain records of the suite.",
        columns: vec![
            Column::new("owner", Type::Text(512), "The first part of the key."),
            Column::new("slot", Type::Int, "The second part of the key."),
            Column::new("number", Type::Int, "Indexed."),
            Column::nullable("label", Type::Text(40), "A short text."),
            Column::nullable("data", Type::Bytes, "Bytes."),
            Column::nullable("value", Type::Json, "A value."),
        ],
        key: 2,
        indexes: vec![Index { name: "by_number", columns: vec![2], unique: false }],
        revives: false,
    }
}

fn lives() -> Table {
    Table {
        name: "suite_lives",
        version: 1,
        doc: "Guarded records of the suite that may come again.",
        columns: vec![
            Column::new("name", Type::Text(64), "The key."),
            Column::new("value", Type::Int, "A number."),
            Column::new("rev", Type::Revision, "The revision."),
        ],
        key: 1,
        indexes: Vec::new(),
        revives: true,
    }
}

fn log_table() -> LogTable {
    let table = Table {
        name: "suite_log",
        version: 1,
        doc: "The logs of the suite.",
        columns: vec![
            Column::new("log", Type::Int, "The log."),
            Column::new("seq", Type::Int, "The seq."),
            Column::new("sender", Type::Text(64), "The sender."),
            Column::nullable("message_id", Type::Text(64), "The message id."),
            Column::new("sent_at", Type::Int, "Outlives the entry."),
            Column::nullable("hash", Type::Bytes, "Outlives the entry."),
            Column::new("bytes", Type::Int, "How many bytes the entry counts."),
            Column::new("kind", Type::Text(32), "A header."),
            Column::nullable("content", Type::Json, "What was written.").content(),
        ],
        key: 2,
        indexes: Vec::new(),
        revives: false,
    };
    LogTable { table, unique: [2, 3], outlives: vec![4, 5], size: 6 }
}

/// Everything that the suite declares.
pub(super) fn schema() -> Schema {
    Schema { log: log_table(), tables: vec![rooms(), items(), lives()] }
}

pub(super) fn int(int: i64) -> Datum {
    Datum::Int(int)
}

pub(super) fn text(text: &str) -> Datum {
    Datum::from(text)
}

pub(super) fn bytes(bytes: &[u8]) -> Datum {
    Datum::Bytes(Bytes::copy_from_slice(bytes))
}

/// A value as a column of type `Json` holds it.
pub(super) fn json(value: &Value) -> Datum {
    Datum::Bytes(Content::new(value, &Limits::default()).unwrap().packed().clone())
}

/// A record of [`ROOMS`], without what the backend fills in.
pub(super) fn room(id: i64, name: &str, kind: &str, rank: i64) -> Row {
    vec![int(id), text(name), text(kind), int(rank), Datum::Null, Datum::Null]
}

/// A record of [`ITEMS`] with a number alone.
pub(super) fn item(owner: &str, slot: i64, number: i64) -> Row {
    vec![text(owner), int(slot), int(number), Datum::Null, Datum::Null, Datum::Null]
}

/// A record of [`LIVES`], without what the backend fills in.
pub(super) fn life(name: &str, value: i64) -> Row {
    vec![text(name), int(value), Datum::Null]
}

/// An entry of a log with a content of one text. It counts ten bytes.
pub(super) fn entry(log: i64, seq: i64, sender: &str, id: Option<&str>) -> Row {
    let content = json(&Value::from(format!("{sender} says {seq}")));
    let (hash, kind) = (bytes(&seq.to_be_bytes()), text("message"));
    let at = int(1_000 + seq % 1_000);
    vec![int(log), int(seq), text(sender), id.into(), at, hash, int(10), kind, content]
}

/// The send that an entry is remembered as.
pub(super) fn send_of(entry: &Row) -> Row {
    [2, 3, 1, 4, 5].iter().map(|column| entry[*column].clone()).collect()
}

pub(super) fn put(table: TableId, row: Row) -> Change {
    Change::Put { table, row }
}

pub(super) fn remove(table: TableId, key: Row) -> Change {
    Change::Remove { table, key }
}

pub(super) fn guard(table: TableId, key: Datum, expect: Expect, act: GuardAct) -> Guard {
    Guard { table, key: vec![key], expect, act }
}

/// A guard on a record that is not there, which the commit makes.
pub(super) fn absent(table: TableId, key: impl Into<Datum>) -> Guard {
    guard(table, key.into(), Expect::Absent, GuardAct::Bump)
}

/// A guard on a record of this revision, which the commit bumps.
pub(super) fn bump(table: TableId, key: impl Into<Datum>, revision: i64) -> Guard {
    guard(table, key.into(), Expect::Revision(revision), GuardAct::Bump)
}

/// A guard on a record of this revision, which stays.
pub(super) fn check(table: TableId, key: impl Into<Datum>, revision: i64) -> Guard {
    guard(table, key.into(), Expect::Revision(revision), GuardAct::Check)
}

/// A commit of these changes.
pub(super) fn changing(changes: Vec<Change>) -> Commit {
    Commit { changes, ..Commit::default() }
}

/// A commit that changes a log.
pub(super) fn logging(log: i64, act: LogAct) -> Commit {
    Commit { log: Some(LogChange { log, act }), ..Commit::default() }
}

/// A commit that appends these entries, at least one.
pub(super) fn appending(entries: Vec<Row>) -> Commit {
    logging(entries[0][0].as_int().unwrap(), LogAct::Append(entries))
}

/// A whole log, forwards.
pub(super) fn whole(log: i64) -> LogRead {
    let (from, to) = (i64::MIN, i64::MAX);
    let (limit, max_bytes) = (usize::MAX, usize::MAX);
    LogRead { log, from, to, way: Way::Forwards, limit, max_bytes, headers: false }
}

/// All sends of a log.
pub(super) fn all_sends(log: i64) -> Sends {
    Sends { log, sender: None, after: None, limit: usize::MAX }
}

/// An open backend.
pub(super) struct Db(pub(super) Arc<dyn Backend>);

impl Db {
    /// An empty one.
    pub(super) async fn new<F: BackendFactory>(factory: &F) -> Self {
        let backend = factory.create().await;
        backend.open(&schema()).await.expect("an empty database takes the schema");
        Self(backend)
    }

    /// Closes it and opens it again. `None`: it is volatile.
    pub(super) async fn reopened<F: BackendFactory>(self, factory: &F) -> Option<Self> {
        let again = closed_and_back(self.0, factory).await?;
        again.open(&schema()).await.expect("the database takes the same schema again");
        Some(Self(again))
    }

    /// Makes one commit.
    pub(super) async fn commit(&self, commit: Commit) -> BackendResult<Answer> {
        let mut answers = self.0.commit(vec![commit]).await;
        assert_eq!(answers.len(), 1, "one commit has one answer");
        answers.remove(0)
    }

    /// Makes one commit that must be applied.
    pub(super) async fn apply(&self, commit: Commit) -> Applied {
        match self.commit(commit.clone()).await {
            Ok(Answer::Applied(applied)) => applied,
            other => panic!("{commit:?} was to be applied, not {other:?}"),
        }
    }

    /// Makes commits in one batch, none of which may fail.
    pub(super) async fn batch(&self, commits: Vec<Commit>) -> Vec<Answer> {
        let count = commits.len();
        let answers = self.0.commit(commits).await;
        assert_eq!(answers.len(), count, "each commit has one answer");
        answers.into_iter().map(|answer| answer.expect("no commit fails")).collect()
    }

    /// Puts records.
    pub(super) async fn put(&self, table: TableId, rows: impl IntoIterator<Item = Row>) {
        self.apply(changing(rows.into_iter().map(|row| put(table, row)).collect())).await;
    }

    pub(super) async fn read(&self, reads: Vec<Read>) -> Vec<Found> {
        let found = self.0.read(reads.clone()).await.expect("the backend reads");
        assert_eq!(found.len(), reads.len(), "each question has one answer");
        reads.iter().zip(found).map(|(read, found)| comparable(read, found)).collect()
    }

    async fn one(&self, read: Read) -> Found {
        self.read(vec![read]).await.remove(0)
    }

    pub(super) async fn get(&self, table: TableId, key: Row) -> Option<Row> {
        record(self.one(Read::Get { table, key }).await)
    }

    pub(super) async fn range(&self, range: Range) -> Vec<Row> {
        records(self.one(Read::Range(range)).await)
    }

    /// All records of a table.
    pub(super) async fn all(&self, table: TableId) -> Vec<Row> {
        self.range(Range::of(table, Vec::new())).await
    }

    pub(super) async fn log(&self, read: LogRead) -> Vec<Row> {
        records(self.one(Read::Log(read)).await)
    }

    pub(super) async fn send(&self, log: i64, sender: &str, id: &str) -> Option<Row> {
        record(self.one(Read::Send { log, sender: text(sender), id: text(id) }).await)
    }

    pub(super) async fn sends(&self, sends: Sends) -> Vec<Row> {
        records(self.one(Read::Sends(sends)).await)
    }

    pub(super) async fn changes(&self, after: FeedPosition, limit: usize) -> Vec<ChangeRecord> {
        match self.one(Read::Changes { after, limit }).await {
            Found::Changes(changes) => changes,
            other => panic!("change records were expected, not {other:?}"),
        }
    }

    /// Everything that the suite may have written, to see that it has not changed.
    pub(super) async fn everything(&self) -> Vec<Found> {
        let mut reads = Vec::new();
        for (id, table) in TABLES.into_iter().zip(schema().tables) {
            reads.push(Read::Range(Range::of(id, Vec::new())));
            let by = |index| Read::Range(Range::of(id, Vec::new()).by(index));
            reads.extend((0..table.indexes.len()).map(by));
        }
        for log in 1..4 {
            reads.extend([Read::Log(whole(log)), Read::Sends(all_sends(log))]);
        }
        reads.push(Read::Changes { after: FeedPosition::default(), limit: 10_000 });
        self.read(reads).await
    }
}

/// Closes a backend and makes another one on the same database. `None`: it is volatile.
pub(super) async fn closed_and_back<F: BackendFactory>(
    backend: Arc<dyn Backend>,
    factory: &F,
) -> Option<Arc<dyn Backend>> {
    let volatile = backend.info().durability == Durability::Volatile;
    backend.close().await.expect("the backend closes");
    let again = factory.reopen(backend).await;
    assert_eq!(again.is_none(), volatile, "a backend can be opened again unless it is volatile");
    again
}

pub(super) fn record(found: Found) -> Option<Row> {
    match found {
        Found::Record(record) => record,
        other => panic!("a record was expected, not {other:?}"),
    }
}

pub(super) fn records(found: Found) -> Vec<Row> {
    match found {
        Found::Records(records) => records,
        other => panic!("records were expected, not {other:?}"),
    }
}

/// An answer whose values of type `Json` are packed as [`json`] packs them.
fn comparable(read: &Read, found: Found) -> Found {
    let column = match read {
        Read::Get { table, .. } | Read::Find { table, .. } if *table == ITEMS => 5,
        Read::Range(range) if range.table == ITEMS => 5,
        Read::Log(_) => CONTENT,
        _ => return found,
    };
    let repacked = |mut row: Row| {
        if let Datum::Bytes(bytes) = &row[column] {
            let content = Content::from_packed(bytes.clone()).expect("a value of type `Json`");
            row[column] = json(&content.value());
        }
        row
    };
    match found {
        Found::Record(row) => Found::Record(row.map(repacked)),
        Found::Records(rows) => Found::Records(rows.into_iter().map(repacked).collect()),
        changes @ Found::Changes(_) => changes,
    }
}

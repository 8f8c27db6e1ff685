//! What breaks the contract is refused with words, and changes nothing.

use im_core::backend::{
    BackendErrorKind, Change, Commit, Datum, Guard, LogAct, Range, Read, Row, TableId,
};

use super::BackendFactory;
use super::fixture::*;

async fn lived_in<F: BackendFactory>(factory: &F) -> Db {
    let db = Db::new(factory).await;
    db.put(ITEMS, [item("a", 1, 1)]).await;
    db.put(ROOMS, [room(1, "tea", "group", 1)]).await;
    db.put(LIVES, [life("a", 1)]).await;
    db.apply(appending(vec![entry(1, 1, "ann", Some("id"))])).await;
    db
}

/// Each is refused, alone and among others, with words; nothing of it is written.
async fn refused(db: &Db, commits: Vec<Commit>) {
    for (at, mut commit) in commits.into_iter().enumerate() {
        // What stands before the misuse is not to stay.
        commit.changes.insert(0, put(ITEMS, item("misuse", at as i64, 1)));
        let before = db.everything().await;
        let error = db.commit(commit.clone()).await.expect_err(&format!("refused: {commit:?}"));
        assert_eq!(error.kind(), BackendErrorKind::Misuse, "{error}");
        assert!(error.to_string().len() > 10, "{error}");
        assert_eq!(db.everything().await, before, "{commit:?}");
        let other = |n| changing(vec![put(ITEMS, item("other", n, at as i64))]);
        let answers = db.0.commit(vec![other(1), commit.clone(), other(2)]).await;
        let made: Vec<bool> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(made, [true, false, true], "{commit:?}");
    }
    assert!(db.range(Range::of(ITEMS, vec![text("misuse")])).await.is_empty());
}

async fn unanswered(db: &Db, reads: Vec<Read>) {
    for read in reads {
        let good = Read::Get { table: ITEMS, key: vec![text("a"), int(1)] };
        let answer = db.0.read(vec![good, read.clone()]).await;
        let error = answer.expect_err(&format!("refused: {read:?}"));
        assert_eq!(error.kind(), BackendErrorKind::Misuse, "{error}");
    }
}

fn range_removal(table: TableId, prefix: Row, from: Option<Row>) -> Commit {
    changing(vec![Change::RemoveRange { table, prefix, from, to: None }])
}

fn newer(row: Row, by: Vec<usize>) -> Commit {
    changing(vec![Change::PutIfNewer { table: ITEMS, row, by }])
}

/// Tables, indexes and columns that were not declared.
pub async fn undeclared_names_are_refused<F: BackendFactory>(factory: &F) {
    let (db, none) = (lived_in(factory).await, TableId(3));
    let commits = vec![
        changing(vec![put(none, life("a", 1))]),
        changing(vec![remove(TableId(u16::MAX), vec![text("a")])]),
        range_removal(none, Vec::new(), None),
        newer(item("a", 1, 9), vec![99]),
        Commit { guards: vec![check(none, "a", 1)], ..Commit::default() },
    ];
    refused(&db, commits).await;
    let reads = vec![
        Read::Get { table: none, key: vec![int(1)] },
        Read::Range(Range::of(none, Vec::new())),
        Read::Range(Range::of(ITEMS, Vec::new()).by(1)),
        Read::Find { table: ROOMS, index: 2, values: vec![text("tea")] },
        Read::Find { table: ROOMS, index: BY_NAME, values: Vec::new() },
    ];
    unanswered(&db, reads).await;
}

/// Rows and keys with columns too few or too many.
pub async fn rows_of_wrong_length_are_refused<F: BackendFactory>(factory: &F) {
    let db = lived_in(factory).await;
    let mut long = item("b", 1, 1);
    long.push(int(1));
    let short = item("b", 1, 1)[..5].to_vec();
    let key = || vec![text("a")];
    let commits = vec![
        changing(vec![put(ITEMS, short.clone())]),
        changing(vec![put(ITEMS, long)]),
        changing(vec![put(ITEMS, Vec::new())]),
        newer(short, vec![2]),
        changing(vec![remove(ITEMS, key())]),
        changing(vec![remove(LIVES, vec![text("a"), int(1)])]),
        range_removal(ITEMS, vec![text("a"), int(1), int(1)], None),
        range_removal(ITEMS, key(), Some(vec![int(1), int(1)])),
        appending(vec![entry(1, 2, "ann", None)[..8].to_vec()]),
        logging(1, LogAct::Replace(vec![entry(1, 1, "ann", None)[..8].to_vec()])),
        Commit {
            guards: vec![Guard { key: Vec::new(), ..check(LIVES, "a", 1) }],
            ..Commit::default()
        },
    ];
    refused(&db, commits).await;
    let reads = vec![
        Read::Get { table: ITEMS, key: key() },
        Read::Get { table: ITEMS, key: Vec::new() },
        Read::Range(Range::of(ITEMS, vec![text("a"), int(1), int(1)])),
        Read::Range(Range::of(ITEMS, key()).after(vec![int(1), int(1)])),
        Read::Range(Range::of(LIVES, Vec::new()).before(vec![text("a"), int(1)])),
    ];
    unanswered(&db, reads).await;
}

/// Values that their column does not take: another type, `Null`, too long.
pub async fn values_that_misfit_are_refused<F: BackendFactory>(factory: &F) {
    let db = lived_in(factory).await;
    let with = |column: usize, value: Datum| {
        let mut row = item("b", 1, 1);
        row[column] = value;
        changing(vec![put(ITEMS, row)])
    };
    let entry_with = |column: usize, value: Datum| {
        let mut row = entry(1, 2, "ann", Some("new"));
        row[column] = value;
        appending(vec![row])
    };
    let commits = vec![
        with(0, int(1)),
        with(0, Datum::Null),
        with(0, text(&"x".repeat(513))),
        with(1, text("1")),
        with(1, Datum::Null),
        with(2, bytes(b"1")),
        with(2, Datum::Null),
        with(3, int(1)),
        with(3, text(&"x".repeat(41))),
        with(3, text(&("é".repeat(20) + "x"))),
        with(3, text("a\0b")),
        with(4, text("bytes")),
        with(5, text("{}")),
        changing(vec![remove(ITEMS, vec![int(1), int(1)])]),
        range_removal(ITEMS, vec![int(1)], None),
        range_removal(ITEMS, vec![text("a")], Some(vec![text("1")])),
        entry_with(1, text("2")),
        entry_with(2, Datum::Null),
        entry_with(3, int(7)),
        entry_with(6, Datum::Null),
        entry_with(8, text("content")),
        Commit { guards: vec![check(LIVES, 1, 1)], ..Commit::default() },
    ];
    refused(&db, commits).await;
    let reads = vec![
        Read::Get { table: ITEMS, key: vec![int(1), int(1)] },
        Read::Get { table: LIVES, key: vec![Datum::Null] },
        Read::Range(Range::of(ITEMS, vec![int(1)])),
        Read::Range(Range::of(ITEMS, vec![text("a")]).after(vec![text("1")])),
    ];
    unanswered(&db, reads).await;
}

/// Guards on a table without revisions, and more than eight.
pub async fn misused_guards_are_refused<F: BackendFactory>(factory: &F) {
    let db = lived_in(factory).await;
    let key = vec![text("a"), int(1)];
    let unguarded = Guard { key, ..check(ITEMS, "a", 1) };
    let names: Vec<String> = (0..9).map(|n| format!("n {n}")).collect();
    let nine: Vec<Guard> = names.iter().map(|name| absent(LIVES, name.as_str())).collect();
    let commits = vec![
        Commit { guards: vec![unguarded], ..Commit::default() },
        Commit { guards: nine, ..Commit::default() },
    ];
    refused(&db, commits).await;
}

/// Entries of another log than the commit's.
pub async fn entry_of_another_log_is_refused<F: BackendFactory>(factory: &F) {
    let db = lived_in(factory).await;
    let mixed = || vec![entry(1, 2, "ann", None), entry(2, 1, "ann", None)];
    let commits = vec![
        logging(1, LogAct::Append(mixed())),
        logging(2, LogAct::Append(mixed())),
        logging(1, LogAct::Replace(vec![entry(2, 1, "ann", None)])),
    ];
    refused(&db, commits).await;
}

/// A read or commit before the backend was opened.
pub async fn unopened_backend_is_refused<F: BackendFactory>(factory: &F) {
    let backend = factory.create().await;
    let read = Read::Get { table: LIVES, key: vec![text("a")] };
    assert!(backend.read(vec![read]).await.is_err());
    let answers = backend.commit(vec![changing(vec![put(LIVES, life("a", 1))])]).await;
    assert!(matches!(&answers[..], [Err(_)]), "{answers:?}");
    backend.open(&schema()).await.expect("it can be opened all the same");
    assert!(Db(backend).all(LIVES).await.is_empty());
}

//! Opening, closing, opening again; declarations that grow, and those that are refused.

use std::sync::Arc;

use im_core::backend::{
    Backend, BackendErrorKind, Column, Commit, Datum, Index, Range, Read, Schema, Type,
};

use super::BackendFactory;
use super::fixture::*;

/// A little of everything.
async fn lived_in(db: &Db) {
    db.put(ROOMS, [room(1, "tea", "group", 1), room(2, "cake", "group", 2)]).await;
    db.put(ITEMS, (0..50).map(|n| item("a", n, n % 7))).await;
    db.put(LIVES, [life("a", 1), life("gone", 2)]).await;
    db.apply(changing(vec![remove(LIVES, vec![text("gone")])])).await;
    let touched = vec![vec![text("room"), int(1)]];
    let guards = vec![bump(ROOMS, 1, 1)];
    let rows = (1..5).map(|seq| entry(1, seq, "ann", Some(&format!("id {seq}")))).collect();
    db.apply(Commit { touched, guards, ..appending(rows) }).await;
    db.apply(logging(1, im_core::backend::LogAct::Trim { from: 1, to: 2 })).await;
}

/// A reopened backend has everything, revisions of removed records included.
pub async fn reopened_backend_has_everything<F: BackendFactory>(factory: &F) {
    let mut db = Db::new(factory).await;
    lived_in(&db).await;
    let everything = db.everything().await;
    for _ in 0..2 {
        let Some(again) = db.reopened(factory).await else { return };
        assert_eq!(again.everything().await, everything);
        db = again;
    }
    db.put(LIVES, [life("gone", 3)]).await;
    let record = db.get(LIVES, vec![text("gone")]).await.expect("it is there");
    assert!(record[LIFE_REV] > int(1), "{record:?}");
}

/// The last commit before a clean end is there, whatever it was.
pub async fn last_commit_survives_reopen<F: BackendFactory>(factory: &F) {
    let mut db = Db::new(factory).await;
    for n in 1..=4 {
        let guards = vec![if n == 1 { absent(LIVES, "a") } else { bump(LIVES, "a", n - 1) }];
        let changes = vec![put(LIVES, life("a", n))];
        let entry = entry(1, n, "ann", Some(&format!("id {n}")));
        db.apply(Commit { guards, changes, ..appending(vec![entry]) }).await;
        let Some(again) = db.reopened(factory).await else { return };
        db = again;
        assert_eq!(db.all(LIVES).await, [vec![text("a"), int(n), int(n)]]);
        assert_eq!(db.log(whole(1)).await.len(), n as usize);
    }
}

/// A database keeps its generation, and another database has another one.
pub async fn generation_belongs_to_the_database<F: BackendFactory>(factory: &F) {
    let first = factory.create().await;
    let one = first.open(&schema()).await.unwrap();
    assert!(one < 1 << 53, "{one}");
    let again = closed_and_back(first, factory).await;
    if let Some(again) = again {
        assert_eq!(again.open(&schema()).await.unwrap(), one);
        again.close().await.unwrap();
    }
    let other = factory.create().await;
    assert_ne!(other.open(&schema()).await.unwrap(), one);
}

/// A closed backend refuses every call.
pub async fn closed_backend_refuses_everything<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    lived_in(&db).await;
    db.0.close().await.expect("the backend closes");
    let read = db.0.read(vec![Read::Range(Range::of(ITEMS, Vec::new()))]).await;
    assert_eq!(read.unwrap_err().kind(), BackendErrorKind::Closed);
    let commits = vec![changing(vec![put(ITEMS, item("a", 1, 1))]); 2];
    let answers = db.0.commit(commits).await;
    assert_eq!(answers.len(), 2);
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), BackendErrorKind::Closed);
    }
}

/// Closing again does nothing.
pub async fn closing_twice_is_fine<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.0.close().await.unwrap();
    db.0.close().await.unwrap();
}

/// Commits under way when the backend is closed are made, or fail as closed; those that were answered stay.
pub async fn answered_commits_survive_closing<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let tasks = (0..4_i64).map(|task| {
        let db = Db(Arc::clone(&db.0));
        tokio::spawn(async move {
            for n in 0.. {
                match db.commit(changing(vec![put(ITEMS, item("a", task * 10_000 + n, n))])).await {
                    Ok(_) => tokio::task::yield_now().await,
                    Err(error) => {
                        assert_eq!(error.kind(), BackendErrorKind::Closed, "{error}");
                        return n;
                    }
                }
            }
            unreachable!("it is closed in time")
        })
    });
    let tasks: Vec<_> = tasks.collect();
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    db.0.close().await.unwrap();
    let mut answered = 0;
    for task in tasks {
        answered += task.await.unwrap();
    }
    let again = factory.reopen(db.0).await;
    let Some(again) = again else { return };
    again.open(&schema()).await.unwrap();
    assert_eq!(Db(again).all(ITEMS).await.len() as i64, answered);
}

/// The schema with one table changed.
fn altered(change: impl FnOnce(&mut im_core::backend::Table)) -> Schema {
    let mut schema = schema();
    change(&mut schema.tables[usize::from(ITEMS.0)]);
    schema
}

/// A later version of the items, with two columns and an index on one of them.
fn grown() -> Schema {
    altered(|items| {
        items.version = 2;
        items.columns.push(Column::new("extra", Type::Int, "Added later."));
        items.columns.push(Column::new("word", Type::Text(20), "Added later."));
        items.columns.push(Column::nullable("perhaps", Type::Text(20), "Added later."));
        items.indexes.push(Index { name: "by_extra", columns: vec![6, 0], unique: false });
        items.indexes.push(Index { name: "by_slot", columns: vec![1], unique: false });
    })
}

/// Added columns are 0, empty or `Null` in the records that were there.
pub async fn added_columns_are_filled<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    lived_in(&db).await;
    let Some(backend) = closed_and_back(db.0, factory).await else { return };
    backend.open(&grown()).await.expect("a schema may grow");
    let db = Db(backend);
    let rows = db.all(ITEMS).await;
    assert_eq!(rows.len(), 50);
    for row in &rows {
        assert_eq!(row[6..], [int(0), text(""), Datum::Null]);
    }
    let mut row = rows[3].clone();
    (row[6], row[7], row[8]) = (int(5), text("five"), text("maybe"));
    db.put(ITEMS, [row.clone()]).await;
    assert_eq!(db.get(ITEMS, row[..2].to_vec()).await, Some(row));
}

/// Added indexes have the records that were there, more than fit in one step.
pub async fn added_indexes_are_filled<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for part in 0..5 {
        db.put(ITEMS, (0..500).map(|n| item(&format!("owner {part}"), n, n))).await;
    }
    let Some(backend) = closed_and_back(db.0, factory).await else { return };
    backend.open(&grown()).await.expect("a schema may grow");
    let mut db = Db(backend);
    for _ in 0..2 {
        for (index, prefix) in [(1, vec![int(0)]), (2, Vec::new())] {
            let all = db.range(Range::of(ITEMS, prefix).by(index)).await;
            assert_eq!(all.len(), 2_500, "the index {index} has every record");
        }
        let slot = db.range(Range::of(ITEMS, vec![int(77)]).by(2)).await;
        assert_eq!(slot.len(), 5);
        let Some(again) = closed_and_back(db.0, factory).await else { return };
        again.open(&grown()).await.expect("the grown schema stays");
        db = Db(again);
    }
}

/// A table that is declared later is empty, and the others stay as they are.
pub async fn added_table_begins_empty<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    lived_in(&db).await;
    let before = db.everything().await;
    let Some(backend) = closed_and_back(db.0, factory).await else { return };
    let mut more = schema();
    let mut table = more.tables[usize::from(LIVES.0)].clone();
    table.name = "suite_more";
    more.tables.push(table);
    backend.open(&more).await.expect("a schema may grow");
    let (db, added) = (Db(backend), im_core::backend::TableId(3));
    assert_eq!(db.everything().await, before);
    assert!(db.all(added).await.is_empty());
    db.put(added, [life("a", 5)]).await;
    assert_eq!(db.all(added).await.len(), 1);
    assert_eq!(db.everything().await, before);
}

/// Refused by an empty database, with words.
async fn refused(backend: &Arc<dyn Backend>, schema: &Schema) {
    let error = backend.open(schema).await.expect_err("the schema is refused");
    assert_eq!(error.kind(), BackendErrorKind::Misuse, "{error}");
    assert!(error.to_string().len() > 10, "{error}");
}

/// A schema that breaks a rule of declarations is refused.
pub async fn broken_schema_is_refused<F: BackendFactory>(factory: &F) {
    let twice = || {
        let mut schema = schema();
        schema.tables.push(schema.tables[0].clone());
        schema
    };
    let as_log = || {
        let mut schema = schema();
        schema.tables[0].name = schema.log.table.name;
        schema
    };
    let log = |change: fn(&mut im_core::backend::LogTable)| {
        let mut schema = schema();
        change(&mut schema.log);
        schema
    };
    let broken = [
        twice(),
        as_log(),
        altered(|items| items.key = 0),
        altered(|items| items.key = 7),
        altered(|items| items.key = 4),
        altered(|items| items.columns[2].name = "slot"),
        altered(|items| items.columns[2].name = "Not A Name"),
        altered(|items| items.name = "a_name_that_is_longer_than_thirty"),
        altered(|items| items.columns[0].nullable = true),
        altered(|items| items.columns[0].ty = Type::Text(513)),
        altered(|items| items.indexes[0].columns = vec![4]),
        altered(|items| items.indexes[0].columns = vec![99]),
        altered(|items| items.indexes[0].columns.clear()),
        altered(|items| items.indexes.push(items.indexes[0].clone())),
        altered(|items| {
            items.columns.extend(["r", "s"].map(|n| Column::new(n, Type::Revision, "")))
        }),
        log(|log| log.table.key = 1),
        log(|log| log.table.columns[1].ty = Type::Text(9)),
        log(|log| log.unique = [2, 99]),
        log(|log| log.outlives.push(99)),
        log(|log| log.size = 99),
        log(|log| log.size = 7),
    ];
    for schema in broken {
        let backend = factory.create().await;
        refused(&backend, &schema).await;
        backend.close().await.unwrap();
    }
}

/// A declaration that lost or changed something, or is older than the database's, is refused and changes nothing.
pub async fn incompatible_schema_is_refused<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    lived_in(&db).await;
    let Some(backend) = closed_and_back(db.0, factory).await else { return };
    backend.open(&grown()).await.expect("a schema may grow");
    let mut db = Db(backend);
    let before = db.all(ITEMS).await;
    let on_grown = |change: fn(&mut im_core::backend::Table)| {
        let mut schema = grown();
        change(&mut schema.tables[usize::from(ITEMS.0)]);
        schema
    };
    let incompatible = [
        // A later version is in the database.
        schema(),
        on_grown(|items| items.version = 1),
        // Lost or changed under the same version, and under another one.
        on_grown(|items| {
            items.columns.pop();
        }),
        on_grown(|items| {
            items.version = 3;
            items.columns.pop();
        }),
        on_grown(|items| {
            items.version = 3;
            items.columns[7].name = "renamed";
        }),
        on_grown(|items| {
            items.version = 3;
            items.columns[2].ty = Type::Text(9);
            items.columns[2].nullable = false;
        }),
        on_grown(|items| {
            items.version = 3;
            items.columns[3].nullable = false;
        }),
        on_grown(|items| {
            items.version = 3;
            items.indexes.remove(0);
        }),
        on_grown(|items| {
            items.version = 3;
            items.key = 1;
        }),
        // Added without another version.
        on_grown(|items| items.columns.push(Column::new("more", Type::Int, ""))),
        on_grown(|items| {
            let columns = vec![6];
            items.indexes.push(Index { name: "by_more", columns, unique: false });
        }),
    ];
    for schema in incompatible {
        let Some(backend) = closed_and_back(db.0, factory).await else { return };
        refused(&backend, &schema).await;
        let Some(backend) = closed_and_back(backend, factory).await else { return };
        backend.open(&grown()).await.expect("the refused one has changed nothing");
        db = Db(backend);
        assert_eq!(db.all(ITEMS).await, before);
    }
}

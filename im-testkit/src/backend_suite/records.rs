//! Changes of records: put, put if newer, remove, remove a range; unique indexes.

use im_core::backend::{Answer, Change, Commit, Range, Read, Row};

use super::BackendFactory;
use super::fixture::*;

/// A put replaces the whole record.
pub async fn put_replaces_the_record<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut first = item("a", 1, 1);
    first[3] = text("label");
    db.put(ITEMS, [first.clone()]).await;
    assert_eq!(db.get(ITEMS, vec![text("a"), int(1)]).await, Some(first));
    db.put(ITEMS, [item("a", 1, 2)]).await;
    assert_eq!(db.all(ITEMS).await, [item("a", 1, 2)]);
}

/// A record without a guard begins with revision 1, and a put without a bump keeps its revision.
pub async fn unguarded_put_keeps_the_revision<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for value in 1..4 {
        // What the caller says of the revision is ignored.
        db.put(LIVES, [vec![text("a"), int(value), int(40)]]).await;
        let record = Some(vec![text("a"), int(value), int(1)]);
        assert_eq!(db.get(LIVES, vec![text("a")]).await, record);
    }
    let commit =
        Commit { guards: vec![check(LIVES, "a", 1)], ..changing(vec![put(LIVES, life("a", 9))]) };
    assert_eq!(db.apply(commit).await.revisions, [1]);
    assert_eq!(db.get(LIVES, vec![text("a")]).await, Some(vec![text("a"), int(9), int(1)]));
}

/// The changes of a commit are made in the order of their list.
pub async fn changes_apply_in_list_order<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let removal = || remove(ITEMS, vec![text("a"), int(1)]);
    let put = |number| put(ITEMS, item("a", 1, number));
    db.apply(changing(vec![put(1), removal(), put(2), put(3)])).await;
    assert_eq!(db.all(ITEMS).await, [item("a", 1, 3)]);
    assert_eq!(db.range(Range::of(ITEMS, vec![]).by(BY_NUMBER)).await, [item("a", 1, 3)]);
    db.apply(changing(vec![put(4), removal()])).await;
    assert!(db.all(ITEMS).await.is_empty());
    assert!(db.range(Range::of(ITEMS, vec![]).by(BY_NUMBER)).await.is_empty());
}

fn newer(row: Row, by: &[usize]) -> Commit {
    changing(vec![Change::PutIfNewer { table: ITEMS, row, by: by.to_vec() }])
}

/// Of put-if-newer the greatest record remains, in whatever order they come.
pub async fn only_newer_record_replaces_another<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut held = i64::MIN;
    for number in [3, 1, 3, 5, 4, -2, 5, 6, i64::MAX, i64::MIN] {
        let mut row = item("a", 1, number);
        row[4] = bytes(&number.to_be_bytes());
        db.apply(newer(row, &[2])).await;
        held = held.max(number);
        let record = db.get(ITEMS, vec![text("a"), int(1)]).await.expect("it is there");
        assert_eq!((&record[2], &record[4]), (&int(held), &bytes(&held.to_be_bytes())));
    }
}

/// Put-if-newer compares the columns in the order that it names them, `Null` first.
pub async fn newer_compares_columns_in_order<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let row = |number: i64, label: Option<&str>| {
        let mut row = item("a", 1, number);
        row[3] = label.into();
        row
    };
    let steps = [
        (row(1, None), true),
        (row(9, None), true),
        (row(2, Some("")), true),
        (row(3, Some("b")), true),
        (row(99, Some("a")), false),
        (row(3, Some("b")), false),
        (row(4, Some("b")), true),
        (row(99, None), false),
        (row(0, Some("é")), true),
    ];
    for (row, wins) in steps {
        db.apply(newer(row.clone(), &[3, 2])).await;
        let held = db.get(ITEMS, vec![text("a"), int(1)]).await;
        assert_eq!(held == Some(row.clone()), wins || held == Some(row), "{held:?}");
    }
    assert_eq!(db.all(ITEMS).await, [row(0, Some("é"))]);
    assert_eq!(db.range(Range::of(ITEMS, vec![]).by(BY_NUMBER)).await, [row(0, Some("é"))]);
}

/// Concurrent put-if-newer commits leave the newest.
pub async fn concurrent_newer_puts_leave_newest<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let tasks = (0..6_i64).map(|task| {
        let db = Db(db.0.clone());
        tokio::spawn(async move {
            for step in 0..20 {
                db.apply(newer(item("a", 1, (step * 7 + task * 13) % 101), &[2])).await;
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let greatest =
        (0..6).flat_map(|task| (0..20).map(move |step| (step * 7 + task * 13) % 101)).max();
    assert_eq!(db.all(ITEMS).await, [item("a", 1, greatest.expect("some"))]);
}

/// Removing a record takes it out of table and indexes; removing a missing one does nothing.
pub async fn removed_record_is_gone_everywhere<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(ROOMS, [room(1, "tea", "group", 1), room(2, "cake", "group", 2)]).await;
    for _ in 0..2 {
        db.apply(changing(vec![remove(ROOMS, vec![int(1)])])).await;
        let left = db.all(ROOMS).await;
        assert_eq!(left.len(), 1);
        assert_eq!(db.range(Range::of(ROOMS, vec![]).by(BY_NAME)).await, left);
        assert_eq!(db.range(Range::of(ROOMS, vec![text("group")]).by(BY_KIND)).await, left);
        assert_eq!(find(&db, "tea").await, None);
    }
}

async fn find(db: &Db, name: &str) -> Option<Row> {
    let find = Read::Find { table: ROOMS, index: BY_NAME, values: vec![text(name)] };
    record(db.read(vec![find]).await.remove(0))
}

/// The items that are left of owners a, b and c with slots 0 to 9 after a removal of a range.
async fn left_after<F: BackendFactory>(
    factory: &F,
    prefix: Row,
    from: Option<Row>,
    to: Option<Row>,
) -> Vec<(String, i64)> {
    let db = Db::new(factory).await;
    let of = |owner: &'static str| (0..10).map(move |slot| item(owner, slot, slot));
    db.put(ITEMS, ["a", "b", "c"].into_iter().flat_map(of)).await;
    db.apply(changing(vec![Change::RemoveRange { table: ITEMS, prefix, from, to }])).await;
    let left = db.all(ITEMS).await;
    assert_eq!(db.range(Range::of(ITEMS, vec![]).by(BY_NUMBER)).await.len(), left.len());
    db.0.close().await.expect("the backend closes");
    let key = |row: Row| (row[0].as_text().unwrap().to_string(), row[1].as_int().unwrap());
    left.into_iter().map(key).collect()
}

fn all_but(gone: impl Fn(&str, i64) -> bool) -> Vec<(String, i64)> {
    let all = ["a", "b", "c"].into_iter().flat_map(|owner| (0..10).map(move |slot| (owner, slot)));
    all.filter(|(owner, slot)| !gone(owner, *slot)).map(|(o, s)| (o.to_owned(), s)).collect()
}

/// A range is removed with both its bounds.
pub async fn removed_range_includes_its_bounds<F: BackendFactory>(factory: &F) {
    let (prefix, from, to) = (vec![text("b")], Some(vec![int(3)]), Some(vec![int(6)]));
    let left = left_after(factory, prefix, from, to).await;
    assert_eq!(left, all_but(|owner, slot| owner == "b" && (3..=6).contains(&slot)));
}

/// A range without a bound reaches to its end.
pub async fn removed_range_may_be_open<F: BackendFactory>(factory: &F) {
    let b = || vec![text("b")];
    let left = left_after(factory, b(), None, Some(vec![int(2)])).await;
    assert_eq!(left, all_but(|owner, slot| owner == "b" && slot <= 2));
    let left = left_after(factory, b(), Some(vec![int(7)]), None).await;
    assert_eq!(left, all_but(|owner, slot| owner == "b" && slot >= 7));
    let left = left_after(factory, b(), None, None).await;
    assert_eq!(left, all_but(|owner, _| owner == "b"));
    assert!(left_after(factory, Vec::new(), None, None).await.is_empty());
}

/// Bounds may name only the first columns behind the prefix, or all of them.
pub async fn removed_range_takes_partial_bounds<F: BackendFactory>(factory: &F) {
    let bounds = (Some(vec![text("a"), int(5)]), Some(vec![text("b")]));
    let left = left_after(factory, Vec::new(), bounds.0, bounds.1).await;
    assert_eq!(left, all_but(|owner, slot| (owner == "a" && slot >= 5) || owner == "b"));
}

/// A range whose bounds are the wrong way round, or which holds nothing, removes nothing.
pub async fn inverted_range_removes_nothing<F: BackendFactory>(factory: &F) {
    let (b, six, three) = (vec![text("b")], Some(vec![int(6)]), Some(vec![int(3)]));
    assert_eq!(left_after(factory, b, six, three).await, all_but(|_, _| false));
    let left = left_after(factory, vec![text("d")], None, None).await;
    assert_eq!(left, all_but(|_, _| false));
    let db = Db::new(factory).await;
    let (from, to) = (Some(vec![int(6)]), Some(vec![int(3)]));
    let removal = Change::RemoveRange { table: ITEMS, prefix: vec![text("a")], from, to };
    db.apply(changing(vec![put(ITEMS, item("a", 5, 5)), removal])).await;
    assert_eq!(db.all(ITEMS).await, [item("a", 5, 5)]);
}

/// A range removal sees what its commit, and those before it in the batch, have put.
pub async fn range_removal_sees_its_batch<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let all =
        || Change::RemoveRange { table: ITEMS, prefix: vec![text("a")], from: None, to: None };
    let put = |slot| put(ITEMS, item("a", slot, slot));
    db.batch(vec![changing(vec![put(1)]), changing(vec![put(2), all(), put(3)])]).await;
    assert_eq!(db.all(ITEMS).await, [item("a", 3, 3)]);
}

/// A second record with a unique value is a conflict that returns the first one.
pub async fn taken_unique_value_is_conflict<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(ROOMS, [room(1, "tea", "group", 1), room(2, "cake", "group", 2)]).await;
    let fresh = db.get(ROOMS, vec![int(1)]).await;
    let (insert, change) = (room(3, "tea", "direct", 3), room(2, "tea", "group", 2));
    for row in [insert, change] {
        let answer = db.commit(changing(vec![put(ROOMS, row)])).await.unwrap();
        assert_eq!(answer, Answer::Conflict { guard: None, fresh: fresh.clone() });
    }
    assert_eq!(find(&db, "tea").await, fresh);
    let names: Vec<_> = db.all(ROOMS).await.into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(names, [text("tea"), text("cake")]);
}

/// A unique value is taken within a batch too, and free once its record has left it.
pub async fn freed_unique_value_is_reusable<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let make = |id, name: &str| changing(vec![put(ROOMS, room(id, name, "group", id))]);
    let answers =
        db.batch(vec![make(1, "tea"), make(2, "tea"), make(1, "cake"), make(2, "tea")]).await;
    let applied: Vec<_> = answers.iter().map(|a| matches!(a, Answer::Applied(_))).collect();
    assert_eq!(applied, [true, false, true, true]);
    db.apply(changing(vec![
        remove(ROOMS, vec![int(1)]),
        put(ROOMS, room(3, "cake", "group", 3)),
        put(ROOMS, room(2, "tea", "other", 9)),
    ]))
    .await;
    assert_eq!(find(&db, "cake").await.expect("it is there")[0], int(3));
    assert_eq!(find(&db, "tea").await.expect("it is there")[2], text("other"));
    assert_eq!(find(&db, "coffee").await, None);
}

/// Concurrent makers of one unique value end with one record.
pub async fn concurrent_unique_puts_leave_one<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    assert_eq!(unique_race(vec![db.0.clone(); 6]).await, 10);
    assert_eq!(db.all(ROOMS).await.len(), 10);
}

/// Through each of these backends at once, puts rooms of ten names under ids of its own; returns how many were applied.
pub(super) async fn unique_race(
    backends: Vec<std::sync::Arc<dyn im_core::backend::Backend>>,
) -> usize {
    let tasks = backends.into_iter().enumerate().map(|(task, backend)| {
        tokio::spawn(async move {
            let (db, mut applied) = (Db(backend), 0);
            for n in 0..10_i64 {
                let row = room(task as i64 * 100 + n, &format!("name {n}"), "group", n);
                let answer = loop {
                    match db.commit(changing(vec![put(ROOMS, row.clone())])).await {
                        Err(error) if error.is_retryable() => {}
                        answer => break answer,
                    }
                };
                match answer {
                    Ok(Answer::Applied(_)) => applied += 1,
                    Ok(Answer::Conflict { guard: None, fresh: Some(_) }) => {}
                    other => panic!("neither applied nor taken: {other:?}"),
                }
            }
            applied
        })
    });
    let mut applied = 0;
    for task in tasks.collect::<Vec<_>>() {
        applied += task.await.unwrap();
    }
    applied
}

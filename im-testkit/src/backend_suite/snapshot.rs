//! A batch of reads is of one moment, also beside commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use im_core::backend::{Answer, Commit, Range, Read, Row};

use super::BackendFactory;
use super::fixture::*;

/// Runs `readers` beside a writer that makes the commits of its steps one after the other.
async fn beside<R>(db: &Db, steps: i64, commit: fn(i64) -> Commit, reader: fn(Db) -> R)
where
    R: Future<Output = ()> + Send + 'static,
{
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (backend, done) = (db.0.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::SeqCst) {
                    reader(Db(backend.clone())).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for step in 1..=steps {
        db.apply(commit(step)).await;
    }
    done.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

/// A read has every commit that was answered before it.
pub async fn read_sees_answered_commits<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let tasks = (0..4_i64).map(|task| {
        let db = Db(db.0.clone());
        tokio::spawn(async move {
            for n in 0..40 {
                db.put(ITEMS, [item("own", task, n)]).await;
                let read = db.get(ITEMS, vec![text("own"), int(task)]).await;
                assert_eq!(read, Some(item("own", task, n)));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

const TOTAL: i64 = 1_000;

fn moved(step: i64) -> Commit {
    let amount = step * 37 % TOTAL;
    changing(vec![put(LIVES, life("a", amount)), put(LIVES, life("b", TOTAL - amount))])
}

async fn sum_is_constant(db: Db) {
    let get = |name: &str| Read::Get { table: LIVES, key: vec![text(name)] };
    let range = Read::Range(Range::of(LIVES, Vec::new()));
    let mut found = db.read(vec![get("a"), range, get("b"), get("a")]).await.into_iter();
    let value = |row: &Row| row[1].as_int().unwrap();
    let mut next = || found.next().expect("an answer");
    let (a, all, b, again) = (record(next()), records(next()), record(next()), record(next()));
    let (a, b, again) = (a.expect("a"), b.expect("b"), again.expect("a"));
    assert_eq!(value(&a) + value(&b), TOTAL, "the moved amount is in one of them");
    assert_eq!((&all[0], &all[1], &again), (&a, &b, &a), "the batch is of one moment");
}

/// An amount that commits move between two records is never seen twice or not at all.
pub async fn moved_amount_is_seen_once<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(moved(0)).await;
    beside(&db, 150, moved, sum_is_constant).await;
}

fn counted(step: i64) -> Commit {
    Commit {
        guards: vec![if step == 1 {
            absent(LIVES, "count")
        } else {
            bump(LIVES, "count", step - 1)
        }],
        changes: vec![put(LIVES, life("count", step))],
        touched: vec![vec![int(step)]],
        ..appending(vec![entry(1, step, "ann", Some(&format!("id {step}")))])
    }
}

async fn entries_equal_the_count(db: Db) {
    let get = Read::Get { table: LIVES, key: vec![text("count")] };
    let changes = Read::Changes { after: Default::default(), limit: 10_000 };
    let sends = Read::Sends(all_sends(1));
    let found = db.read(vec![Read::Log(whole(1)), get, sends, changes]).await;
    let mut found = found.into_iter();
    let mut next = || found.next().expect("an answer");
    let (log, count, sends) = (records(next()), record(next()), records(next()));
    let count = count.map_or(0, |row| row[1].as_int().unwrap()) as usize;
    assert_eq!(
        (log.len(), sends.len()),
        (count, count),
        "entries and sends are as many as counted"
    );
    let im_core::backend::Found::Changes(changes) = next() else { panic!("no change records") };
    assert_eq!(changes.len(), count, "change records are as many as counted");
}

/// Log, sends, feed and a counter of one commit are seen together.
pub async fn entry_and_counter_are_seen_together<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    beside(&db, 150, counted, entries_equal_the_count).await;
}

const RECORDS: i64 = 400;

/// Moves one of 400 records' amounts from one end of the table to the other.
fn shifted(step: i64) -> Commit {
    let (from, to) = ((step - 1) % RECORDS, RECORDS - 1 - (step - 1) % RECORDS);
    let number = |slot: i64| if slot == to { 2 } else { i64::from(slot != from) };
    let back = |slot: i64| put(ITEMS, item("x", slot, 1));
    let before = (step - 2).rem_euclid(RECORDS);
    let mut changes = vec![back(before), back(RECORDS - 1 - before)];
    changes.extend([from, to].map(|slot| put(ITEMS, item("x", slot, number(slot)))));
    changing(changes)
}

async fn whole_range_is_of_one_moment(db: Db) {
    let all = Range::of(ITEMS, vec![text("x")]);
    let by = Range::of(ITEMS, Vec::new()).by(BY_NUMBER);
    let ways = vec![Read::Range(all.clone()), Read::Range(all.backwards()), Read::Range(by)];
    for rows in db.read(ways).await.into_iter().map(records) {
        assert_eq!(rows.len(), RECORDS as usize);
        let sum: i64 = rows.iter().map(|row| row[2].as_int().unwrap()).sum();
        assert_eq!(sum, RECORDS, "no record is seen before and another one after a commit");
    }
}

/// A long range is of one moment from its first record to its last.
pub async fn long_range_is_of_one_moment<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(ITEMS, (0..RECORDS).map(|slot| item("x", slot, 1))).await;
    beside(&db, 60, shifted, whole_range_is_of_one_moment).await;
}

fn renewed(step: i64) -> Commit {
    let (gone, new) = ((step - 1) % 2, step % 2);
    changing(vec![remove(ROOMS, vec![int(gone)]), put(ROOMS, room(new, "the one", "group", step))])
}

async fn one_record_has_the_name(db: Db) {
    let find = Read::Find { table: ROOMS, index: BY_NAME, values: vec![text("the one")] };
    let range = Read::Range(Range::of(ROOMS, Vec::new()));
    let mut found = db.read(vec![find, range]).await.into_iter();
    let one = record(found.next().expect("an answer")).expect("one record has the name");
    assert_eq!(records(found.next().expect("an answer")), [one]);
}

/// A unique value that passes from record to record is always found.
pub async fn passed_unique_value_is_found<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(ROOMS, [room(0, "the one", "group", 0)]).await;
    beside(&db, 120, renewed, one_record_has_the_name).await;
}

/// Commits of many tasks in batches leave what their answers say.
pub async fn concurrent_batches_answer_truly<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let tasks = (0..5_i64).map(|task| {
        let db = Db(db.0.clone());
        tokio::spawn(async move {
            let mut made = Vec::new();
            for n in 0..10_i64 {
                let id = |at: i64| (task * 3 + n + at) % 60;
                let commit = |at| Commit {
                    guards: vec![absent(ROOMS, id(at))],
                    ..changing(vec![put(ROOMS, room(id(at), &format!("{}", id(at)), "x", task))])
                };
                let answers = db.batch((0..3).map(commit).collect()).await;
                let applied = answers.iter().zip(0..);
                made.extend(
                    applied
                        .filter(|(a, _)| matches!(a, Answer::Applied(_)))
                        .map(|(_, at)| (id(at), task)),
                );
            }
            made
        })
    });
    let mut made = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        made.extend(task.await.unwrap());
    }
    made.sort_unstable();
    let rows = db.all(ROOMS).await;
    let held: Vec<_> =
        rows.iter().map(|r| (r[0].as_int().unwrap(), r[3].as_int().unwrap())).collect();
    assert_eq!(held, made);
}

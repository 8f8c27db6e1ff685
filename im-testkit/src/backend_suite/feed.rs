//! The change feed: nothing at or below a position that was read is missed.

use std::collections::BTreeSet;
use std::sync::Arc;

use im_core::backend::{
    Answer, Backend, ChangeRecord, Commit, Datum, FeedPlace, FeedPosition, Row,
};

use super::BackendFactory;
use super::fixture::*;

/// A commit that puts a room and touches it.
fn touching(id: i64, n: i64, revision: Option<i64>) -> Commit {
    let guard = revision.map_or(absent(ROOMS, id), |revision| bump(ROOMS, id, revision));
    Commit {
        guards: vec![guard],
        touched: vec![vec![text("room"), int(id), int(n)]],
        ..changing(vec![put(ROOMS, room(id, &format!("room {id}"), "group", n))])
    }
}

fn places(records: &[ChangeRecord]) -> Vec<FeedPlace> {
    records.iter().map(|record| record.place).collect()
}

/// A touching commit has a place beyond the one before, and its record says what it touched.
pub async fn places_grow_with_each_commit<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    assert!(db.changes(FeedPosition::default(), 10).await.is_empty());
    let mut made = Vec::new();
    for n in 1..=5 {
        let applied = db.apply(touching(1, n, (n > 1).then_some(n - 1))).await;
        made.push(applied.place.expect("it touched something"));
    }
    let records = db.changes(FeedPosition::default(), 10).await;
    assert_eq!(places(&records), made);
    assert!(made.iter().all(|place| place.tick > 0 && place.writer < 1_024));
    let touched: Vec<Row> = records.into_iter().flat_map(|record| record.touched).collect();
    let expected: Vec<Row> = (1..=5).map(|n| vec![text("room"), int(1), int(n)]).collect();
    assert_eq!(touched, expected);
}

/// What a commit touched comes back value by value, in its order.
pub async fn touched_rows_come_back_whole<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let rows = vec![
        vec![text("a"), int(i64::MIN), Datum::Null, bytes(&[0, 255])],
        vec![],
        vec![text(""), bytes(&[]), text("é"), int(i64::MAX)],
    ];
    db.apply(Commit { touched: rows.clone(), ..Commit::default() }).await;
    let records = db.changes(FeedPosition::default(), 10).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].touched, rows);
}

/// A commit that touches nothing, or is not applied, leaves no record.
pub async fn untouched_commit_leaves_no_record<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let quiet = db.apply(Commit { touched: Vec::new(), ..touching(1, 1, None) }).await;
    assert_eq!(quiet.place, None);
    for refused in [touching(1, 2, None), touching(2, 2, Some(5))] {
        assert!(matches!(db.commit(refused).await.unwrap(), Answer::Conflict { .. }));
    }
    assert!(db.changes(FeedPosition::default(), 10).await.is_empty());
}

/// Commits of one batch may share a place; their records hold what all of them touched.
pub async fn batch_leaves_all_it_touched<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let batch = vec![
        touching(1, 1, None),
        touching(1, 9, None),
        Commit { touched: Vec::new(), ..touching(2, 1, None) },
        touching(1, 2, Some(1)),
    ];
    let answers = db.batch(batch).await;
    let made: BTreeSet<FeedPlace> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Applied(applied) => applied.place,
            _ => None,
        })
        .collect();
    let records = db.changes(FeedPosition::default(), 10).await;
    assert_eq!(places(&records).into_iter().collect::<BTreeSet<_>>(), made);
    let touched: Vec<Row> = records.into_iter().flat_map(|record| record.touched).collect();
    assert_eq!(touched, [[text("room"), int(1), int(1)], [text("room"), int(1), int(2)]]);
}

/// The column `Changed` holds the place of the commit that bumped the record.
pub async fn changed_column_equals_the_place<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for n in 1..=3 {
        let place = db.apply(touching(1, n, (n > 1).then_some(n - 1))).await.place;
        let record = db.get(ROOMS, vec![int(1)]).await.expect("it is there");
        assert_eq!(FeedPlace::from_datum(&record[ROOM_CHANGED]).unwrap(), place);
    }
    let quiet = Commit { touched: Vec::new(), ..touching(1, 4, Some(3)) };
    db.apply(quiet).await;
    let record = db.get(ROOMS, vec![int(1)]).await.expect("it is there");
    assert_eq!((&record[ROOM_REV], &record[ROOM_CHANGED]), (&int(4), &Datum::Null));
}

/// A put without a bump keeps the place of the last bump.
pub async fn unbumped_put_keeps_the_place<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let place = db.apply(touching(1, 1, None)).await.place.expect("a place").to_datum();
    let touched = vec![vec![text("other")]];
    for touched in [Vec::new(), touched] {
        let mut commit = changing(vec![put(ROOMS, room(1, "other", "group", 5))]);
        (commit.touched, commit.guards) = (touched, vec![check(ROOMS, 1, 1)]);
        db.apply(commit).await;
        let record = db.get(ROOMS, vec![int(1)]).await;
        let expected = vec![int(1), text("other"), text("group"), int(5), int(1), place.clone()];
        assert_eq!(record, Some(expected));
    }
}

/// Reading in steps, each from the position of the one before, has every record once.
pub async fn changes_page_by_their_limit<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for n in 1..=23 {
        db.apply(touching(n, n, None)).await;
    }
    let all = db.changes(FeedPosition::default(), 100).await;
    assert_eq!(all.len(), 23);
    for limit in [1, 2, 10, 23, 24] {
        let (mut position, mut found) = (FeedPosition::default(), Vec::new());
        loop {
            let page = db.changes(position.clone(), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            page.iter().for_each(|record| position.advance(record.place));
            found.extend(page);
        }
        assert_eq!(found, all, "in steps of {limit}");
    }
}

/// Places go on after a reopen, and the earlier records are still there.
pub async fn places_grow_after_reopen<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let first = db.apply(touching(1, 1, None)).await.place;
    let Some(db) = db.reopened(factory).await else { return };
    let second = db.apply(touching(1, 2, Some(1))).await.place;
    let records = db.changes(FeedPosition::default(), 10).await;
    assert_eq!(places(&records), [first, second].map(|place| place.expect("a place")));
}

/// Beside concurrent writers, data that was read after a position is explained by records up to what it shows.
pub async fn position_misses_nothing_beside_writers<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    followed_race(vec![db.0.clone(); 4], &db).await;
}

const STEPS: i64 = 40;

/// Writes through all of these backends at once, and follows the feed by another one meanwhile.
pub(super) async fn followed_race(backends: Vec<Arc<dyn Backend>>, reader: &Db) {
    let writers = backends.len();
    let write = |(backend, id)| tokio::spawn(async move { write_steps(&Db(backend), id).await });
    let tasks: Vec<_> = backends.into_iter().zip(1..).map(write).collect();
    let (mut position, mut seen) = (FeedPosition::default(), BTreeSet::new());
    loop {
        let done = tasks.iter().all(tokio::task::JoinHandle::is_finished);
        let is_level = follow(reader, &mut position, &mut seen).await;
        if done && is_level {
            break;
        }
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let all = (1..=writers as i64).flat_map(|id| (1..=STEPS).map(move |n| (id, n)));
    assert_eq!(seen, all.collect(), "every commit is in the feed");
}

async fn write_steps(db: &Db, id: i64) {
    for n in 1..=STEPS {
        loop {
            match db.commit(touching(id, n, (n > 1).then_some(n - 1))).await {
                Ok(Answer::Applied(_)) => break,
                Err(error) if error.is_retryable() => {}
                other => panic!("step {n} of room {id} was to be applied, not {other:?}"),
            }
        }
    }
}

/// Reads one page of the feed, and then the data. Returns whether the page was empty.
async fn follow(db: &Db, position: &mut FeedPosition, seen: &mut BTreeSet<(i64, i64)>) -> bool {
    let page = db.changes(position.clone(), 7).await;
    for record in &page {
        assert!(!position.covers(record.place), "{:?} comes once and in order", record.place);
        position.advance(record.place);
        for row in &record.touched {
            let [_, id, n] = &row[..] else { panic!("three columns, not {row:?}") };
            assert!(seen.insert((id.as_int().unwrap(), n.as_int().unwrap())), "{row:?} comes once");
        }
    }
    for record in db.all(ROOMS).await {
        let (id, n) = (record[0].as_int().unwrap(), record[3].as_int().unwrap());
        let place = FeedPlace::from_datum(&record[ROOM_CHANGED]).unwrap().expect("it was touched");
        let shown = seen.iter().filter(|(other, _)| *other == id).map(|(_, n)| *n).max();
        assert!(shown.is_none_or(|shown| shown <= n), "room {id} is at {n}, its feed at {shown:?}");
        if position.covers(place) {
            assert!(seen.contains(&(id, n)), "step {n} of room {id} at {place:?} was missed");
        }
    }
    page.is_empty()
}

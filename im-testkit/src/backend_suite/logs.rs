//! Logs: appending, paging, replacing, trimming, clearing.

use im_core::backend::{Datum, LogAct, LogRead, Row, Way};
use im_core::wire::Value;

use super::BackendFactory;
use super::fixture::*;

/// Entries with the seqs of a range, under ids.
pub(super) fn entries(log: i64, seqs: std::ops::RangeInclusive<i64>) -> Vec<Row> {
    seqs.map(|seq| entry(log, seq, "ann", Some(&format!("id {seq}")))).collect()
}

async fn filled<F: BackendFactory>(factory: &F, last: i64) -> (Db, Vec<Row>) {
    let (db, rows) = (Db::new(factory).await, entries(1, 1..=last));
    db.apply(appending(rows.clone())).await;
    (db, rows)
}

/// What a read of these entries is, by its definition.
pub(super) fn expected(entries: &[Row], read: &LogRead) -> Vec<Row> {
    let is_in = |row: &&Row| {
        row[0] == int(read.log) && (read.from..=read.to).contains(&row[1].as_int().unwrap())
    };
    let mut found: Vec<Row> = entries.iter().filter(is_in).cloned().collect();
    found.sort();
    if read.way == Way::Backwards {
        found.reverse();
    }
    found.truncate(read.limit);
    let mut bytes = 0_usize;
    let fits = |(at, row): &(usize, &Row)| {
        bytes = bytes.saturating_add(row[6].as_int().unwrap() as usize);
        *at == 0 || bytes <= read.max_bytes
    };
    let mut found: Vec<Row> =
        found.iter().enumerate().take_while(fits).map(|(_, row)| row.clone()).collect();
    if read.headers {
        found.iter_mut().for_each(|row| row[CONTENT] = Datum::Null);
    }
    found
}

async fn agree(db: &Db, rows: &[Row], read: LogRead) {
    for way in [Way::Forwards, Way::Backwards] {
        let read = LogRead { way, ..read.clone() };
        assert_eq!(db.log(read.clone()).await, expected(rows, &read), "{read:?}");
    }
}

/// A page runs from either end of any part of a log.
pub async fn log_pages_run_both_ways<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory, 12).await;
    let ends = [i64::MIN, -1, 0, 1, 2, 6, 11, 12, 13, i64::MAX];
    for from in ends {
        for to in ends {
            agree(&db, &rows, LogRead { from, to, ..whole(1) }).await;
        }
    }
    agree(&db, &rows, whole(2)).await;
}

/// A page has no more entries than its limit.
pub async fn log_page_stops_at_limit<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory, 12).await;
    for limit in [0, 1, 5, 11, 12, 13] {
        agree(&db, &rows, LogRead { limit, ..whole(1) }).await;
        agree(&db, &rows, LogRead { limit, from: 3, to: 9, ..whole(1) }).await;
    }
}

/// A page stops before the bytes are too many, but has one entry at least.
pub async fn byte_limit_leaves_one_entry<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut rows = entries(1, 1..=10);
    rows.iter_mut()
        .zip([10, 0, 5, 300, 0, 1, 1 << 40, 7, 7, 7])
        .for_each(|(row, n)| row[6] = int(n));
    db.apply(appending(rows.clone())).await;
    for max_bytes in [0, 1, 7, 10, 14, 15, 316, 1 << 40, usize::MAX] {
        agree(&db, &rows, LogRead { max_bytes, ..whole(1) }).await;
        agree(&db, &rows, LogRead { max_bytes, limit: 3, from: 4, ..whole(1) }).await;
        agree(&db, &rows, LogRead { max_bytes, headers: true, ..whole(1) }).await;
    }
}

/// Headers are entries without what was written.
pub async fn headers_leave_content_out<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory, 5).await;
    let headers = db.log(LogRead { headers: true, ..whole(1) }).await;
    for (header, row) in headers.iter().zip(&rows) {
        assert_eq!(header[..CONTENT], row[..CONTENT]);
        assert_eq!(header[CONTENT], Datum::Null);
    }
    assert_eq!(headers.len(), 5);
    agree(&db, &rows, whole(1)).await;
}

/// A log begins at any seq, and goes on from there in later commits.
pub async fn log_begins_at_any_seq<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut rows = Vec::new();
    for (log, first) in
        [(1, 1), (2, 0), (3, 1_000_000_007), (i64::MAX, 5), (i64::MIN, i64::MAX - 5)]
    {
        for part in [entries(log, first..=first + 2), entries(log, first + 3..=first + 5)] {
            db.apply(appending(part.clone())).await;
            rows.extend(part);
        }
    }
    for log in [1, 2, 3, 4, i64::MAX, i64::MIN] {
        agree(&db, &rows, whole(log)).await;
    }
}

/// A replaced entry is another one in its place; its send is remembered with what is new.
pub async fn replaced_entry_keeps_its_place<F: BackendFactory>(factory: &F) {
    let (db, mut rows) = filled(factory, 5).await;
    rows[2][CONTENT] = json(&Value::from("other words"));
    rows[2][4] = int(77);
    db.apply(logging(1, LogAct::Replace(vec![rows[2].clone()]))).await;
    agree(&db, &rows, whole(1)).await;
    assert_eq!(db.send(1, "ann", "id 3").await, Some(send_of(&rows[2])));
    assert_eq!(db.sends(all_sends(1)).await.len(), 5);
}

/// A replacement under another id, another sender, or none, forgets the send that there was.
pub async fn replacement_forgets_changed_send<F: BackendFactory>(factory: &F) {
    let (db, mut rows) = filled(factory, 5).await;
    rows[0] = entry(1, 1, "ann", None);
    rows[1] = entry(1, 2, "bob", Some("id 2"));
    rows[2] = entry(1, 3, "ann", Some("new id"));
    db.apply(logging(1, LogAct::Replace(rows[..3].to_vec()))).await;
    agree(&db, &rows, whole(1)).await;
    for old in ["id 1", "id 2", "id 3"] {
        assert_eq!(db.send(1, "ann", old).await, None, "{old}");
    }
    assert_eq!(db.send(1, "bob", "id 2").await, Some(send_of(&rows[1])));
    assert_eq!(db.send(1, "ann", "new id").await, Some(send_of(&rows[2])));
    assert_eq!(db.sends(all_sends(1)).await.len(), 4);
}

/// Trimming removes entries, bounds included, and remembers their sends.
pub async fn trimmed_entries_leave_their_sends<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory, 10).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 4 })).await;
    agree(&db, &rows[4..], whole(1)).await;
    assert_eq!(db.send(1, "ann", "id 4").await, Some(send_of(&rows[3])));
    assert_eq!(db.sends(all_sends(1)).await.len(), 10);
    db.apply(logging(1, LogAct::Trim { from: 5, to: 10 })).await;
    assert!(db.log(whole(1)).await.is_empty());
    assert_eq!(db.sends(all_sends(1)).await.len(), 10);
}

/// Clearing removes entries, bounds included, and their sends.
pub async fn cleared_entries_lose_their_sends<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory, 10).await;
    db.apply(logging(1, LogAct::Clear { from: 3, to: 5 })).await;
    let left = [&rows[..2], &rows[5..]].concat();
    agree(&db, &left, whole(1)).await;
    assert_eq!(db.send(1, "ann", "id 3").await, None);
    assert_eq!(db.sends(all_sends(1)).await.len(), 7);
    db.apply(logging(1, LogAct::Clear { from: i64::MIN, to: i64::MAX })).await;
    assert!(db.log(whole(1)).await.is_empty());
    assert!(db.sends(all_sends(1)).await.is_empty());
}

/// Forgetting removes the sends named, and no others.
pub async fn forgotten_sends_are_gone<F: BackendFactory>(factory: &F) {
    let (db, _) = filled(factory, 4).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 3 })).await;
    let forgotten = ["id 1", "id 3", "never sent"].map(|id| (text("ann"), text(id)));
    db.apply(logging(1, LogAct::Forget(forgotten.to_vec()))).await;
    for (id, there) in [("id 1", false), ("id 2", true), ("id 3", false), ("id 4", true)] {
        assert_eq!(db.send(1, "ann", id).await.is_some(), there, "{id}");
    }
}

/// Acts on seqs that are not there, or the wrong way round, change nothing.
pub async fn acts_on_nothing_change_nothing<F: BackendFactory>(factory: &F) {
    let (db, _) = filled(factory, 4).await;
    let before = db.everything().await;
    for (from, to) in [(3, 2), (5, 9), (i64::MAX, i64::MIN), (-5, 0)] {
        db.apply(logging(1, LogAct::Trim { from, to })).await;
        db.apply(logging(1, LogAct::Clear { from, to })).await;
    }
    db.apply(logging(2, LogAct::Clear { from: 1, to: 9 })).await;
    for act in [LogAct::Append(vec![]), LogAct::Replace(vec![]), LogAct::Forget(vec![])] {
        db.apply(logging(1, act)).await;
    }
    assert_eq!(db.everything().await, before);
}

/// What is done to one log leaves the others alone.
pub async fn logs_stay_separate<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for log in 1..4 {
        db.apply(appending(entries(log, 1..=5))).await;
    }
    db.apply(logging(2, LogAct::Clear { from: 1, to: 5 })).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 2 })).await;
    assert_eq!(db.log(whole(3)).await, entries(3, 1..=5));
    assert_eq!(db.log(whole(1)).await, entries(1, 3..=5));
    assert!(db.log(whole(2)).await.is_empty());
    assert_eq!((db.sends(all_sends(1)).await.len(), db.sends(all_sends(3)).await.len()), (5, 5));
}

/// An append of many large entries is there as a whole.
pub async fn long_append_is_whole<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut rows = entries(1, 1..=1_000);
    for row in &mut rows {
        row[CONTENT] = json(&Value::from("x".repeat(1_000)));
        row[6] = int(1_000);
    }
    db.apply(appending(rows.clone())).await;
    let page = LogRead { max_bytes: 100_000, ..whole(1) };
    assert_eq!(db.log(page.clone()).await.len(), 100);
    agree(&db, &rows, page).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 999 })).await;
    agree(&db, &rows[999..], whole(1)).await;
}

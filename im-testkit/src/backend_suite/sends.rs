//! A message id is sent once by its sender to a log: a duplicate returns the first send and writes nothing.

use im_core::backend::{Answer, Commit, LogAct, Row, Sends};

use super::BackendFactory;
use super::fixture::*;

/// Asserts that a commit is answered as a duplicate of `first` and changes nothing.
async fn is_duplicate(db: &Db, commit: Commit, entry: usize, first: &Row) {
    let before = db.everything().await;
    let answer = db.commit(commit).await.unwrap();
    assert_eq!(answer, Answer::Duplicate { entry, send: send_of(first) });
    assert_eq!(db.everything().await, before);
}

/// A duplicate returns seq, time and hash of the first send, and nothing of its commit is written.
pub async fn duplicate_returns_the_first_send<F: BackendFactory>(factory: &F) {
    let (db, first) = (Db::new(factory).await, entry(1, 1, "ann", Some("id")));
    db.apply(appending(vec![first.clone()])).await;
    let again = entry(1, 2, "ann", Some("id"));
    is_duplicate(&db, appending(vec![again.clone()]), 0, &first).await;
    let others = vec![
        entry(1, 2, "ann", None),
        entry(1, 3, "ann", Some("new")),
        entry(1, 4, "ann", Some("id")),
    ];
    let commit = Commit {
        guards: vec![absent(LIVES, "a")],
        changes: vec![put(LIVES, life("a", 1)), put(ITEMS, item("a", 1, 1))],
        touched: vec![vec![int(1)]],
        ..appending(others)
    };
    is_duplicate(&db, commit, 2, &first).await;
}

/// A guard that does not hold comes before a duplicate.
pub async fn conflict_precedes_duplicate<F: BackendFactory>(factory: &F) {
    let (db, first) = (Db::new(factory).await, entry(1, 1, "ann", Some("id")));
    db.apply(appending(vec![first])).await;
    let again = appending(vec![entry(1, 2, "ann", Some("id"))]);
    let answer = db.commit(Commit { guards: vec![bump(LIVES, "a", 1)], ..again }).await.unwrap();
    assert_eq!(answer, Answer::Conflict { guard: Some(0), fresh: None });
}

/// A duplicate is found in the batch that has the first send, and what stands behind it is skipped.
pub async fn duplicate_within_batch_is_found<F: BackendFactory>(factory: &F) {
    let (db, first) = (Db::new(factory).await, entry(1, 1, "ann", Some("id")));
    let send = |seq, id| appending(vec![entry(1, seq, "ann", Some(id))]);
    let behind = Commit { behind: Some(1), ..send(3, "later") };
    let answers = db
        .batch(vec![appending(vec![first.clone()]), send(2, "id"), behind, send(2, "next")])
        .await;
    assert!(matches!(answers[0], Answer::Applied(_)));
    assert_eq!(answers[1], Answer::Duplicate { entry: 0, send: send_of(&first) });
    assert_eq!(answers[2], Answer::Skipped);
    assert!(matches!(answers[3], Answer::Applied(_)));
    assert_eq!(db.log(whole(1)).await, [first, entry(1, 2, "ann", Some("next"))]);
}

/// A duplicate is found after its entry was trimmed, and after a reopen.
pub async fn duplicate_after_trim_is_found<F: BackendFactory>(factory: &F) {
    let (db, first) = (Db::new(factory).await, entry(1, 1, "ann", Some("id")));
    db.apply(appending(vec![first.clone()])).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 1 })).await;
    let again = || appending(vec![entry(1, 2, "ann", Some("id"))]);
    is_duplicate(&db, again(), 0, &first).await;
    let Some(db) = db.reopened(factory).await else { return };
    is_duplicate(&db, again(), 0, &first).await;
}

/// The same id of another sender, or in another log, is another send.
pub async fn id_belongs_to_sender_and_log<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let rows = [
        entry(1, 1, "ann", Some("id")),
        entry(1, 2, "an", Some("nid")),
        entry(1, 3, "bob", Some("id")),
        entry(1, 4, "ann", Some("ID")),
        entry(2, 1, "ann", Some("id")),
    ];
    for row in &rows {
        db.apply(appending(vec![row.clone()])).await;
    }
    for row in &rows {
        let [log, sender, id] = [0, 2, 3].map(|column| row[column].clone());
        let (sender, id) = (sender.as_text().unwrap(), id.as_text().unwrap());
        let send = db.send(log.as_int().unwrap(), sender, id).await;
        assert_eq!(send, Some(send_of(row)));
    }
    for (log, sender, id) in [(2, "bob", "id"), (3, "ann", "id"), (1, "ann", "i"), (1, "", "")] {
        assert_eq!(db.send(log, sender, id).await, None);
    }
}

/// Entries without an id are never duplicates.
pub async fn entry_without_id_is_unique<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let rows: Vec<Row> = (1..=4).map(|seq| entry(1, seq, "ann", None)).collect();
    db.apply(appending(rows[..2].to_vec())).await;
    db.apply(appending(rows[2..].to_vec())).await;
    assert_eq!(db.log(whole(1)).await, rows);
    assert!(db.sends(all_sends(1)).await.is_empty());
}

/// An id is free again once its send was forgotten, cleared, or replaced without it.
pub async fn forgotten_id_is_free_again<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let ids = ["trimmed", "cleared", "replaced"];
    let rows: Vec<Row> =
        ids.iter().zip(1..).map(|(id, seq)| entry(1, seq, "ann", Some(id))).collect();
    db.apply(appending(rows)).await;
    db.apply(logging(1, LogAct::Replace(vec![entry(1, 3, "ann", None)]))).await;
    db.apply(logging(1, LogAct::Trim { from: 1, to: 1 })).await;
    db.apply(logging(1, LogAct::Forget(vec![(text("ann"), text("trimmed"))]))).await;
    db.apply(logging(1, LogAct::Clear { from: 2, to: 2 })).await;
    for (id, seq) in ids.iter().zip(4..) {
        db.apply(appending(vec![entry(1, seq, "ann", Some(id))])).await;
        let send = db.send(1, "ann", id).await.expect("it was sent");
        assert_eq!(send[2], int(seq));
    }
}

/// Sends come in the order of sender and id, from anywhere on, of all senders or of one.
pub async fn sends_page_in_order<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let names = ["a", "a\u{1}", "ab", "b", "é"];
    let mut rows = Vec::new();
    for (at, sender) in names.iter().enumerate() {
        for (n, id) in names.iter().rev().enumerate() {
            rows.push(entry(1, (at * 5 + n + 1) as i64, sender, Some(id)));
        }
    }
    db.apply(appending(rows.clone())).await;
    let mut sends: Vec<Row> = rows.iter().map(send_of).collect();
    sends.sort();
    assert_eq!(db.sends(all_sends(1)).await, sends);
    let key = |send: &Row| (send[0].clone(), send[1].clone());
    for after in sends.iter().map(key).chain([(text(""), text("")), (text("aa"), text("x"))]) {
        for sender in [None, Some(text("ab"))] {
            for limit in [1, 3, usize::MAX] {
                let is_in = |send: &&Row| {
                    key(send) > after && sender.as_ref().is_none_or(|sender| *sender == send[0])
                };
                let expected: Vec<Row> = sends.iter().filter(is_in).take(limit).cloned().collect();
                let read =
                    Sends { log: 1, sender: sender.clone(), after: Some(after.clone()), limit };
                assert_eq!(db.sends(read.clone()).await, expected, "{read:?}");
            }
        }
    }
}

/// Of concurrent sends under one id one is applied, and all others return it.
pub async fn concurrent_duplicates_apply_once<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    duplicate_race(vec![db.0.clone(); 5]).await;
    assert_eq!(db.sends(all_sends(1)).await.len(), 15);
    assert_eq!(db.log(whole(1)).await.len(), 15);
}

/// Through each of these backends at once, sends fifteen ids, each under a seq of its own.
pub(super) async fn duplicate_race(backends: Vec<std::sync::Arc<dyn im_core::backend::Backend>>) {
    let count = backends.len() as i64;
    let tasks = backends.into_iter().zip(0..).map(|(backend, task)| {
        tokio::spawn(async move {
            let (db, mut answers) = (Db(backend), Vec::new());
            for n in 0..15_i64 {
                let send = entry(1, n * count + task + 1, "ann", Some(&format!("id {n}")));
                answers.push(loop {
                    match db.commit(appending(vec![send.clone()])).await {
                        Ok(Answer::Applied(_)) => break (true, send_of(&send)),
                        Ok(Answer::Duplicate { entry: 0, send }) => break (false, send),
                        Err(error) if error.is_retryable() => {}
                        other => panic!("neither applied nor a duplicate: {other:?}"),
                    }
                });
            }
            answers
        })
    });
    let mut all = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        all.push(task.await.unwrap());
    }
    for n in 0..15 {
        let (applied, sends): (Vec<bool>, Vec<Row>) =
            all.iter().map(|task| task[n].clone()).unzip();
        assert_eq!(applied.into_iter().filter(|applied| *applied).count(), 1, "id {n}");
        assert!(sends.windows(2).all(|pair| pair[0] == pair[1]), "id {n}: {sends:?}");
    }
}

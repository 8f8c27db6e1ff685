//! Commits are made whole or not at all, each by itself, and answered in their order.

use std::time::Duration;

use im_core::backend::{Answer, Commit, SyncLevel};

use super::BackendFactory;
use super::fixture::*;

/// A room's record, an entry of its log, and an item, in one commit.
fn act(id: i64, seq: i64, revision: Option<i64>) -> Commit {
    let guard = revision.map_or(absent(ROOMS, id), |revision| bump(ROOMS, id, revision));
    Commit {
        guards: vec![guard],
        changes: vec![
            put(ROOMS, room(id, &format!("room {id}"), "group", seq)),
            put(ITEMS, item("act", id, seq)),
        ],
        touched: vec![vec![text("room"), int(id), int(seq)]],
        ..appending(vec![entry(id, seq, "ann", Some(&format!("id {seq}")))])
    }
}

/// A commit of a log entry, records and a change record is all there once it is answered.
pub async fn commit_changes_log_and_records<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let applied = db.apply(act(1, 1, None)).await;
    assert_eq!(applied.revisions, [1]);
    assert!(applied.place.is_some());
    assert_eq!(db.log(whole(1)).await, [entry(1, 1, "ann", Some("id 1"))]);
    assert_eq!(db.all(ITEMS).await, [item("act", 1, 1)]);
    let record = db.get(ROOMS, vec![int(1)]).await.expect("the record is there");
    assert_eq!(record[..4], room(1, "room 1", "group", 1)[..4]);
    assert_eq!(db.send(1, "ann", "id 1").await, Some(send_of(&entry(1, 1, "ann", Some("id 1")))));
    assert_eq!(db.changes(Default::default(), 10).await.len(), 1);
}

/// A commit whose guard does not hold leaves log, records, sends and feed as they were.
pub async fn conflict_changes_nothing<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(act(1, 1, None)).await;
    let before = db.everything().await;
    for refused in [act(1, 2, None), act(1, 2, Some(2)), act(2, 1, Some(1))] {
        let answer = db.commit(refused).await.unwrap();
        assert!(matches!(answer, Answer::Conflict { guard: Some(0), .. }), "{answer:?}");
        assert_eq!(db.everything().await, before);
    }
}

/// A commit whose last change meets a taken unique value leaves its earlier changes out.
pub async fn late_conflict_undoes_earlier_changes<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(act(1, 1, None)).await;
    db.put(ITEMS, [item("kept", 1, 7)]).await;
    let before = db.everything().await;
    let mut commit = act(2, 1, None);
    commit.changes.push(remove(ITEMS, vec![text("kept"), int(1)]));
    commit.changes.push(put(ITEMS, item("act", 1, 99)));
    commit.changes.push(put(ROOMS, room(3, "room 1", "group", 0)));
    let answer = db.commit(commit).await.unwrap();
    assert!(matches!(answer, Answer::Conflict { guard: None, .. }), "{answer:?}");
    assert_eq!(db.everything().await, before);
}

/// A batch of no commits has no answers.
pub async fn empty_batch_has_no_answers<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    assert!(db.batch(Vec::new()).await.is_empty());
    assert!(db.read(Vec::new()).await.is_empty());
    assert_eq!(db.apply(Commit::default()).await, Default::default());
}

/// A refused commit leaves the others of its batch as they are.
pub async fn commits_of_batch_are_independent<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let answers =
        db.batch(vec![act(1, 1, None), act(1, 2, None), act(2, 1, None), act(3, 1, Some(4))]).await;
    let applied: Vec<bool> =
        answers.iter().map(|answer| matches!(answer, Answer::Applied(_))).collect();
    assert_eq!(applied, [true, false, true, false]);
    let numbers: Vec<_> = db.all(ITEMS).await.into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(numbers, [int(1), int(2)]);
    assert_eq!((db.log(whole(1)).await.len(), db.log(whole(2)).await.len()), (1, 1));
}

/// A commit sees what the earlier ones of its batch have written.
pub async fn later_commit_sees_earlier_one<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let commits = (1..=20).map(|seq| act(1, seq, (seq > 1).then_some(seq - 1))).collect();
    for (at, answer) in db.batch(commits).await.into_iter().enumerate() {
        let Answer::Applied(applied) = answer else { panic!("{at}: {answer:?}") };
        assert_eq!(applied.revisions, [at as i64 + 1]);
    }
    assert_eq!(db.log(whole(1)).await.len(), 20);
}

/// Commits planned on one that was not applied are skipped, down the whole chain.
pub async fn commit_behind_conflict_is_skipped<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(act(1, 1, None)).await;
    let behind = |commit: Commit, at| Commit { behind: Some(at), ..commit };
    let answers = db
        .batch(vec![
            act(1, 2, Some(9)),
            behind(act(2, 1, None), 0),
            behind(act(3, 1, None), 1),
            act(4, 1, None),
            behind(act(4, 2, Some(1)), 3),
        ])
        .await;
    assert!(matches!(answers[0], Answer::Conflict { guard: Some(0), .. }));
    assert_eq!(answers[1..3], [Answer::Skipped, Answer::Skipped]);
    assert!(answers[3..].iter().all(|answer| matches!(answer, Answer::Applied(_))));
    let ids: Vec<_> = db.all(ROOMS).await.into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, [int(1), int(4)]);
}

/// Each answer of a large batch stands at the position of its commit.
pub async fn answers_come_in_commit_order<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let commits = (0..120).map(|n| if n % 3 == 0 { act(n, 1, Some(1)) } else { act(n, 1, None) });
    for (at, answer) in db.batch(commits.collect()).await.into_iter().enumerate() {
        assert_eq!(matches!(answer, Answer::Applied(_)), at % 3 != 0, "{at}: {answer:?}");
    }
    assert_eq!(db.all(ROOMS).await.len(), 80);
}

/// An unsynced commit is read as soon as it is answered, and is there after a clean end.
pub async fn unsynced_commit_is_read_once_answered<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for n in 0..10 {
        let sync = if n % 2 == 0 { SyncLevel::Unsynced } else { SyncLevel::Synced };
        db.apply(Commit { sync, ..changing(vec![put(ITEMS, item("a", n, n))]) }).await;
        assert_eq!(db.get(ITEMS, vec![text("a"), int(n)]).await, Some(item("a", n, n)));
    }
    let last = changing(vec![put(ITEMS, item("last", 0, 0))]);
    db.apply(Commit { sync: SyncLevel::Unsynced, ..last }).await;
    let Some(db) = db.reopened(factory).await else { return };
    assert_eq!(db.all(ITEMS).await.len(), 11);
}

/// A commit whose caller has gone is made whole or not at all.
pub async fn dropped_commit_is_whole<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for id in 1..=40 {
        let backend = db.0.clone();
        let call = tokio::spawn(async move { backend.commit(vec![act(id, 1, None)]).await });
        tokio::time::sleep(Duration::from_micros(id as u64 * 25)).await;
        call.abort();
        let _ = call.await;
    }
    // What is still under way is done before this one, or is seen whole all the same.
    db.put(ITEMS, [item("end", 0, 0)]).await;
    let ids: Vec<i64> = (1..=40).collect();
    for id in ids {
        let found = db
            .read(vec![
                im_core::backend::Read::Get { table: ROOMS, key: vec![int(id)] },
                im_core::backend::Read::Get { table: ITEMS, key: vec![text("act"), int(id)] },
                im_core::backend::Read::Log(whole(id)),
            ])
            .await;
        let mut found = found.into_iter();
        let mut next = || found.next().expect("three answers");
        let (room, item, log) = (record(next()), record(next()), records(next()));
        assert_eq!(room.is_some(), item.is_some(), "commit {id} is whole");
        assert_eq!(room.is_some(), log.len() == 1, "commit {id} is whole");
    }
}

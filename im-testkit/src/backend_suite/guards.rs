//! Guards: a commit is made only if the records it relied on are as it saw them.

use im_core::backend::{Answer, Commit, Datum, Expect, Guard, GuardAct};

use super::BackendFactory;
use super::fixture::*;

/// A commit that sets the value of a life.
fn set(name: &str, value: i64, guards: Vec<Guard>) -> Commit {
    Commit { guards, ..changing(vec![put(LIVES, life(name, value))]) }
}

fn conflict(guard: usize, fresh: Option<Vec<Datum>>) -> Answer {
    Answer::Conflict { guard: Some(guard), fresh }
}

/// A guard on an earlier revision conflicts, and returns the record as it is.
pub async fn guard_on_old_revision_conflicts<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(set("a", 1, vec![absent(LIVES, "a")])).await;
    db.apply(set("a", 2, vec![bump(LIVES, "a", 1)])).await;
    let fresh = Some(vec![text("a"), int(2), int(2)]);
    for guard in [bump(LIVES, "a", 1), check(LIVES, "a", 1), bump(LIVES, "a", 3)] {
        assert_eq!(db.commit(set("a", 9, vec![guard])).await.unwrap(), conflict(0, fresh.clone()));
    }
    assert_eq!(db.get(LIVES, vec![text("a")]).await, fresh);
}

/// A guard on absence conflicts with a record, and returns it.
pub async fn absent_guard_meets_a_record<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.apply(set("a", 1, vec![absent(LIVES, "a")])).await;
    let fresh = Some(vec![text("a"), int(1), int(1)]);
    let checked = guard(LIVES, text("a"), Expect::Absent, GuardAct::Check);
    for guard in [absent(LIVES, "a"), checked] {
        assert_eq!(db.commit(set("b", 9, vec![guard])).await.unwrap(), conflict(0, fresh.clone()));
    }
    assert_eq!(db.get(LIVES, vec![text("b")]).await, None);
}

/// A guard on a revision conflicts where there is no record, also with revision 0.
pub async fn revision_guard_meets_no_record<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    for revision in [0, 1] {
        let answer = db.commit(set("a", 1, vec![bump(LIVES, "a", revision)])).await.unwrap();
        assert_eq!(answer, conflict(0, None));
    }
    assert!(db.all(LIVES).await.is_empty());
}

/// A conflict names the first guard that does not hold.
pub async fn conflict_names_the_first_guard<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(LIVES, [life("a", 1), life("b", 2)]).await;
    db.put(ROOMS, [room(1, "tea", "group", 5)]).await;
    let guards = vec![check(LIVES, "a", 1), bump(ROOMS, 1, 7), bump(LIVES, "b", 7)];
    let fresh = db.get(ROOMS, vec![int(1)]).await;
    assert!(fresh.is_some());
    assert_eq!(db.commit(set("a", 9, guards)).await.unwrap(), conflict(1, fresh));
    assert_eq!(db.get(LIVES, vec![text("a")]).await, Some(vec![text("a"), int(1), int(1)]));
}

/// Each bump raises the revision by one, and the answer says so.
pub async fn bump_raises_revision_by_one<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    assert_eq!(db.apply(set("a", 0, vec![absent(LIVES, "a")])).await.revisions, [1]);
    for revision in 1..10 {
        let applied = db.apply(set("a", revision, vec![bump(LIVES, "a", revision)])).await;
        assert_eq!(applied.revisions, [revision + 1]);
        let record = vec![text("a"), int(revision), int(revision + 1)];
        assert_eq!(db.get(LIVES, vec![text("a")]).await, Some(record));
    }
}

/// A check leaves its record's revision, and the answer returns it.
pub async fn check_leaves_the_revision<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(LIVES, [life("a", 1)]).await;
    for n in 0..3 {
        let applied = db.apply(set(
            "b",
            n,
            vec![check(LIVES, "a", 1), {
                if n == 0 { absent(LIVES, "b") } else { bump(LIVES, "b", n) }
            }],
        ));
        assert_eq!(applied.await.revisions, [1, n + 1]);
    }
    assert_eq!(db.get(LIVES, vec![text("a")]).await, Some(vec![text("a"), int(1), int(1)]));
}

/// A bump of a record that the commit does not put changes its revision alone.
pub async fn bump_alone_keeps_the_record<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(ROOMS, [room(1, "tea", "group", 5)]).await;
    let commit = Commit {
        guards: vec![bump(ROOMS, 1, 1)],
        touched: vec![vec![int(1)]],
        ..changing(vec![put(ITEMS, item("a", 1, 1))])
    };
    let applied = db.apply(commit).await;
    let place = applied.place.expect("it touched something").to_datum();
    let record = vec![int(1), text("tea"), text("group"), int(5), int(2), place];
    assert_eq!(db.get(ROOMS, vec![int(1)]).await, Some(record.clone()));
    assert_eq!(db.range(im_core::backend::Range::of(ROOMS, vec![]).by(BY_KIND)).await, [record]);
}

/// A revision goes on after a removal where records revive, with a guard and without.
pub async fn revived_record_continues_its_revision<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let mut last = 0;
    for round in 0..6 {
        let first = match round % 2 {
            0 => db.apply(set("a", 1, vec![absent(LIVES, "a")])).await.revisions[0],
            _ => {
                db.put(LIVES, [life("a", 1)]).await;
                let record = db.get(LIVES, vec![text("a")]).await.expect("it is there");
                record[LIFE_REV].as_int().expect("a revision")
            }
        };
        assert!(first > last, "round {round}: {first} after {last}");
        last = db.apply(set("a", 2, vec![bump(LIVES, "a", first)])).await.revisions[0];
        assert_eq!(last, first + 1);
        let gone = changing(vec![remove(LIVES, vec![text("a")])]);
        if round % 3 == 0 {
            last =
                db.apply(Commit { guards: vec![bump(LIVES, "a", last)], ..gone }).await.revisions
                    [0];
        } else {
            db.apply(gone).await;
        }
        assert_eq!(db.get(LIVES, vec![text("a")]).await, None);
        assert_eq!(
            db.commit(set("a", 3, vec![bump(LIVES, "a", last)])).await.unwrap(),
            conflict(0, None)
        );
    }
}

/// A record that was removed and made in one commit keeps its revision's order.
pub async fn record_replaced_in_commit_is_bumped<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(LIVES, [life("a", 1)]).await;
    let changes = vec![remove(LIVES, vec![text("a")]), put(LIVES, life("a", 2))];
    let commit = Commit { guards: vec![bump(LIVES, "a", 1)], ..changing(changes) };
    assert_eq!(db.apply(commit).await.revisions, [2]);
    assert_eq!(db.get(LIVES, vec![text("a")]).await, Some(vec![text("a"), int(2), int(2)]));
}

/// Eight guards hold together, and the failure of the last one is enough.
pub async fn eight_guards_hold_together<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let names: Vec<String> = (0..8).map(|n| format!("guard {n}")).collect();
    db.put(LIVES, names.iter().map(|name| life(name, 0))).await;
    let guards: Vec<Guard> = names.iter().map(|name| bump(LIVES, name.as_str(), 1)).collect();
    let commit = Commit { guards, ..changing(vec![put(ITEMS, item("a", 1, 1))]) };
    assert_eq!(db.apply(commit.clone()).await.revisions, [2; 8]);
    let mut late = commit;
    late.guards.iter_mut().for_each(|guard| guard.expect = Expect::Revision(2));
    late.guards[7].expect = Expect::Revision(1);
    let fresh = Some(vec![text("guard 7"), int(0), int(2)]);
    assert_eq!(db.commit(late).await.unwrap(), conflict(7, fresh));
    let revisions: Vec<_> =
        db.all(LIVES).await.into_iter().map(|row| row[LIFE_REV].clone()).collect();
    assert_eq!(revisions, vec![int(2); 8]);
}

/// Concurrent commits that count up under a guard lose no step.
pub async fn concurrent_increments_lose_nothing<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    db.put(LIVES, [life("a", 0)]).await;
    increments(vec![db.0.clone(); 6], 20).await;
    let record = db.get(LIVES, vec![text("a")]).await;
    assert_eq!(record, Some(vec![text("a"), int(120), int(121)]));
}

/// Counts the life `a` up through each of these backends at once, so many times each.
pub(super) async fn increments(
    backends: Vec<std::sync::Arc<dyn im_core::backend::Backend>>,
    steps: u32,
) {
    let tasks = backends.into_iter().map(|backend| {
        tokio::spawn(async move {
            let db = Db(backend);
            for _ in 0..steps {
                loop {
                    let record = db.get(LIVES, vec![text("a")]).await.expect("it is there");
                    let (value, rev) = (record[1].as_int().unwrap(), record[2].as_int().unwrap());
                    match db.commit(set("a", value + 1, vec![bump(LIVES, "a", rev)])).await {
                        Ok(Answer::Applied(_)) => break,
                        Ok(Answer::Conflict { fresh, .. }) => assert_ne!(fresh, Some(record)),
                        Err(error) if error.is_retryable() => {}
                        other => panic!("neither applied nor in conflict: {other:?}"),
                    }
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

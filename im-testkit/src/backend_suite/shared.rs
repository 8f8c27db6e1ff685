//! Two backends on one database, where it is not exclusive.

use std::sync::Arc;

use im_core::backend::{Answer, Backend, Commit};

use super::BackendFactory;
use super::fixture::*;

/// A backend and a second one on its database. `None`: it is exclusive.
async fn two<F: BackendFactory>(factory: &F) -> Option<(Db, Db)> {
    let one = Db::new(factory).await;
    let other = factory.another().await;
    assert_eq!(other.is_none(), one.0.info().exclusive, "a second backend opens if it is shared");
    let other = other?;
    other.open(&schema()).await.expect("the second one takes the same schema");
    Some((one, Db(other)))
}

fn both(one: &Db, other: &Db) -> Vec<Arc<dyn Backend>> {
    [one, other, one, other].map(|db| Arc::clone(&db.0)).to_vec()
}

/// The generation is the database's, for whichever backend opens it, also at once.
pub async fn backends_share_one_generation<F: BackendFactory>(factory: &F) {
    let one = factory.create().await;
    let Some(other) = factory.another().await else { return };
    let schema = schema();
    let (first, second) = tokio::join!(one.open(&schema), other.open(&schema));
    assert_eq!(first.unwrap(), second.unwrap());
    let (one, other) = (Db(one), Db(other));
    one.put(ITEMS, [item("a", 1, 1)]).await;
    assert_eq!(other.all(ITEMS).await, [item("a", 1, 1)]);
}

/// What one backend was answered, the other one reads.
pub async fn backends_read_each_others_commits<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    for n in 0..20 {
        one.put(ITEMS, [item("a", n, n)]).await;
        assert_eq!(other.get(ITEMS, vec![text("a"), int(n)]).await, Some(item("a", n, n)));
        other.put(ITEMS, [item("a", n, n + 1)]).await;
        assert_eq!(one.get(ITEMS, vec![text("a"), int(n)]).await, Some(item("a", n, n + 1)));
    }
    assert_eq!(one.everything().await, other.everything().await);
}

/// A guard planned on one backend conflicts with a commit of the other.
pub async fn guard_holds_across_backends<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    one.put(LIVES, [life("a", 0)]).await;
    let set = |value| Commit {
        guards: vec![bump(LIVES, "a", 1)],
        ..changing(vec![put(LIVES, life("a", value))])
    };
    other.apply(set(1)).await;
    let fresh = Some(vec![text("a"), int(1), int(2)]);
    assert_eq!(one.commit(set(2)).await.unwrap(), Answer::Conflict { guard: Some(0), fresh });
}

/// Increments under a guard through two backends lose nothing.
pub async fn increments_across_backends_all_count<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    one.put(LIVES, [life("a", 0)]).await;
    super::guards::increments(both(&one, &other), 15).await;
    let record = Some(vec![text("a"), int(60), int(61)]);
    assert_eq!(one.get(LIVES, vec![text("a")]).await, record);
}

/// A unique value put through two backends at once is one record's.
pub async fn unique_value_holds_across_backends<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    assert_eq!(super::records::unique_race(both(&one, &other)).await, 10);
    assert_eq!(one.all(ROOMS).await.len(), 10);
}

/// A send through two backends at once is applied once.
pub async fn duplicates_across_backends_apply_once<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    super::sends::duplicate_race(both(&one, &other)).await;
    assert_eq!(other.sends(all_sends(1)).await.len(), 15);
}

/// The feed misses nothing of what two backends write.
pub async fn feed_is_complete_across_backends<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    super::feed::followed_race(both(&one, &other), &one).await;
}

/// Closing one backend leaves the other one open.
pub async fn closing_one_leaves_another_open<F: BackendFactory>(factory: &F) {
    let Some((one, other)) = two(factory).await else { return };
    one.put(ITEMS, [item("a", 1, 1)]).await;
    one.0.close().await.unwrap();
    other.put(ITEMS, [item("a", 2, 2)]).await;
    assert_eq!(other.all(ITEMS).await.len(), 2);
}

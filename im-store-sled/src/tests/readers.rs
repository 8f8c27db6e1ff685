//! What readers see while a commit is on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Waker};

use im_core::ports::{RoomDirectory, RoomLog, Store};
use im_core::state::{Act, Append, Authority, Intent};
use im_core::wire::Role;
use im_core::{Timestamp, UserId};
use tempfile::TempDir;

use super::device::{Faulty, Site};
use super::fixture::{ann, append, commit, id, log, open, open_on, post, room, seq};

async fn until(device: &Arc<Faulty>, site: Site) {
    let device = device.clone();
    tokio::task::spawn_blocking(move || device.until(site)).await.unwrap();
}

fn add(user: &UserId) -> Append {
    let intent = Intent::Add(user.clone(), Role::Member);
    let act = Act::Change { by: ann(), intent };
    let at = Timestamp::from_millis(1);
    Append { room: room(), authority: Authority::Service, act, at, max_members: 10 }
}

/// On one thread: that the reads come back at all shows that neither they nor the append block it.
#[tokio::test(flavor = "current_thread")]
async fn unsynced_append_is_invisible() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = Arc::new(open_on(folder.path(), &device).await);
    commit(&store, 1).await;
    device.calls();
    device.hold();
    let bob = UserId::new("bob").unwrap();
    let writing = tokio::spawn({
        let (store, bob) = (store.clone(), bob.clone());
        async move { store.append(vec![post(2), add(&bob)]).await }
    });
    until(&device, Site::Sync).await;

    assert_eq!(log(&store).await, [id(1)]);
    assert_eq!(store.heads(&[room()]).await.unwrap()[0].unwrap().cursor.seq.get(), 1);
    assert_eq!(store.idempotency_record(&room(), &ann(), &id(2)).await.unwrap(), None);
    assert_eq!(store.membership(&room(), &bob).await.unwrap(), None);
    assert_eq!(store.members(&room(), None, 10).await.unwrap(), [(ann(), Role::Owner)]);
    assert_eq!(store.rooms_of(&bob, None, 10).await.unwrap(), []);
    assert_eq!(store.room(&room()).await.unwrap().unwrap().members, 1);

    device.release();
    assert!(writing.await.unwrap().iter().all(Result::is_ok));
    assert_eq!(store.heads(&[room()]).await.unwrap()[0].unwrap().cursor.seq.get(), 3);
    assert_eq!(
        store.idempotency_record(&room(), &ann(), &id(2)).await.unwrap().unwrap().seq.get(),
        2
    );
    assert_eq!(store.members(&room(), None, 10).await.unwrap().len(), 2);
    assert_eq!(store.rooms_of(&bob, None, 10).await.unwrap().len(), 1);
    store.close().await.unwrap();
}

/// Appends that queue during a sync share the next one.
#[tokio::test(flavor = "current_thread")]
async fn appends_during_sync_share_the_next() {
    let folder = TempDir::new().unwrap();
    let device = Arc::new(Faulty::default());
    let store = Arc::new(open_on(folder.path(), &device).await);
    device.calls();
    device.hold();
    let sent = Arc::new(AtomicUsize::new(0));
    let send = |n| {
        let (store, sent) = (store.clone(), sent.clone());
        tokio::spawn(async move {
            sent.fetch_add(1, Ordering::Relaxed);
            seq(append(&store, n).await)
        })
    };
    let first = send(0);
    until(&device, Site::Sync).await;
    let others: Vec<_> = (1..100).map(send).collect();
    // On one thread, each of them runs until it waits for its answer.
    while sent.load(Ordering::Relaxed) < 100 {
        tokio::task::yield_now().await;
    }
    device.release();
    assert_eq!(first.await.unwrap(), 1);
    for (at, other) in others.into_iter().enumerate() {
        assert_eq!(other.await.unwrap(), at as u64 + 2);
    }
    let syncs = device.calls().iter().filter(|site| **site == Site::Sync).count();
    assert_eq!(syncs, 2);
    store.close().await.unwrap();
}

/// A future that was asked once and is then left alone, as in a `select!` whose other branch takes long.
#[tokio::test]
async fn unpolled_read_blocks_no_other() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let all = store.reads.available_permits();
    let turns = store.reads.clone().acquire_many_owned(u32::try_from(all).unwrap()).await.unwrap();
    let rooms = [room()];
    let mut left: Vec<_> = (0..all).map(|_| store.heads(&rooms)).collect();
    for read in &mut left {
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(cx).is_pending());
    }
    drop(turns);
    assert_eq!(store.heads(&rooms).await.unwrap(), [None]);
    drop(left);
    store.close().await.unwrap();
}

//! Pages are read a few at a time, and look-ups pass them.
#![allow(clippy::unwrap_used, reason = "this file is all test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use im_core::engine::{Engine, Publish};
use im_core::ports::{LogRange, RoomDirectory, RoomLog, Store};
use im_core::state::RoomSeed;
use im_core::wire::{PageFrom, Role, RoomKind, Target};
use im_core::{RoomId, Seq, UserId};
use im_store_sled::{SledConfig, SledStore};

const PAGES: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn look_up_passes_pages_that_wait() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SledStore::open(SledConfig::new(folder.path())).await.unwrap());
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let (room, ann) = (RoomId::new("tea").unwrap(), UserId::new("ann").unwrap());
    let members = vec![(ann.clone(), Role::Owner)];
    let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
    engine.create_room(room.clone(), seed, &ann).await.unwrap();
    let text = "x".repeat(2000);
    let message = || Publish::text(Target::Room(room.clone()), ann.clone(), &text);
    let batch = (0..200).map(|_| engine.prepare(message()).unwrap()).collect();
    assert!(store.append(batch).await.iter().all(Result::is_ok));

    let read = Arc::new(AtomicUsize::new(0));
    let page = |_| {
        let (store, room, read) = (store.clone(), room.clone(), read.clone());
        tokio::spawn(async move {
            let from = PageFrom::After(Seq::FIRST);
            let range = LogRange { from, limit: 200, max_bytes: 1 << 20 };
            assert_eq!(store.read(&room, range).await.unwrap().unwrap().events.len(), 200);
            read.fetch_add(1, Ordering::Relaxed);
        })
    };
    let pages: Vec<_> = (0..PAGES).map(page).collect();
    // All of them have asked once the first ones are read.
    while read.load(Ordering::Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    let before = read.load(Ordering::Relaxed);
    assert!(store.room(&room).await.unwrap().is_some());
    let passed = read.load(Ordering::Relaxed) - before;
    for page in pages {
        page.await.unwrap();
    }
    assert!(passed < PAGES / 2, "{passed} pages were read before, of {}", PAGES - before);
    store.close().await.unwrap();
}

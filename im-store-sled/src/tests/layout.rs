//! Records, parts, and the way from one layout to the next.

use std::sync::Arc;

use im_core::ports::{RoomLog, StateStore, Store, StoreErrorKind};
use im_core::state::StateLimits;
use im_core::wire::{Content, Limits, StateUpdate};
use im_core::{Epoch, NodeId, RoomId, Seq, SessionId, Stamp, StateKey, Timestamp};
use proptest::prelude::*;
use tempfile::TempDir;

use super::fixture::{ann, commit, config, long_post, open, room};
use crate::device::{Device, Disk};
use crate::open::{Migration, migrate, steps};
use crate::{SledStore, record};

/// An update of the state at `ms`.
pub(super) fn update(ms: u64, text: &str) -> Arc<StateUpdate> {
    Arc::new(StateUpdate {
        room: room(),
        key: StateKey::new("key").unwrap(),
        stamp: Stamp { ms: Timestamp::from_millis(ms), counter: 0, node: NodeId(1) },
        from: ann(),
        value: Some(Content::text(text, &Limits::default()).unwrap()),
    })
}

/// A migration runs the steps between two layouts, and a missing step is an error.
#[test]
fn migration_runs_steps_in_order() {
    fn second(db: &sled::Db, _: &dyn Device) -> im_core::ports::StoreResult<()> {
        let old = db.get("one").unwrap().unwrap();
        db.insert("two", old).unwrap();
        Ok(())
    }
    fn first(db: &sled::Db, _: &dyn Device) -> im_core::ports::StoreResult<()> {
        db.insert("one", "written by the first").unwrap();
        Ok(())
    }
    let table = [Migration { from: 2, run: second }, Migration { from: 1, run: first }];
    let folder = TempDir::new().unwrap();
    let db = sled::open(folder.path()).unwrap();
    migrate(&db, &Disk, &steps(3, 3, &table).unwrap()).unwrap();
    assert!(db.is_empty());
    migrate(&db, &Disk, &steps(1, 3, &table).unwrap()).unwrap();
    assert_eq!(db.get("two").unwrap().unwrap(), "written by the first");
    assert!(steps(0, 3, &table).is_err());
    assert!(steps(1, 4, &table).is_err());
}

/// What sled puts into a file of its own it never syncs.
#[tokio::test]
async fn large_records_never_become_blob_files() {
    let folder = TempDir::new().unwrap();
    let store = SledStore::open(config(folder.path())).await.unwrap();
    let text = "x".repeat(31 * 1024);
    for batch in 0..10 {
        let posts = (0..10).map(|n| long_post(batch * 10 + n, &text)).collect();
        assert!(store.append(posts).await.iter().all(Result::is_ok));
    }
    for ms in 1..100 {
        store.merge_state(vec![update(ms, &text)]).await.unwrap();
    }
    let blobs = folder.path().join("sled/blobs");
    assert_eq!(std::fs::read_dir(blobs).unwrap().count(), 0);
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    assert_eq!(super::fixture::log(&store).await.len(), 100);
    let state = store.state(&room()).await.unwrap();
    assert_eq!((state.revision, state.entries.as_slice()), (99, &[update(99, &text)][..]));
    store.close().await.unwrap();
}

#[tokio::test]
async fn shorter_value_leaves_no_old_chunks() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    for (ms, len) in [(1, 30_000), (2, 9_000), (3, 10), (4, 20_000)] {
        store.merge_state(vec![update(ms, &"y".repeat(len))]).await.unwrap();
        let entries = store.state(&room()).await.unwrap().entries;
        assert_eq!(entries, [update(ms, &"y".repeat(len))]);
    }
    store.close().await.unwrap();
    let db = sled::open(folder.path().join("sled")).unwrap();
    let parts = db.scan_prefix(crate::keys::states(1)).count();
    assert_eq!(parts, 5, "20,000 bytes are the first part and four more");
}

/// The stamp below which tombstones were purged survives a restart.
#[tokio::test]
async fn purged_stamp_survives_restart() {
    let folder = TempDir::new().unwrap();
    let limits = StateLimits::default();
    let gone = |n: usize| {
        let mut update = (*update(1000 + n as u64, "")).clone();
        update.key = StateKey::new(format!("gone{n}")).unwrap();
        update.value = None;
        Arc::new(update)
    };
    let store = open(folder.path()).await;
    commit(&store, 1).await;
    store.merge_state((0..=limits.max_tombstones).map(gone).collect()).await.unwrap();
    let revision = store.state(&room()).await.unwrap().revision;
    store.close().await.unwrap();
    let store = open(folder.path()).await;
    let mut late = (*update(999, "late")).clone();
    late.key = StateKey::new("gone0").unwrap();
    store.merge_state(vec![Arc::new(late)]).await.unwrap();
    let state = store.state(&room()).await.unwrap();
    assert_eq!((state.revision, state.entries.len()), (revision, limits.max_tombstones));
    store.close().await.unwrap();
}

#[tokio::test]
async fn oversized_record_is_refused_and_unwritten() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).await;
    let mut limits = Limits::default();
    limits.max_content_bytes = usize::MAX;
    let mut append = long_post(1, "");
    if let im_core::state::Act::Post { event, .. } = &mut append.act {
        event.content = Content::text(&"z".repeat(5 << 20), &limits).unwrap();
    }
    let error = store.append(vec![append]).await.remove(0).unwrap_err();
    assert!(matches!(error.kind(), StoreErrorKind::Refused(_)), "{error}");
    assert_eq!(store.heads(&[room()]).await.unwrap(), [None]);
    commit(&store, 1).await;
    store.close().await.unwrap();
}

proptest! {
    /// Whatever stands on the disk is read as a record or refused.
    #[test]
    fn reading_damage_only_returns_errors(
        version in prop_oneof![Just(1u8), any::<u8>()],
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        bytes.insert(0, version);
        let room = RoomId::new("room").unwrap();
        let epoch = Epoch { generation: 1, incarnation: 1 };
        let _ = record::read_room(&room, 1, &bytes);
        let _ = record::read_event(&room, epoch, Seq::FIRST, &bytes);
        let _ = record::read_idempotency_record(&bytes);
        let _ = record::read_membership(&bytes);
        let _ = record::read_trace(&bytes);
        let _ = record::event_size(&bytes);
        let _ = record::read_state(&room, &bytes);
        let _ = record::read_state_head(&bytes);
        let _ = record::read_session(&SessionId::new("s").unwrap(), &bytes);
        let _ = record::read_checkpoint(&bytes);
        let _ = crate::parts::open(&bytes);
    }
}

//! Short ways to say what the tests need.

use std::path::Path;
use std::sync::Arc;

use im_core::ports::{Appended, LogRange, RoomLog, StoreResult};
use im_core::state::{Act, Append, Authority, IdempotencyKey, NewEvent, RoomSeed, content_hash};
use im_core::wire::{Content, Event, Limits, Map, PageFrom, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Seq, Timestamp, UserId};

use super::device::Faulty;
use crate::{SledConfig, SledStore};

pub(super) fn room() -> RoomId {
    RoomId::new("room").unwrap()
}

pub(super) fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

pub(super) fn id(n: usize) -> MessageId {
    MessageId::new(format!("message-id-number-{n}")).unwrap()
}

/// Ann's `n`th message to the room, which is made if need be.
pub(super) fn post(n: usize) -> Append {
    long_post(n, &format!("words {n}"))
}

pub(super) fn long_post(n: usize, text: &str) -> Append {
    let kind = EventKind::message();
    let value: Value = Map::from_iter([("text", text)]).into();
    let key = Some(IdempotencyKey { id: id(n), hash: content_hash(&kind, &value) });
    let content = Content::new(&value, &Limits::default()).unwrap();
    let event = NewEvent { from: ann(), kind, content, idempotency_key: key };
    let members = vec![(ann(), Role::Owner)];
    let seed = Some(RoomSeed { kind: RoomKind::Group, open: false, members });
    let act = Act::Post { event, seed };
    let at = Timestamp::from_millis(1);
    Append { room: room(), authority: Authority::Service, act, at, max_members: 10 }
}

pub(super) fn config(path: &Path) -> SledConfig {
    SledConfig::new(path).cache_bytes(1 << 20)
}

pub(super) async fn open(path: &Path) -> SledStore {
    SledStore::open(config(path)).await.unwrap()
}

pub(super) async fn open_on(path: &Path, device: &Arc<Faulty>) -> SledStore {
    SledStore::open_on(config(path), device.clone()).await.unwrap()
}

pub(super) async fn append(store: &SledStore, n: usize) -> StoreResult<Appended> {
    store.append(vec![post(n)]).await.remove(0)
}

/// Appends what must be committed.
pub(super) async fn commit(store: &SledStore, n: usize) -> Arc<Event> {
    match append(store, n).await {
        Ok(Appended::Committed(event)) => event,
        other => panic!("{other:?}"),
    }
}

/// The seq that a send has, whether this was the first or not.
pub(super) fn seq(answer: StoreResult<Appended>) -> u64 {
    match answer {
        Ok(Appended::Committed(event)) => event.seq.get(),
        Ok(Appended::Duplicate { record, .. }) => record.seq.get(),
        Err(error) => panic!("{error:?}"),
    }
}

/// The message ids in the room's log, in its order.
pub(super) async fn log(store: &SledStore) -> Vec<MessageId> {
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 10_000, max_bytes: usize::MAX };
    let page = RoomLog::read(store, &room(), range).await.unwrap();
    let events = page.map(|page| page.events).unwrap_or_default();
    events.iter().map(|event| event.id.clone().unwrap()).collect()
}

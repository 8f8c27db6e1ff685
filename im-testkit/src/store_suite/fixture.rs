//! Short constructors for what the cases need.

use std::sync::Arc;

use im_core::ports::{Appended, LogPage, LogRange, Store, StoreErrorKind, StoreResult};
use im_core::state::{
    Act, Append, Authority, IdempotencyKey, IdempotencyRecord, Intent, NewEvent, Refusal, RoomSeed,
    content_hash,
};
use im_core::wire::{Content, Event, Limits, Map, PageFrom, Role, RoomKind, Value};
use im_core::{Epoch, EventKind, MessageId, RoomId, Seq, SessionId, Timestamp, UserId};

use super::StoreFactory;

pub(super) fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub(super) fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

pub(super) fn session(name: &str) -> SessionId {
    SessionId::new(name).unwrap()
}

/// Returns a message id that ends in `name`.
pub(super) fn mid(name: &str) -> MessageId {
    MessageId::new(format!("message-id-with-{name}")).unwrap()
}

pub(super) fn seq(n: u64) -> Seq {
    Seq::new(n).unwrap()
}

pub(super) fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(super) fn text(text: &str) -> Value {
    Map::from_iter([("text", text)]).into()
}

pub(super) fn packed(value: &Value) -> Content {
    Content::new(value, &Limits::default()).unwrap()
}

pub(super) fn append(room: &RoomId, authority: Authority, act: Act) -> Append {
    Append { room: room.clone(), authority, act, at: at(1_000), max_members: 1_000 }
}

/// A message of `from` without an id.
pub(super) fn post(room: &RoomId, from: &UserId, words: &str) -> Append {
    let content = packed(&text(words));
    let event =
        NewEvent { from: from.clone(), kind: EventKind::message(), content, idempotency_key: None };
    append(room, Authority::User(from.clone()), Act::Post { event, seed: None })
}

/// A message of `from` under `id`.
pub(super) fn keyed(room: &RoomId, from: &UserId, words: &str, id: &MessageId) -> Append {
    let mut append = post(room, from, words);
    if let Act::Post { event, .. } = &mut append.act {
        let hash = content_hash(&EventKind::message(), &text(words));
        event.idempotency_key = Some(IdempotencyKey { id: id.clone(), hash });
    }
    append
}

/// The same append with the authority of the service.
pub(super) fn by_service(mut append: Append) -> Append {
    append.authority = Authority::Service;
    append
}

/// The same append, which creates the room if it is missing.
pub(super) fn seeded(mut append: Append, room: RoomSeed) -> Append {
    if let Act::Post { seed, .. } = &mut append.act {
        *seed = Some(room);
    }
    append
}

/// The first message of one user to another.
pub(super) fn direct(from: &UserId, to: &UserId, words: &str) -> Append {
    let members = vec![(from.clone(), Role::Member), (to.clone(), Role::Member)];
    let seed = RoomSeed { kind: RoomKind::Direct, open: false, members };
    seeded(post(&RoomId::direct(from, to), from, words), seed)
}

pub(super) fn create(
    room: &RoomId,
    kind: RoomKind,
    open: bool,
    members: &[(&UserId, Role)],
) -> Append {
    let members: Vec<_> = members.iter().map(|(user, role)| ((*user).clone(), *role)).collect();
    let by = members.first().map_or_else(|| user("service"), |(user, _)| user.clone());
    append(room, Authority::Service, Act::Create { by, seed: RoomSeed { kind, open, members } })
}

/// A member change by `by`, with the authority of that user.
pub(super) fn change(room: &RoomId, by: &UserId, intent: Intent) -> Append {
    append(room, Authority::User(by.clone()), Act::Change { by: by.clone(), intent })
}

/// Appends a batch of one.
pub(super) async fn one(store: &Arc<dyn Store>, append: Append) -> StoreResult<Appended> {
    let mut answers = store.append(vec![append]).await;
    assert_eq!(answers.len(), 1, "one answer for one append");
    answers.remove(0)
}

#[track_caller]
pub(super) fn committed(answer: StoreResult<Appended>) -> Arc<Event> {
    match answer {
        Ok(Appended::Committed(event)) => event,
        other => panic!("expected a commit, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn duplicate(answer: StoreResult<Appended>) -> (Epoch, IdempotencyRecord) {
    match answer {
        Ok(Appended::Duplicate { epoch, record }) => (epoch, record),
        other => panic!("expected a duplicate, got {other:?}"),
    }
}

#[track_caller]
pub(super) fn refused(answer: StoreResult<Appended>) -> Refusal {
    match answer.map_err(|error| error.kind()) {
        Err(StoreErrorKind::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Appends one that must be committed.
pub(super) async fn commit(store: &Arc<dyn Store>, append: Append) -> Arc<Event> {
    committed(one(store, append).await)
}

/// Creates an open group with an owner.
pub(super) async fn open_group(store: &Arc<dyn Store>, name: &str, owner: &UserId) -> RoomId {
    let room = room(name);
    commit(store, create(&room, RoomKind::Group, true, &[(owner, Role::Owner)])).await;
    room
}

/// Reads a page of a room that must exist.
pub(super) async fn read(
    store: &Arc<dyn Store>,
    room: &RoomId,
    from: PageFrom,
    limit: usize,
) -> LogPage {
    let range = LogRange { from, limit, max_bytes: usize::MAX };
    store.read(room, range).await.unwrap().expect("the room exists")
}

/// Reads all retained events page by page and checks that they are dense from `first` to the head.
pub(super) async fn whole_log(store: &Arc<dyn Store>, room: &RoomId) -> Vec<Arc<Event>> {
    let mut log: Vec<Arc<Event>> = Vec::new();
    loop {
        let after = log.last().map_or(Seq::ZERO, |event| event.seq);
        let page = read(store, room, PageFrom::After(after), 7).await;
        if page.events.is_empty() {
            let end = if log.is_empty() { page.first.prev() } else { after };
            assert_eq!(page.head.seq, end, "the log of {room} ends at another seq than its head");
            return log;
        }
        for event in page.events {
            let expected = log.last().map_or(page.first, |event| event.seq.next());
            assert_eq!(event.seq, expected, "the log of {room} is not dense");
            assert_eq!((&event.room, event.epoch), (room, page.head.epoch));
            log.push(event);
        }
    }
}

/// Returns the seq of the head.
pub(super) async fn head(store: &Arc<dyn Store>, room: &RoomId) -> u64 {
    let heads = store.heads(std::slice::from_ref(room)).await.unwrap();
    heads[0].expect("the room exists").cursor.seq.get()
}

/// Closes and reopens the store. `None` only for stores that declare themselves volatile.
pub(super) async fn reopened<F: StoreFactory>(
    factory: &F,
    store: Arc<dyn Store>,
) -> Option<Arc<dyn Store>> {
    let volatile = store.durability() == im_core::ports::Durability::Volatile;
    store.close().await.expect("the store closes");
    let again = factory.reopen(store).await;
    assert_eq!(again.is_none(), volatile, "only a volatile store cannot be reopened");
    again
}

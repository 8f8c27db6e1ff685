use std::sync::Arc;

use super::*;
use crate::code::Code;
use crate::id::{EventKind, MessageId, NodeId, RoomId, Seq, StateKey, UserId};
use crate::memory::MemoryStore;
use crate::ports::{LogRange, Store};
use crate::state::{
    Act, Append, Authority, IdempotencyKey, Intent, Keep, NewEvent, RoomSeed, content_hash,
};
use crate::time::{Stamp, Timestamp};
use crate::wire::{Content, Event, Limits, Map, PageFrom, Role, RoomKind, StateUpdate, Value};
use proptest::prelude::*;

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new())
}

fn room(name: &str) -> RoomId {
    RoomId::new(name).unwrap()
}

fn ann() -> UserId {
    UserId::new("ann").unwrap()
}

fn pack(value: &Value) -> Content {
    Content::new(value, &Limits::default()).unwrap()
}

async fn append(store: &Arc<dyn Store>, room: &RoomId, act: Act, at: u64) {
    let at = Timestamp::from_millis(at);
    let append =
        Append { room: room.clone(), authority: Authority::Service, act, at, max_members: 100 };
    assert!(store.append(vec![append]).await.remove(0).is_ok());
}

async fn say(store: &Arc<dyn Store>, room: &RoomId, n: u64, value: &Value) {
    let kind = EventKind::message();
    let id = MessageId::new(format!("message-id-number-{n}")).unwrap();
    let key =
        (!n.is_multiple_of(3)).then(|| IdempotencyKey { id, hash: content_hash(&kind, value) });
    let event = NewEvent { from: ann(), kind, content: pack(value), idempotency_key: key };
    append(store, room, Act::Post { event, seed: None }, 1_000 + n).await;
}

/// A room with members, a ban, state, and a message for each of `values`.
async fn filled(store: &Arc<dyn Store>, name: &str, values: &[Value]) -> RoomId {
    let (room, eve) = (room(name), UserId::new("eve 🦀".replace(' ', "-")).unwrap());
    let members = vec![(ann(), Role::Owner), (UserId::new("bob").unwrap(), Role::Reader)];
    let seed = RoomSeed { kind: RoomKind::Channel, open: true, members };
    append(store, &room, Act::Create { by: ann(), seed }, 7).await;
    append(store, &room, Act::Change { by: ann(), intent: Intent::Ban(eve) }, 8).await;
    for (n, value) in (0..).zip(values) {
        say(store, &room, n, value).await;
    }
    let update = |key: &str, value: Option<Value>| {
        Arc::new(StateUpdate {
            room: room.clone(),
            key: StateKey::new(key).unwrap(),
            stamp: Stamp { ms: Timestamp::from_millis(9), counter: 3, node: NodeId(u32::MAX) },
            from: ann(),
            value: value.map(|value| pack(&value)),
        })
    };
    let updates = vec![update("set", Some(Value::Null)), update("unset", None)];
    store.merge_state(updates).await.unwrap();
    room
}

async fn whole(mut export: Export) -> String {
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        assert!(lines.ends_with('\n'));
        text.push_str(&lines);
    }
    text
}

async fn put(store: &Arc<dyn Store>, text: &str) -> crate::Result<Imported> {
    let mut import = Import::new(store.clone());
    for line in text.lines() {
        import.line(line).await?;
    }
    import.finish()
}

async fn log(store: &Arc<dyn Store>, room: &RoomId) -> Vec<Arc<Event>> {
    let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 10_000, max_bytes: usize::MAX };
    store.read(room, range).await.unwrap().unwrap().events
}

/// Asserts that both stores hold the same room, except for its epoch.
async fn same(one: &Arc<dyn Store>, two: &Arc<dyn Store>, room: &RoomId) {
    let (a, b) = (one.room(room).await.unwrap().unwrap(), two.room(room).await.unwrap().unwrap());
    assert_ne!(a.epoch, b.epoch);
    assert_eq!((a.kind, a.open, a.created, a.head), (b.kind, b.open, b.created, b.head));
    assert_eq!((a.first, a.members, a.bytes), (b.first, b.members, b.bytes));
    let (left, right) = (log(one, room).await, log(two, room).await);
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left.content.packed(), right.content.packed(), "byte for byte");
        assert_eq!(**left, Event { epoch: left.epoch, ..(**right).clone() });
        if let Some(id) = &left.id {
            let (sent, again) = (
                one.idempotency_record(room, &left.from, id).await,
                two.idempotency_record(room, &left.from, id).await,
            );
            assert_eq!(sent.unwrap(), again.unwrap());
        }
    }
    let memberships = one.memberships(room, None, 99).await.unwrap();
    assert_eq!(memberships, two.memberships(room, None, 99).await.unwrap());
    let (one, two) = (one.state(room).await.unwrap(), two.state(room).await.unwrap());
    assert_eq!(one.entries, two.entries);
}

fn values() -> Vec<Value> {
    let map = Map::from_iter([
        ("", Value::Int((1 << 53) - 1)),
        ("$bytes", Value::Bytes(vec![0, 255, 7])),
        ("$$", Value::Float(0.1)),
        ("t", Value::from("event")),
        ("z", Value::Float(-1e300)),
        ("a", Value::Float(f64::MIN_POSITIVE)),
    ]);
    vec![
        Value::Null,
        Value::from("\0\u{1}\n\r\u{2028}\"\\ 🦀👩‍👩‍👧‍👦 \u{10ffff}"),
        Value::Bytes((0..=255).collect()),
        Value::Bytes(Vec::new()),
        Value::Array(vec![Value::Bool(true), Value::Int(-((1 << 53) - 1))]),
        map.into(),
    ]
}

#[tokio::test]
async fn exported_rooms_import_unchanged() {
    let (from, to) = (store(), store());
    let rooms = [filled(&from, "r", &values()).await, filled(&from, "用户", &values()).await];
    let keep = Keep { count: Some(4), ..Keep::ALL };
    from.trim(&rooms[1], &keep, 100).await.unwrap();
    let text = whole(Export::all(from.clone())).await;
    let done = put(&to, &text).await.unwrap();
    assert_eq!(done, Imported { rooms: 2, events: 8 + 4 });
    for room in &rooms {
        same(&from, &to, room).await;
    }
    assert_eq!(whole(Export::all(to)).await, text, "and once more");
}

/// One room is exported alone, and a large one in chunks.
#[tokio::test]
async fn single_large_room_exports_in_chunks() {
    let (from, to) = (store(), store());
    let long: Vec<Value> =
        (0..1_500).map(|n| Value::from(format!("{n}: {}", "x".repeat(500)))).collect();
    let room = filled(&from, "long", &long).await;
    filled(&from, "other", &values()).await;
    let mut export = Export::room(from.clone(), &room).await.unwrap();
    let (mut import, mut parts) = (Import::new(to.clone()), 0);
    while let Some(lines) = export.next().await.unwrap() {
        assert!(lines.len() < 1 << 20, "a part is bounded");
        parts += 1;
        for line in lines.lines() {
            import.line(line).await.unwrap();
        }
    }
    assert!(parts > 5);
    assert_eq!((export.exported(), import.finish().unwrap().rooms), (1, 1));
    same(&from, &to, &room).await;
    assert_eq!(to.rooms(None, 9).await.unwrap().len(), 1);
    let missing = Export::room(from, &self::room("none")).await;
    assert_eq!(missing.err().map(|error| error.code()), Some(Code::NotFound));
}

/// A room that is trimmed or deleted during the export has no last line.
#[tokio::test]
async fn room_changed_during_export_is_incomplete() {
    let from = store();
    let long: Vec<Value> = (0..600).map(|n| Value::from(n.to_string())).collect();
    for name in ["a", "b", "c"] {
        filled(&from, name, &long).await;
    }
    let mut export = Export::all(from.clone());
    let (mut text, mut failures) = (String::new(), 0);
    loop {
        match export.next().await {
            Ok(Some(lines)) => text.push_str(&lines),
            Ok(None) => break,
            Err(error) => {
                assert_eq!(error.code(), Code::Trimmed);
                failures += 1;
                continue;
            }
        }
        if failures == 0 && text.contains("\"seq\":100,") {
            let keep = Keep { count: Some(1), ..Keep::ALL };
            from.trim(&room("a"), &keep, 10_000).await.unwrap();
        }
        if failures == 1 && text.matches("\"seq\":100,").count() == 2 {
            from.delete_room(&room("b")).await.unwrap();
        }
    }
    assert_eq!((failures, export.exported()), (2, 1));
    let error = put(&store(), &text).await.unwrap_err();
    assert!(error.message().contains("has no `end` line"), "{error}");
}

/// An import error names its line, and nothing of the room is stored.
#[tokio::test]
async fn import_error_names_its_line() {
    let from = store();
    let room = filled(&from, "r", &values()).await;
    let good = whole(Export::all(from.clone())).await;
    let lines: Vec<&str> = good.lines().collect();
    let without = |n: usize| {
        let kept = lines.iter().enumerate().filter(|(at, _)| *at != n).map(|(_, line)| *line);
        kept.collect::<Vec<_>>().join("\n")
    };
    for (text, words) in [
        (without(0), "line 1: it belongs to no room"),
        (without(lines.len() - 1), "has no `end` line"),
        (without(6), "line 7: seq 3 was expected"),
        (good.replace("\"v\":1", "\"v\":2"), "line 1: version 2"),
        (good.replace("\"seq\":3,", "\"seq\":4,"), "seq 3 was expected, not 4"),
        (good.replacen("\"head\":8", "\"head\":7", 1), "states head 7"),
        (good.replacen("\"user\":\"bob\"", "\"user\":\"ann\"", 1), "each user"),
        (good.replacen("\"hash\":\"", "\"hash\":\"g", 1), "64 hexadecimal digits"),
        (good.replacen("\"hash\"", "\"other\"", 1), "both present or both absent"),
        (good.replacen("\"events\":8", "\"events\":9", 1), "states 9"),
        (good.replacen("\"t\":\"member\"", "\"t\":\"guest\"", 1), "line 2"),
        (good.replacen("{\"t\":\"event\"", "{\"t\":\"event", 1), "line 5"),
        (format!("{}\n{good}", lines[0]), "line 2: the room r before it has no `end` line"),
    ] {
        let to = store();
        let error = put(&to, &text).await.unwrap_err();
        assert!(error.message().contains(words), "{words}: {error}");
        assert_eq!(to.room(&room).await.unwrap(), None, "{words}");
        // The import that failed halfway does not block the next one.
        assert_eq!(put(&to, &good).await.unwrap().rooms, 1);
        same(&from, &to, &room).await;
    }
    assert_eq!(put(&from, &good).await.unwrap_err().code(), Code::Exists);
}

#[tokio::test]
async fn unknown_fields_and_empty_lines_pass() {
    let (from, to) = (store(), store());
    let room = filled(&from, "r", &values()).await;
    let text = whole(Export::all(from.clone())).await;
    let text = text.replace("{\"t\":", "\n{\"later\":[1,{}],\"t\":");
    assert_eq!(put(&to, &text).await.unwrap().rooms, 1);
    same(&from, &to, &room).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Random text within an export is imported or refused.
    #[test]
    fn random_lines_never_panic(text in ".{0,200}", at in 0usize..400) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let from = store();
            filled(&from, "r", &values()).await;
            let good = whole(Export::all(from)).await;
            // A line of its own, and in the middle of a good one.
            let _ = put(&store(), &text).await;
            let at = (0..=at.min(good.len())).rev().find(|at| good.is_char_boundary(*at)).unwrap_or(0);
            let _ = put(&store(), &format!("{}{text}{}", &good[..at], &good[at..])).await;
        });
    }
}

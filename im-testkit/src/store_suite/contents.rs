//! Contents: user data is returned byte for byte.

use im_core::state::{Act, Authority, NewEvent};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, UserId};

use super::StoreFactory;
use super::fixture::*;

/// Appends contents and reads them back, also after a reopen unless the store is volatile.
async fn round_trip<F: StoreFactory>(factory: &F, contents: Vec<Content>) {
    let (mut store, ann) = (factory.open().await, user("ann"));
    let room = open_group(&store, "r", &ann).await;
    for content in &contents {
        let event = NewEvent {
            from: ann.clone(),
            kind: EventKind::message(),
            content: content.clone(),
            idempotency_key: None,
        };
        let send = append(&room, Authority::User(ann.clone()), Act::Post { event, seed: None });
        assert_eq!(commit(&store, send).await.content.packed(), content.packed());
    }
    loop {
        let log = whole_log(&store, &room).await;
        assert_eq!(log.len(), contents.len() + 1);
        for (event, content) in log[1..].iter().zip(&contents) {
            assert_eq!(event.content.packed(), content.packed());
            assert_eq!(event.content.value(), content.value());
        }
        let Some(again) = reopened(factory, store).await else { return };
        store = again;
        // The room exists if an earlier round created it.
        if store.room(&super::fixture::room("seen")).await.unwrap().is_some() {
            return;
        }
        open_group(&store, "seen", &ann).await;
    }
}

/// Texts of all scripts round trip: empty, with NUL, control and combining characters.
pub async fn user_texts_round_trip<F: StoreFactory>(factory: &F) {
    let texts = [
        "",
        " ",
        "\0",
        "a\0b\0",
        "\r\n\t\u{7f}\u{85}",
        "🦀👩‍👩‍👧‍👦🏳️‍🌈",
        "\u{202e}txet desrever\u{202c}",
        "\u{200f}\u{200e}\u{2066}\u{2069}\u{feff}",
        "e\u{301} and \u{e9} are not the same",
        "שלום — مرحبا — 你好 — สวัสดี",
        "\u{10ffff}\u{fffd}\u{fffe}",
        "'; DROP TABLE events; --",
        "\\u0000 %00 %s {} ${x}",
    ];
    round_trip(factory, texts.iter().map(|words| packed(&text(words))).collect()).await;
}

/// Contents of the maximum size round trip.
pub async fn largest_content_round_trips<F: StoreFactory>(factory: &F) {
    let max = Limits::default().max_content_bytes;
    let around = packed(&text(&"x".repeat(1_000))).packed().len() - 1_000;
    let largest = packed(&text(&"x".repeat(max - around)));
    assert_eq!(largest.packed().len(), max);
    let crabs = packed(&text(&"🦀".repeat((max - around) / 4)));
    let bytes: Vec<u8> = (0..=255).cycle().take(max - 8).collect();
    round_trip(factory, vec![largest, crabs, packed(&Value::Bytes(bytes))]).await;
}

/// Every kind of value round trips, at its extremes and at the maximum depth.
pub async fn every_value_kind_round_trips<F: StoreFactory>(factory: &F) {
    let mut nested = Value::Null;
    for _ in 0..Limits::default().max_depth {
        nested = Value::Array(vec![nested]);
    }
    let map = Map::from_iter([
        ("", Value::Int((1 << 53) - 1)),
        ("$bytes", Value::Bytes(vec![0, 255])),
        ("z", Value::Float(0.1)),
        ("a", Value::Float(-1e300)),
        ("ключ", Value::Bool(false)),
    ]);
    let values = [
        Value::Null,
        Value::Bool(true),
        Value::Int(-((1 << 53) - 1)),
        Value::Float(f64::MIN_POSITIVE),
        Value::from(""),
        Value::Bytes(Vec::new()),
        Value::Array(Vec::new()),
        Map::default().into(),
        map.into(),
        nested,
    ];
    round_trip(factory, values.iter().map(packed).collect()).await;
}

/// Ids of the maximum length round trip, in keys and in values.
pub async fn the_longest_ids_are_kept<F: StoreFactory>(factory: &F) {
    let store = factory.open().await;
    let filled = |max: usize| "字".repeat(max / 3) + &"x".repeat(max % 3);
    let from = user(&filled(UserId::MAX_LEN));
    let group = room(&filled(RoomId::MAX_LEN));
    commit(&store, create(&group, RoomKind::Group, true, &[(&from, Role::Owner)])).await;
    let id = MessageId::new("i".repeat(MessageId::MAX_LEN)).unwrap();
    let sent = commit(&store, keyed(&group, &from, "x", &id)).await;
    assert_eq!(whole_log(&store, &group).await[1], sent);
    assert_eq!(duplicate(one(&store, keyed(&group, &from, "x", &id)).await).1.seq, sent.seq);
    let listed = store.rooms_of(&from, None, 10).await.unwrap();
    assert_eq!(listed, [(group.clone(), RoomKind::Group, Role::Owner)]);
    let members = store.members(&group, None, 10).await.unwrap();
    assert_eq!(members, [(from, Role::Owner)]);
}

/// A room can start with a thousand members in one event.
pub async fn room_may_start_with_thousand_members<F: StoreFactory>(factory: &F) {
    let (store, room) = (factory.open().await, room("r"));
    let users: Vec<_> = (0..1_000).map(|n| user(&format!("{n:04}{}", "x".repeat(60)))).collect();
    let members: Vec<_> = users.iter().map(|user| (user, Role::Member)).collect();
    let event = commit(&store, create(&room, RoomKind::Group, false, &members)).await;
    assert_eq!(event.member_changes().len(), 1_000);
    assert_eq!(whole_log(&store, &room).await, [event]);
    let listed = store.members(&room, None, 2_000).await.unwrap();
    assert_eq!(listed.into_iter().map(|(user, _)| user).collect::<Vec<_>>(), users);
    assert_eq!(store.room(&room).await.unwrap().unwrap().members, 1_000);
}

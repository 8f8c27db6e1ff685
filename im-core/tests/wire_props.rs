//! Properties of the wire: every value survives both encodings alike, and no input makes the
//! decoder panic or build more than the limits allow.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use bytes::Bytes;
use im_core::EventKind;
use im_core::state::content_hash;
use im_core::wire::{
    Command, Content, Encoding, Limits, Map, ServerFrame, Value, decode, encode, encode_batch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Lists and maps around a content, and the object that represents bytes in JSON.
const AROUND_CONTENT: usize = 5;

fn float() -> impl Strategy<Value = Value> {
    // Any bits, and numbers near the edge of the integers.
    let edge = (9_007_199_254_740_980_u64..9_007_199_254_741_000).prop_map(|n| n as f64);
    prop_oneof![any::<u64>().prop_map(f64::from_bits), edge, any::<f64>()]
        .prop_filter_map("not finite", Value::number)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "", "$", "$$", "$bytes", "$$bytes", "text", "\u{0}", "\"", "\\", "é", "e\u{301}"
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Value::Int),
        (-300_i64..300).prop_map(Value::Int),
        float(),
        any::<String>().prop_map(Value::from),
        vec(any::<u8>(), 0..300).prop_map(Value::Bytes),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(8, 64, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..18).prop_map(Value::Array),
            vec((key(), inner), 0..18)
                .prop_map(|entries| Value::Map(entries.into_iter().collect())),
        ]
    })
}

fn frame(value: Value) -> Value {
    Map::from_iter([("content", value)]).into()
}

fn small() -> Limits {
    let mut limits = Limits::default();
    limits.max_message_bytes = 4096;
    limits.max_depth = 6;
    limits.max_values = 60;
    limits.max_batch = 5;
    limits
}

/// Limits on depth alone, for values that become large by chance.
fn roomy() -> Limits {
    let mut limits = Limits::default();
    limits.max_message_bytes = 1 << 22;
    limits.max_values = 1 << 20;
    limits.max_content_bytes = 1 << 22;
    limits
}

/// Decodes, and checks the invariants of every decoded message. Returns the frames.
fn checked(bytes: &[u8], encoding: Encoding, limits: &Limits) -> Vec<Value> {
    let Ok(frames) = decode(bytes, encoding, limits) else { return Vec::new() };
    assert!(!frames.is_empty() && frames.len() <= limits.max_batch);
    assert!(bytes.len() <= limits.max_message_bytes);
    assert!(frames.iter().map(Value::count).sum::<usize>() <= limits.max_values);
    for frame in &frames {
        assert!(frame.depth() <= limits.max_depth + AROUND_CONTENT);
        assert!(frame.is_well_formed());
        let _ = Command::from_value(frame.clone());
        let _ = ServerFrame::from_value(frame.clone());
    }
    // A decoded message decodes to the same value in its canonical form.
    let again = decode(&encode_batch(&frames, encoding), encoding, &roomy());
    assert_eq!(again.as_ref(), Ok(&frames));
    frames
}

#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Insert(usize, u8),
    Cut(usize),
    Drop(usize, usize),
    Copy(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Flip(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        at().prop_map(Damage::Cut),
        (at(), 1_usize..9).prop_map(|(at, n)| Damage::Drop(at, n)),
        (at(), 1_usize..40).prop_map(|(at, n)| Damage::Copy(at, n)),
    ]
}

fn apply(damage: &[Damage], bytes: &mut Vec<u8>) {
    for one in damage {
        let len = bytes.len().max(1);
        match *one {
            _ if bytes.is_empty() => bytes.push(0x91),
            Damage::Flip(at, byte) => bytes[at % len] ^= byte,
            Damage::Insert(at, byte) => bytes.insert(at % len, byte),
            Damage::Cut(at) => bytes.truncate(at % len),
            Damage::Drop(at, n) => drop(bytes.drain(at % len..(at % len + n).min(len))),
            Damage::Copy(at, n) => {
                let part = bytes[at % len..(at % len + n).min(len)].to_vec();
                bytes.splice(at % len..at % len, part);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// A value survives both encodings with one content hash.
    #[test]
    fn values_round_trip_in_both_encodings(value in value()) {
        let kind = EventKind::message();
        let hash = content_hash(&kind, &value);
        for encoding in Encoding::ALL {
            let bytes = encode(&frame(value.clone()), encoding);
            let mut frames = decode(&bytes, encoding, &roomy()).unwrap();
            prop_assert_eq!(frames.len(), 1);
            let back = frames.remove(0).get("content").cloned().unwrap();
            prop_assert_eq!(&back, &value);
            prop_assert_eq!(content_hash(&kind, &back), hash);
            prop_assert_eq!(encode(&frame(back), encoding), bytes);
        }
        let content = Content::new(&value, &roomy()).unwrap();
        prop_assert_eq!(content.value(), value);
        prop_assert_eq!(&Content::from_packed(content.packed().clone()).unwrap(), &content);
    }

    #[test]
    fn encodings_measure_values_alike(value in value()) {
        let frame = frame(value);
        let mut limits = roomy();
        let plain = !format!("{frame:?}").contains("Bytes(");
        limits.max_values = frame.count();
        for encoding in Encoding::ALL {
            // In JSON, bytes are an object with a member: one value more.
            if plain || encoding == Encoding::MsgPack {
                prop_assert!(decode(&encode(&frame, encoding), encoding, &limits).is_ok());
            }
        }
        limits.max_values -= 1;
        for encoding in Encoding::ALL {
            let code = decode(&encode(&frame, encoding), encoding, &limits).unwrap_err().code;
            prop_assert_eq!(code, im_core::Code::TooMany);
        }
    }

    /// Decoding random bytes neither panics nor exceeds the limits.
    #[test]
    fn random_bytes_stay_within_limits(bytes in vec(any::<u8>(), 0..600)) {
        for encoding in Encoding::ALL {
            checked(&bytes, encoding, &small());
        }
        let _ = Content::from_packed(Bytes::from(bytes));
    }

    /// Decoding random MessagePack headers neither panics nor exceeds the limits.
    #[test]
    fn random_headers_stay_within_limits(
        heads in vec(prop_oneof![
            select(vec![0xc0_u8, 0xc1, 0xc2, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xcb, 0xcf, 0xd3, 0xd4, 0xd8,
                0xd9, 0xda, 0xdb, 0xdc, 0xdd, 0xde, 0xdf]),
            0x80_u8..0xa4,
            any::<u8>(),
            Just(0),
        ], 0..80),
    ) {
        checked(&heads, Encoding::MsgPack, &small());
    }

    /// Decoding random JSON tokens neither panics nor exceeds the limits.
    #[test]
    fn random_tokens_stay_within_limits(
        tokens in vec(select(vec!["[", "]", "{", "}", ",", ":", "\"", "\\", "\"a\":", "\"$bytes\":\"AA==\"", "\"$\":1",
            "\"b\"", "1", "-", "0", "e", ".", "1e400", "9007199254740993", "null", "true", " ", "\n", "\\ud800", "é"]), 0..80),
    ) {
        checked(tokens.concat().as_bytes(), Encoding::Json, &small());
    }

    /// Decoding damaged messages neither panics nor exceeds the limits.
    #[test]
    fn damaged_messages_stay_within_limits(
        values in vec(value(), 1..4),
        damage in vec(damage(), 0..4),
    ) {
        let frames: Vec<Value> = values.into_iter().map(frame).collect();
        for encoding in Encoding::ALL {
            let mut bytes = encode_batch(&frames, encoding).to_vec();
            apply(&damage, &mut bytes);
            checked(&bytes, encoding, &small());
            checked(&bytes, encoding, &Limits::default());
        }
    }
}

/// Fields with values that fit, nearly fit, or do not.
fn field() -> impl Strategy<Value = (&'static str, Value)> {
    let texts = select(vec![
        "r",
        "dm:1",
        "user:u",
        "u",
        "1f.2",
        "1-2-3",
        "0190b3f4-5c6d-7e8f-9a0b-1c2d3e4f5a6b",
        "message",
        "im.members",
        "group",
        "channel",
        "owner",
        "reader",
        "add",
        "remove",
        "ban",
        "unban",
        "ok",
        "gap",
        "denied",
        "",
        "a b",
        "ff",
    ]);
    let text = texts.prop_map(Value::from);
    let int =
        select(vec![0_i64, 1, 2, 50, 4000, 4524, 9_007_199_254_740_991, -1]).prop_map(Value::Int);
    let cursor =
        (text.clone(), text.clone(), int.clone()).prop_map(|(a, b, c)| Value::Array(vec![a, b, c]));
    let names = select(vec![
        "id", "room", "to", "peer", "user", "token", "v", "device", "session", "secret", "client",
        "kind", "open", "members", "act", "role", "after", "before", "limit", "since", "epoch",
        "cursors", "rev", "mid", "content", "key", "value", "stamp", "from", "at", "seq", "gen",
        "entries", "more", "status", "cursor", "head", "code", "msg", "retry_ms", "future",
    ]);
    (
        names,
        prop_oneof![4 => text, 4 => int, 2 => vec(cursor, 0..3).prop_map(Value::Array), 1 => value()],
    )
}

/// A frame in which the fields that are read most often are valid.
fn plausible() -> impl Strategy<Value = Value> {
    let kinds = select(vec![
        "hello",
        "ping",
        "refresh",
        "logout",
        "create",
        "join",
        "leave",
        "member",
        "members",
        "rooms",
        "subscribe",
        "unsubscribe",
        "resume",
        "checkpoint",
        "send",
        "signal",
        "put_state",
        "remove_state",
        "history",
        "sessions",
        "kick",
        "ok",
        "err",
        "event",
        "state",
        "snapshot",
        "room",
        "disconnect",
        "what",
    ]);
    (kinds, vec(field(), 0..6), any::<u16>()).prop_map(|(kind, fields, sound)| {
        let mut map = Map::from_iter([("t", Value::from(kind)), ("id", Value::Int(7))]);
        let defaults = [
            ("room", Value::from("r")),
            ("user", "u".into()),
            ("from", "u".into()),
            ("mid", "0123456789abcdef".into()),
            ("content", Value::Null),
            ("at", Value::Int(1)),
            ("kind", "message".into()),
            ("epoch", "1f.2".into()),
            ("seq", Value::Int(3)),
            ("key", "k".into()),
            ("stamp", "1-2-3".into()),
            ("act", "add".into()),
            ("more", false.into()),
        ];
        for (bit, (name, value)) in defaults.into_iter().enumerate() {
            if sound & (1 << bit) != 0 {
                map.insert(name, value);
            }
        }
        fields.into_iter().for_each(|(name, value)| map.insert(name, value));
        map.into()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn decoded_frames_survive_reencoding(value in plausible()) {
        if let Ok(command) = Command::from_value(value.clone()) {
            prop_assert_eq!(Command::from_value(command.to_value()), Ok(command.clone()));
            for encoding in Encoding::ALL {
                let bytes = encode(&command.to_value(), encoding);
                let back = decode(&bytes, encoding, &roomy()).unwrap().remove(0);
                prop_assert_eq!(Command::from_value(back), Ok(command.clone()));
            }
        }
        if let Ok(ServerFrame::Push(push)) = ServerFrame::from_value(value) {
            for encoding in Encoding::ALL {
                let bytes = encode(&push.to_value(), encoding);
                let back = decode(&bytes, encoding, &roomy()).unwrap().remove(0);
                prop_assert_eq!(ServerFrame::from_value(back), Ok(ServerFrame::Push(push.clone())));
            }
        }
    }
}

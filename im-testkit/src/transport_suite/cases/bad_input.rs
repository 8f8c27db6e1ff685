//! Bad input: each kind is refused with its code, and other connections are unaffected.

use std::sync::Arc;

use im_core::ports::{ManualClock, TokenBuckets};
use im_core::wire::{CommandBody, Encoding, Map, Value, encode};
use im_core::{Code, MessageId, Timestamp};

use super::bystander::Bystander;
use super::*;

/// A valid send to the room `r`, with this content.
fn send(content: Value) -> Value {
    let mut map =
        Map::from_iter([("t", "send"), ("room", "r"), ("mid", MessageId::random().as_str())]);
    map.insert("id", Value::Int(7));
    map.insert("content", content);
    map.into()
}

/// The frame's bytes, with the first `from` in them replaced by `to`.
fn doctored(frame: &Value, encoding: Encoding, from: &[u8], to: &[u8]) -> Vec<u8> {
    let bytes = encode(frame, encoding);
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("`from` is in the frame");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

/// Checks that the message closes its connection with `code`, stores nothing and affects no other.
async fn closes<F: TransportFactory>(
    shape: Shape,
    code: Code,
    message: impl Fn(Encoding) -> Vec<u8>,
) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    // With two encodings, both are tried.
    for n in 0..2 {
        let mut offender = world.nth_peer(n, "ann").await;
        let bytes = message(offender.encoding);
        offender.send_raw(bytes).await;
        offender.ended_with(code).await;
    }
    assert_eq!(world.head(&r).await.seq, seq(1), "nothing was stored");
    bystander.ends_untouched(&world).await;
}

/// Checks that the frame is refused with `code`, stores nothing and leaves the connection open.
async fn refuses<F: TransportFactory>(shape: Shape, code: Code, frame: impl Fn() -> Value) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    for n in 0..2 {
        let mut offender = world.nth_peer(n, "ann").await;
        let Value::Map(fields) = frame() else { panic!("a frame is a map") };
        let kind = fields.get("t").and_then(Value::as_text).unwrap().to_owned();
        let fields = ["room", "mid", "content", "key", "value"]
            .map(|name| (name, fields.get(name).cloned()));
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let id = offender.send_frame(&kind, fields).await;
        assert_eq!(offender.code(id).await, code);
        assert_eq!(offender.ping().await, Ok(()));
    }
    assert_eq!(world.head(&r).await.seq, seq(1), "nothing was stored");
    bystander.ends_untouched(&world).await;
}

/// A truncated message closes with 4500.
pub async fn broken_messages_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| match encoding {
        Encoding::Json => br#"{"t":"ping","id":"#.to_vec(),
        Encoding::MsgPack => vec![0x82, 0xa1, b't', 0xa4, b'p', b'i'],
    })
    .await;
}

/// Mismatched brackets, or a length beyond the message, close with 4500.
pub async fn lying_lengths_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| match encoding {
        Encoding::Json => b"[{}}".to_vec(),
        Encoding::MsgPack => vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
    })
    .await;
}

/// Bytes after the end of a frame in one message close with 4500.
pub async fn trailing_input_closes<F: TransportFactory>(shape: Shape) {
    let ping = Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1))]).into();
    closes::<F>(shape, Code::Malformed, move |encoding| {
        let once = encode(&ping, encoding);
        [&once[..], &once[..]].concat()
    })
    .await;
}

/// A message without bytes closes with 4500.
pub async fn an_empty_message_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |_| Vec::new()).await;
}

/// Text that is not UTF-8 closes with 4500.
pub async fn invalid_utf8_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| {
        doctored(&send(says("@@")), encoding, b"@@", b"\xff\xfe")
    })
    .await;
}

/// A value that is neither a frame nor a batch of frames closes with 4500.
pub async fn non_frame_value_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| encode(&Value::Int(5), encoding).to_vec()).await;
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&Value::Array(vec![Value::Null]), encoding).to_vec()
    })
    .await;
}

/// A batch without frames closes with 4500.
pub async fn an_empty_batch_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&Value::Array(vec![]), encoding).to_vec()
    })
    .await;
}

/// A map with a duplicate key closes with 4500.
pub async fn duplicate_key_closes<F: TransportFactory>(shape: Shape) {
    let frame = || {
        Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1)), ("ie", Value::Int(2))])
            .into()
    };
    closes::<F>(shape, Code::Malformed, |encoding| doctored(&frame(), encoding, b"ie", b"id"))
        .await;
}

/// Integers of 2^53 and more, or -2^53 and less, close with 4500.
pub async fn integers_that_no_encoding_carries_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&send(Value::Int(1 << 53)), encoding).to_vec()
    })
    .await;
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&send(Value::Int(-(1 << 53))), encoding).to_vec()
    })
    .await;
}

/// Numbers that are not finite close with 4500.
pub async fn numbers_that_are_not_finite_close<F: TransportFactory>(shape: Shape) {
    let infinity = |encoding| match encoding {
        Encoding::Json => doctored(&send(Value::Float(1.5)), encoding, b"1.5", b"1e999"),
        Encoding::MsgPack => {
            let from = 1.5_f64.to_be_bytes();
            doctored(&send(Value::Float(1.5)), encoding, &from, &f64::INFINITY.to_be_bytes())
        }
    };
    closes::<F>(shape, Code::Malformed, infinity).await;
}

/// A message in another encoding than the agreed one closes with 4501.
pub async fn the_other_encoding_closes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    for n in 0..2 {
        let mut offender = world.nth_peer(n, "ann").await;
        let other =
            Encoding::ALL.into_iter().find(|encoding| *encoding != offender.encoding).unwrap();
        let ping = Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1))]).into();
        offender.send_raw_as(encode(&ping, other), other).await;
        offender.ended_with(Code::WrongEncoding).await;
    }
    bystander.ends_untouched(&world).await;
}

fn large() -> Value {
    send(Value::from("x".repeat(70_000)))
}

/// A message over the size limit closes with 4506.
pub async fn a_message_over_the_limit_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::TooLarge, |encoding| encode(&large(), encoding).to_vec()).await;
}

/// A message over the size limit closes with 4506, also if it arrives in pieces.
pub async fn oversized_message_in_pieces_closes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut offender = world.peer("ann").await;
    let bytes = encode(&large(), offender.encoding);
    offender.send_raw_in_pieces(bytes, 10).await;
    offender.ended_with(Code::TooLarge).await;
    bystander.ends_untouched(&world).await;
}

/// A valid message is accepted if it arrives in pieces.
pub async fn valid_message_in_pieces_is_accepted<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann"]).await;
    let mut ann = world.peer("ann").await;
    ann.subscribe(&r, None).await.unwrap();
    let bytes = encode(&send(says("in pieces")), ann.encoding);
    ann.expect_answer(7);
    ann.send_raw_in_pieces(bytes, 5).await;
    assert_eq!(ann.heard().await, "in pieces");
}

/// Values nested over the limit of a message close with 4507, without a stack overflow.
pub async fn values_that_nest_too_deeply_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::TooDeep, |encoding| encode(&send(nested(60)), encoding).to_vec())
        .await;
    closes::<F>(shape, Code::TooDeep, |encoding| match encoding {
        Encoding::Json => vec![b'['; 60_000],
        Encoding::MsgPack => vec![0x91; 60_000],
    })
    .await;
}

/// A message with too many values closes with 4508.
pub async fn too_many_values_close<F: TransportFactory>(shape: Shape) {
    let many = || send(Value::Array(vec![Value::Int(1); 9_000]));
    closes::<F>(shape, Code::TooMany, |encoding| encode(&many(), encoding).to_vec()).await;
}

/// A batch with too many frames closes with 4508.
pub async fn too_many_frames_close<F: TransportFactory>(shape: Shape) {
    let ping = || Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1))]).into();
    let batch = || Value::Array((0..65).map(|_| ping()).collect());
    closes::<F>(shape, Code::TooMany, |encoding| encode(&batch(), encoding).to_vec()).await;
}

/// A content nested over its limit is refused with 4507; the connection stays open.
pub async fn deeply_nested_content_is_refused<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Code::TooDeep, || send(nested(17))).await;
}

/// A content over its size limit is refused with 4506; the connection stays open.
pub async fn oversized_content_is_refused<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Code::TooLarge, || send(Value::from("x".repeat(40_000)))).await;
}

/// A state value over its size limit is refused with 4506; the connection stays open.
pub async fn oversized_state_value_is_refused<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Code::TooLarge, || {
        let large = Value::from("x".repeat(40_000));
        Map::from_iter([
            ("t", Value::from("put_state")),
            ("room", "r".into()),
            ("key", "k".into()),
            ("value", large),
        ])
        .into()
    })
    .await;
}

/// Commands over the rate are refused with 4200 and a retry delay; a flood then closes the
/// connection.
pub async fn command_flood_is_slowed_then_disconnected<F: TransportFactory>(shape: Shape) {
    let setup = Setup {
        // `hello` counts against the rate, too.
        limiter: Arc::new(TokenBuckets::new(1, 6)),
        clock: Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000))),
        config: EngineConfig::default().max_flood(10),
        ..Setup::default()
    };
    let world = World::<F>::with(shape, setup).await;
    let bystander = Bystander::new(&world).await;
    let mut offender = world.peer("ann").await;
    for _ in 0..5 {
        assert_eq!(offender.ping().await, Ok(()));
    }
    for _ in 0..10 {
        let id = offender.begin(CommandBody::Ping).await;
        let refusal = offender.answer(id).await.unwrap_err();
        assert_eq!(Code::from_number(refusal.code), Some(Code::RateLimited));
        assert!(refusal.retry_after.is_some(), "the refusal has a retry delay");
    }
    offender.begin(CommandBody::Ping).await;
    offender.ended_with(Code::RateLimited).await;
    bystander.ends_untouched(&world).await;
}

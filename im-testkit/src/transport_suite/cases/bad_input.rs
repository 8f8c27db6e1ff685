//! What must not be, each with its number. The offender is told; a bystander notices nothing.

use std::sync::Arc;

use im_core::ports::{ManualClock, TokenBuckets};
use im_core::wire::{CommandBody, Encoding, Map, Value, encode};
use im_core::{Code, MessageId, Timestamp};

use super::bystander::Bystander;
use super::*;

/// A good send to the room `r`, with this content.
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
    let at =
        bytes.windows(from.len()).position(|window| window == from).expect("the mark is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}

/// What is sent makes the server close with the code, and nobody else notices.
async fn closes<F: TransportFactory>(
    shape: Shape,
    code: Code,
    message: impl Fn(Encoding) -> Vec<u8>,
) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let r = world.group("r", &["ann"]).await;
    // Where there are two encodings, both are tried.
    for n in 0..2 {
        let mut offender = world.nth_peer(n, "ann").await;
        let bytes = message(offender.encoding);
        offender.send_raw(bytes).await;
        offender.ended_with(code).await;
    }
    assert_eq!(world.head(&r).await.seq, seq(1), "nothing was kept");
    bystander.ends_untouched(&world).await;
}

/// What is sent is refused with the code, the connection lives, and nothing is kept.
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
    assert_eq!(world.head(&r).await.seq, seq(1), "nothing was kept");
    bystander.ends_untouched(&world).await;
}

pub async fn broken_messages_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| match encoding {
        Encoding::Json => br#"{"t":"ping","id":"#.to_vec(),
        Encoding::MsgPack => vec![0x82, 0xa1, b't', 0xa4, b'p', b'i'],
    })
    .await;
}

pub async fn lying_lengths_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| match encoding {
        Encoding::Json => b"[{}}".to_vec(),
        Encoding::MsgPack => vec![0xdb, 0xff, 0xff, 0xff, 0xff, b'x'],
    })
    .await;
}

/// Input behind the end of a frame in one message ends the connection.
pub async fn trailing_input_closes<F: TransportFactory>(shape: Shape) {
    let ping = Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1))]).into();
    closes::<F>(shape, Code::Malformed, move |encoding| {
        let once = encode(&ping, encoding);
        [&once[..], &once[..]].concat()
    })
    .await;
}

pub async fn an_empty_message_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |_| Vec::new()).await;
}

pub async fn invalid_utf8_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| {
        doctored(&send(says("@@")), encoding, b"@@", b"\xff\xfe")
    })
    .await;
}

pub async fn non_frame_value_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| encode(&Value::Int(5), encoding).to_vec()).await;
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&Value::Array(vec![Value::Null]), encoding).to_vec()
    })
    .await;
}

pub async fn an_empty_batch_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::Malformed, |encoding| {
        encode(&Value::Array(vec![]), encoding).to_vec()
    })
    .await;
}

pub async fn duplicate_key_closes<F: TransportFactory>(shape: Shape) {
    let frame = || {
        Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1)), ("ie", Value::Int(2))])
            .into()
    };
    closes::<F>(shape, Code::Malformed, |encoding| doctored(&frame(), encoding, b"ie", b"id"))
        .await;
}

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

pub async fn a_message_over_the_limit_closes<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::TooLarge, |encoding| encode(&large(), encoding).to_vec()).await;
}

pub async fn oversized_message_in_pieces_closes<F: TransportFactory>(shape: Shape) {
    let world = World::<F>::new(shape).await;
    let bystander = Bystander::new(&world).await;
    let mut offender = world.peer("ann").await;
    let bytes = encode(&large(), offender.encoding);
    offender.send_raw_in_pieces(bytes, 10).await;
    offender.ended_with(Code::TooLarge).await;
    bystander.ends_untouched(&world).await;
}

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

pub async fn values_that_nest_too_deeply_close<F: TransportFactory>(shape: Shape) {
    closes::<F>(shape, Code::TooDeep, |encoding| encode(&send(nested(60)), encoding).to_vec())
        .await;
    closes::<F>(shape, Code::TooDeep, |encoding| match encoding {
        Encoding::Json => vec![b'['; 60_000],
        Encoding::MsgPack => vec![0x91; 60_000],
    })
    .await;
}

pub async fn too_many_values_close<F: TransportFactory>(shape: Shape) {
    let many = || send(Value::Array(vec![Value::Int(1); 9_000]));
    closes::<F>(shape, Code::TooMany, |encoding| encode(&many(), encoding).to_vec()).await;
}

pub async fn too_many_frames_close<F: TransportFactory>(shape: Shape) {
    let ping = || Map::from_iter([("t", Value::from("ping")), ("id", Value::Int(1))]).into();
    let batch = || Value::Array((0..65).map(|_| ping()).collect());
    closes::<F>(shape, Code::TooMany, |encoding| encode(&batch(), encoding).to_vec()).await;
}

pub async fn deeply_nested_content_is_refused<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Code::TooDeep, || send(nested(17))).await;
}

pub async fn oversized_content_is_refused<F: TransportFactory>(shape: Shape) {
    refuses::<F>(shape, Code::TooLarge, || send(Value::from("x".repeat(40_000)))).await;
}

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

pub async fn command_flood_is_slowed_then_disconnected<F: TransportFactory>(shape: Shape) {
    let setup = Setup {
        // The hello counts as well.
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
        assert!(refusal.retry_after.is_some(), "it says when to come back");
    }
    offender.begin(CommandBody::Ping).await;
    offender.ended_with(Code::RateLimited).await;
    bystander.ends_untouched(&world).await;
}

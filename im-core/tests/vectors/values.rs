//! Values in both encodings, and the content hash of the idempotency key.

use std::collections::BTreeSet;

use im_core::EventKind;
use im_core::state::content_hash;
use im_core::wire::{Content, ContentError, Encoding, Limits, Map, Value, decode, encode};
use serde::{Deserialize, Serialize};

use super::{from_clients, golden, hex, unhex};

/// A content in every form in which it may be submitted.
#[derive(Serialize, Deserialize)]
struct Hashed {
    name: String,
    kind: String,
    /// Each is the value alone, without a frame around it. The first is the canonical form.
    json: Vec<String>,
    msgpack: Vec<String>,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct File {
    about: String,
    contents: Vec<Hashed>,
}

const ABOUT: &str = "Contents of sends. All forms of one entry are the same content and have the same hash; no two \
    entries have the same. The first of each list is what the reference implementation writes. msgpack is hexadecimal.";

fn hashed(name: &str, kind: &str, value: &Value, json: &[&str], msgpack: &[&str]) -> Hashed {
    let canonical_json = String::from_utf8(encode(value, Encoding::Json).to_vec()).unwrap();
    let others = |list: &[&str]| list.iter().map(|form| (*form).to_owned()).collect::<Vec<_>>();
    let hash = content_hash(&EventKind::new(kind).unwrap(), value);
    Hashed {
        name: name.into(),
        kind: kind.into(),
        json: [vec![canonical_json], others(json)].concat(),
        msgpack: [vec![hex(&encode(value, Encoding::MsgPack))], others(msgpack)].concat(),
        sha256: hex(&hash.0),
    }
}

fn map(entries: &[(&'static str, Value)]) -> Value {
    entries.iter().cloned().collect::<Map>().into()
}

fn contents() -> Vec<Hashed> {
    let plain = |name, value: Value, json: &[&str], packed: &[&str]| {
        hashed(name, "message", &value, json, packed)
    };
    let text = map(&[("text", "hello".into())]);
    let int = Value::Int;
    vec![
        plain("null", Value::Null, &[" null "], &[]),
        plain("true", true.into(), &[], &[]),
        plain("false", false.into(), &[], &[]),
        plain(
            "zero",
            int(0),
            &["-0", "0.0", "-0.0", "0e9"],
            &["cc00", "d000", "cb8000000000000000", "ca00000000"],
        ),
        plain(
            "one",
            int(1),
            &["1.0", "1e0", "10e-1"],
            &["d30000000000000001", "cb3ff0000000000000", "ca3f800000"],
        ),
        plain(
            "minus one",
            int(-1),
            &["-1.0"],
            &["d0ff", "d1ffff", "d2ffffffff", "cbbff0000000000000"],
        ),
        plain(
            "a hundred thousand",
            int(100_000),
            &["1e5", "1E+5", "100000.0"],
            &["cb40f86a0000000000"],
        ),
        plain(
            "the largest integer",
            int(9_007_199_254_740_991),
            &["9007199254740991.0"],
            &["cb433fffffffffffff"],
        ),
        plain("the smallest integer", int(-9_007_199_254_740_991), &[], &[]),
        plain(
            "2^53 as a float",
            Value::Float(9_007_199_254_740_992.0),
            &["9007199254740992e0"],
            &[],
        ),
        plain("one and a half", Value::Float(1.5), &["15e-1", "1.50"], &["ca3fc00000"]),
        plain("a tenth", Value::Float(0.1), &["1e-1", "0.1000000000000000055511151231257827"], &[]),
        plain("17 digits", Value::Float(0.300_000_000_000_000_04), &[], &[]),
        plain(
            "a float that loses its last bit in hasty parsers",
            Value::Float(5.6214243962833445e-93),
            &[],
            &[],
        ),
        plain("the smallest float", Value::Float(5e-324), &["4.9e-324"], &[]),
        plain("the largest float", Value::Float(f64::MAX), &["179769313486231570e291"], &[]),
        plain("1e21", Value::Float(1e21), &["1e+21", "1000000000000000000000.0"], &[]),
        plain("empty text", "".into(), &[], &["d900"]),
        plain("a", "a".into(), &[r#""\u0061""#], &["d90161", "da000161", "db0000000161"]),
        plain("e with an accent", "é".into(), &[r#""\u00e9""#], &[]),
        plain("e and an accent", "e\u{301}".into(), &[], &[]),
        plain("beyond the first plane", "\u{1f600}".into(), &[r#""\ud83d\ude00""#], &[]),
        plain(
            "escapes",
            "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{2028}".into(),
            &[r#""\u0022\u005c\/\u0008\u000c\u000a\u000d\u0009\u0000\u001f\u007f\u2028""#],
            &[],
        ),
        plain("32 bytes of text", "x".repeat(32).into(), &[], &[]),
        plain("256 bytes of text", "x".repeat(256).into(), &[], &[]),
        plain("no bytes", Value::Bytes(vec![]), &[], &["c50000"]),
        plain(
            "bytes of a",
            Value::Bytes(b"a".to_vec()),
            &[r#"{"\u0024bytes":"YQ=="}"#],
            &["c6 00000001 61"],
        ),
        plain("256 bytes", Value::Bytes(vec![255; 256]), &[], &[]),
        plain("empty list", Value::Array(vec![]), &["[ ]"], &["dc0000", "dd00000000"]),
        plain("empty map", map(&[]), &["{ }"], &["de0000", "df00000000"]),
        plain("a list of a", Value::Array(vec!["a".into()]), &[], &[]),
        plain("a list of two", Value::Array(vec![int(1), int(2)]), &[], &[]),
        plain("the same list, turned", Value::Array(vec![int(2), int(1)]), &[], &[]),
        plain("a list in a list", Value::Array(vec![Value::Array(vec![int(1)]), int(2)]), &[], &[]),
        plain(
            "the same list, split elsewhere",
            Value::Array(vec![Value::Array(vec![int(1), int(2)])]),
            &[],
            &[],
        ),
        plain("16 values", Value::Array(vec![Value::Null; 16]), &[], &[]),
        plain(
            "text",
            text.clone(),
            &["{ \"text\" : \"hello\" }"],
            &["de0001a474657874d90568656c6c6f"],
        ),
        hashed("text of another kind", "note", &text, &[], &[]),
        plain(
            "two keys",
            map(&[("a", int(1)), ("b", Value::Null)]),
            &[r#"{"b":null,"a":1.0}"#],
            &["82a162c0a16101"],
        ),
        plain("two keys, values swapped", map(&[("a", Value::Null), ("b", int(1))]), &[], &[]),
        plain("an absent key is not a null", map(&[("a", int(1))]), &[], &[]),
        plain(
            "keys with $",
            map(&[("$", int(1)), ("$$", int(2)), ("$bytes", int(3)), ("a$", int(4))]),
            &[r#"{"$$bytes":3,"$$$":2,"a$":4,"$$":1}"#],
            &[],
        ),
        plain("the empty key", map(&[("", int(1))]), &[], &[]),
        plain(
            "keys sorted by bytes",
            map(&[
                ("a", int(1)),
                ("B", int(2)),
                ("é", int(3)),
                ("\u{1f600}", int(4)),
                ("\u{ffff}", int(5)),
            ]),
            &[],
            &[],
        ),
        plain("every sort of value", from_clients::rich(), &[], &[]),
    ]
}

fn read(bytes: &[u8], encoding: Encoding) -> Value {
    // A value alone is not a message; a frame around it is.
    let framed = match encoding {
        Encoding::Json => [b"{\"x\":", bytes, b"}"].concat(),
        Encoding::MsgPack => [&[0x81, 0xa1, b'x'], bytes].concat(),
    };
    decode(&framed, encoding, &Limits::default()).unwrap()[0].get("x").cloned().unwrap()
}

/// Equal contents have one hash, and different contents have different ones.
#[test]
fn equal_content_has_one_hash() {
    let mut made = File { about: ABOUT.into(), contents: contents() };
    for form in made.contents.iter_mut().flat_map(|content| &mut content.msgpack) {
        *form = form.replace(' ', "");
    }
    let kept: File = serde_json::from_str(&golden("contents.json", &made)).unwrap();
    for entry in &kept.contents {
        let kind = EventKind::new(&entry.kind).unwrap();
        let json = entry.json.iter().map(|text| read(text.as_bytes(), Encoding::Json));
        let packed = entry.msgpack.iter().map(|text| read(&unhex(text), Encoding::MsgPack));
        let all: Vec<Value> = json.chain(packed).collect();
        for value in &all {
            assert_eq!(*value, all[0], "{}", entry.name);
            assert_eq!(hex(&content_hash(&kind, value).0), entry.sha256, "{}", entry.name);
        }
        assert_eq!(encode(&all[0], Encoding::Json), entry.json[0], "{}", entry.name);
        assert_eq!(hex(&encode(&all[0], Encoding::MsgPack)), entry.msgpack[0], "{}", entry.name);
    }
    let hashes: BTreeSet<&str> = kept.contents.iter().map(|entry| entry.sha256.as_str()).collect();
    assert_eq!(hashes.len(), kept.contents.len());
}

#[test]
fn content_over_limit_names_it() {
    let nested =
        |depth: usize| (0..depth).fold(Value::Bytes(vec![1]), |inner, _| Value::Array(vec![inner]));
    let mut limits = Limits::default();
    let content = Content::new(&nested(16), &limits).unwrap();
    assert_eq!(content.value(), nested(16));
    assert_eq!(
        Content::new(&nested(17), &limits),
        Err(ContentError::TooDeep { depth: 17, max: 16 })
    );
    let many = Value::Array(vec![Value::Null; 8192]);
    assert_eq!(Content::new(&many, &limits), Err(ContentError::TooMany { count: 8193, max: 8192 }));
    let long = Value::from("x".repeat(32 * 1024));
    let too_large = Err(ContentError::TooLarge { len: 32 * 1024 + 3, max: 32 * 1024 });
    assert_eq!(Content::new(&long, &limits), too_large);
    let twice: Value = Value::Float(f64::NAN);
    for broken in
        [twice, Value::Float(1.0), Value::Float(-0.0), Value::Int(1 << 53), Value::Int(i64::MIN)]
    {
        assert_eq!(Content::new(&broken, &limits), Err(ContentError::NotWellFormed), "{broken:?}");
    }
    // However high the limit, an accepted value can be read back.
    limits.max_depth = usize::MAX;
    assert_eq!(
        Content::new(&nested(65), &limits),
        Err(ContentError::TooDeep { depth: 65, max: 64 })
    );
    let content = Content::new(&nested(64), &limits).unwrap();
    assert_eq!(Content::from_packed(content.packed().clone()).unwrap().value(), nested(64));
    for encoding in Encoding::ALL {
        let entry = map(&[("content", nested(64))]);
        let page = map(&[("events", Value::Array(vec![entry]))]);
        let message = im_core::wire::encode_batch(&[page.clone(), page.clone()], encoding);
        assert_eq!(decode(&message, encoding, &limits), Ok(vec![page.clone(), page]));
    }
}

#[test]
fn damage_in_a_store_is_found() {
    let content = Content::new(&from_clients::rich(), &Limits::default()).unwrap();
    let packed = content.packed();
    for cut in 0..packed.len() {
        assert_eq!(
            Content::from_packed(packed.slice(..cut)),
            Err(ContentError::Damaged),
            "cut at {cut}"
        );
    }
}

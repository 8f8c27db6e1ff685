//! Checks of depth and count on raw bytes, in one pass, without allocation in proportion to claimed
//! lengths.
//!
//! A scan does not validate: bytes that pass may still fail to parse. It guarantees that parsing
//! will not nest deeper or build more values than allowed, and it refuses input that the parsers
//! accept and the protocol does not: in JSON, integers so long that they would become floats; in
//! MessagePack, text that is not UTF-8 and keys that are not text.
//!
//! Both formats count alike: a value counts one, the keys of a map nothing. In JSON, bytes are an
//! object with a member: two.

use crate::code::Code;

use super::codec::WireError;

const TOO_DEEP: &str = "values nest too deeply";
const TOO_MANY: &str = "too many values in one message";
const CUT_SHORT: &str = "the message ends in the middle of a value";
const NOT_UTF8: &str = "the text is not valid UTF-8";
const BAD_KEY: &str = "a key of a map is not text";
const TOO_LONG: &str = "an integer lies outside +-(2^53 - 1)";

/// 2^53 - 1 has 16 digits, and JSON allows no zeros before them.
const MAX_DIGITS: usize = 16;

/// Scans JSON text: counts brackets for depth, and commas and first members for values.
pub(super) fn json(bytes: &[u8], max_depth: usize, max_values: usize) -> Result<(), WireError> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    // Whether a list or map has just been opened: unless it closes at once, its first value
    // follows.
    let mut opened = false;
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            continue;
        }
        values += usize::from(opened && !matches!(byte, b']' | b'}'));
        opened = matches!(byte, b'[' | b'{');
        match byte {
            b'"' => skip_string(&mut rest),
            b'0'..=b'9' => skip_number(&mut rest)?,
            b'[' | b'{' => {
                depth += 1;
                if depth > max_depth {
                    return Err(WireError::new(Code::TooDeep, TOO_DEEP));
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' => values += 1,
            _ => {}
        }
        if values > max_values {
            return Err(WireError::new(Code::TooMany, TOO_MANY));
        }
    }
    Ok(())
}

fn skip_string(rest: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = rest.next() {
        match byte {
            b'\\' => {
                rest.next();
            }
            b'"' => return,
            _ => {}
        }
    }
}

/// Skips the rest of a number whose first digit was read.
fn skip_number(rest: &mut std::slice::Iter<'_, u8>) -> Result<(), WireError> {
    let (mut digits, mut integer) = (1_usize, true);
    while let Some(byte) = rest.as_slice().first() {
        match byte {
            b'0'..=b'9' => digits += 1,
            b'.' | b'e' | b'E' | b'+' | b'-' => integer = false,
            _ => break,
        }
        rest.next();
    }
    if integer && digits > MAX_DIGITS {
        Err(WireError::new(Code::Malformed, TOO_LONG))
    } else {
        Ok(())
    }
}

/// A list or map that is being scanned.
struct Open {
    /// Values, keys included, still expected after the next one.
    left: usize,
    /// Whether keys and values alternate.
    map: bool,
}

/// Scans MessagePack: walks the headers, so that a false length is found before anything is
/// allocated for it.
pub(super) fn msgpack(bytes: &[u8], max_depth: usize, max_values: usize) -> Result<(), WireError> {
    let cut_short = || WireError::new(Code::Malformed, CUT_SHORT);
    let mut open: Vec<Open> = Vec::with_capacity(max_depth.min(32));
    let (mut at, mut values) = (0_usize, 0_usize);
    loop {
        let head = *bytes.get(at).ok_or_else(cut_short)?;
        let Header { fixed, body, children } =
            header(head, &bytes[at + 1..]).ok_or_else(cut_short)?;
        let body_at = at + 1 + fixed;
        at = body_at.checked_add(body).filter(|at| *at <= bytes.len()).ok_or_else(cut_short)?;
        // Keys and values alternate, and the last is a value: if an odd number is left, this is a
        // key.
        let key = open.last().is_some_and(|open| open.map && open.left % 2 == 1);
        if key && !is_text(head) {
            return Err(WireError::new(Code::Malformed, BAD_KEY));
        }
        if is_text(head) && std::str::from_utf8(&bytes[body_at..at]).is_err() {
            return Err(WireError::new(Code::Malformed, NOT_UTF8));
        }
        values += usize::from(!key);
        if values > max_values || children > max_values.saturating_mul(2) {
            return Err(WireError::new(Code::TooMany, TOO_MANY));
        }
        if is_container(head) {
            if open.len() >= max_depth {
                return Err(WireError::new(Code::TooDeep, TOO_DEEP));
            }
            open.push(Open { left: children, map: is_map(head) });
        }
        while open.last().is_some_and(|open| open.left == 0) {
            open.pop();
        }
        match open.last_mut() {
            Some(open) => open.left -= 1,
            None if at == bytes.len() => return Ok(()),
            None => {
                return Err(WireError::new(
                    Code::Malformed,
                    "bytes follow after the message's end",
                ));
            }
        }
    }
}

/// Upper bound of the bytes of a packed value in JSON; for a value that our encoder packed, rarely
/// more than the exact number.
pub(super) fn json_len(packed: &[u8]) -> usize {
    let (mut at, mut len) = (0_usize, 0_usize);
    while let Some((head, rest)) = packed.get(at..).and_then(<[u8]>::split_first) {
        let Some(Header { fixed, body, children }) = header(*head, rest) else { break };
        let begin = at + 1 + fixed;
        at = begin.saturating_add(body).min(packed.len());
        len += match *head {
            text if is_text(text) => 2 + escaped_len(packed.get(begin..at).unwrap_or_default()),
            // Commas and colons, and a dollar before keys that begin with one.
            map if is_map(map) => 2 + children + children / 2,
            list if is_container(list) => 2 + children,
            // Base64 within {"$bytes":""}.
            0xc4..=0xc6 => 13 + body.div_ceil(3) * 4,
            _ => match body {
                0 => 5,
                1 => 4,
                2 => 6,
                4 => 24,
                _ => 25,
            },
        };
    }
    len
}

/// Bytes of a text within its quotes (RFC 8259 section 7).
fn escaped_len(text: &[u8]) -> usize {
    let extra = |byte: &u8| match byte {
        0..=0x1f => 5,
        b'"' | b'\\' => 1,
        _ => 0,
    };
    text.len() + text.iter().map(extra).sum::<usize>()
}

const fn is_text(head: u8) -> bool {
    matches!(head, 0xa0..=0xbf | 0xd9..=0xdb)
}

const fn is_map(head: u8) -> bool {
    matches!(head, 0x80..=0x8f | 0xde | 0xdf)
}

const fn is_container(head: u8) -> bool {
    is_map(head) || matches!(head, 0x90..=0x9f | 0xdc | 0xdd)
}

/// The lengths encoded by a head byte.
struct Header {
    /// Bytes of the length and of the type of an extension. At most 5.
    fixed: usize,
    /// Bytes of the value itself.
    body: usize,
    /// Contained values, the keys of a map included.
    children: usize,
}

fn header(head: u8, rest: &[u8]) -> Option<Header> {
    let be = |n: usize| {
        Some(rest.get(..n)?.iter().fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let plain = |body: usize| Header { fixed: 0, body, children: 0 };
    let sized =
        |n: usize, extra: usize| Some(Header { fixed: n + extra, body: be(n)?, children: 0 });
    let holds = |n: usize, each: usize| {
        Some(Header { fixed: n, body: 0, children: be(n)?.checked_mul(each)? })
    };
    Some(match head {
        0x80..=0x8f => Header { children: usize::from(head & 15) * 2, ..plain(0) },
        0x90..=0x9f => Header { children: usize::from(head & 15), ..plain(0) },
        0xa0..=0xbf => plain(usize::from(head & 31)),
        0xc4 | 0xd9 => sized(1, 0)?,
        0xc5 | 0xda => sized(2, 0)?,
        0xc6 | 0xdb => sized(4, 0)?,
        0xc7 => sized(1, 1)?,
        0xc8 => sized(2, 1)?,
        0xc9 => sized(4, 1)?,
        0xcc | 0xd0 => plain(1),
        0xcd | 0xd1 => plain(2),
        0xca | 0xce | 0xd2 => plain(4),
        0xcb | 0xcf | 0xd3 => plain(8),
        0xd4..=0xd8 => plain(1 + (1 << (head - 0xd4))),
        0xdc => holds(2, 1)?,
        0xdd => holds(4, 1)?,
        0xde => holds(2, 2)?,
        0xdf => holds(4, 2)?,
        _ => plain(0),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{Encoding, Map, Value, encode};

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-(1_i64 << 53) + 1..1 << 53).prop_map(Value::Int),
            (-9_i64..300).prop_map(Value::Int),
            (-1e300..1e300).prop_map(|x: f64| Value::number(x).unwrap()),
            "[\\PC\u{0}-\u{1f}\"\\\\]{0,40}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(4, 40, 8, |inner| {
            let keys = "[$a-z]{0,3}";
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((keys, inner), 0..8)
                    .prop_map(|entries| Map::from_iter(entries).into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn json_is_never_longer_than_counted(value in value()) {
            let counted = json_len(&encode(&value, Encoding::MsgPack));
            prop_assert!(encode(&value, Encoding::Json).len() <= counted);
        }

        #[test]
        fn text_in_json_is_counted_exactly(text in "[a-zäß\"\\\\]{0,200}") {
            let value = Value::from(text);
            let counted = json_len(&encode(&value, Encoding::MsgPack));
            prop_assert_eq!(encode(&value, Encoding::Json).len(), counted);
        }
    }

    #[test]
    fn control_characters_count_six_fold() {
        let packed = encode(&Value::from("\u{1}".repeat(1000)), Encoding::MsgPack);
        assert_eq!(json_len(&packed), 6002);
    }
}

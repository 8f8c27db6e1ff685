//! When two sends are one: the same sender, the same id, the same content.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{EventKind, MAX_SAFE_INTEGER, MessageId, Seq, push_hex, random_bytes};
use crate::time::Timestamp;
use crate::wire::Value;

/// SHA-256 of what was submitted, in a form that does not depend on encoding or on the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct ContentHash(pub [u8; 32]);

/// What makes a retry a retry, together with room and sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendKey {
    /// The id that the sender chose.
    pub id: MessageId,
    /// The hash of kind and content as submitted, before any hook.
    pub hash: ContentHash,
}

/// What is remembered of a send for as long as its room lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRecord {
    /// Where it went.
    pub seq: Seq,
    /// When it was accepted.
    pub at: Timestamp,
    /// What it said.
    pub hash: ContentHash,
}

/// Hashes kind and content as submitted.
///
/// Every value is written as a tag, its length where it has one, and its bytes, keys of maps sorted: no two different
/// contents give the same input, and the same content gives the same input in both encodings.
pub fn content_hash(kind: &EventKind, content: &Value) -> ContentHash {
    let mut hash = Sha256::new();
    feed_bytes(&mut hash, b'k', kind.as_str().as_bytes());
    feed(&mut hash, content);
    ContentHash(hash.finalize().into())
}

fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(b) => hash.update([b'b', u8::from(*b)]),
        Value::Int(n) => feed_bytes(hash, b'i', &n.to_be_bytes()),
        Value::Float(x) => feed_bytes(hash, b'f', &x.to_bits().to_be_bytes()),
        Value::Text(text) => feed_bytes(hash, b't', text.as_bytes()),
        Value::Bytes(bytes) => feed_bytes(hash, b'x', bytes),
        Value::Array(items) => {
            feed_bytes(hash, b'a', &(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| feed(hash, item));
        }
        Value::Map(map) => {
            feed_bytes(hash, b'm', &(map.len() as u64).to_be_bytes());
            for (key, value) in map.sorted() {
                feed_bytes(hash, b'k', key.as_bytes());
                feed(hash, value);
            }
        }
    }
}

fn feed_bytes(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

impl MessageId {
    /// A fresh id that begins with the system's time: a UUIDv7 (RFC 9562 section 5.7) in its usual text form, with 74 random
    /// bits. Clients choose such ids: stores keep what comes in order faster than what does not, and services with a
    /// [horizon](crate::engine::EngineConfig::dedup_horizon) accept no others.
    pub fn now_v7() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) & (MAX_SAFE_INTEGER >> 5);
        Self::v7(ms, random_bytes())
    }

    /// `ms` is below 2^48.
    fn v7(ms: u64, random: [u8; 10]) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random);
        bytes[6] = 0x70 | (bytes[6] & 0x0F);
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        let mut text = String::with_capacity(36);
        for (at, part) in [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]]
            .into_iter()
            .enumerate()
        {
            if at > 0 {
                text.push('-');
            }
            push_hex(&mut text, part);
        }
        Self::made(text)
    }
}

/// The time in a UUIDv7 (RFC 9562 section 5.7), if the id is one in its usual text form.
pub fn uuid_v7_time(id: &MessageId) -> Option<Timestamp> {
    let text = id.as_str().as_bytes();
    let dashed = text.len() == 36 && [8, 13, 18, 23].iter().all(|at| text[*at] == b'-');
    if !dashed
        || text[14] != b'7'
        || !matches!(text[19].to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b')
    {
        return None;
    }
    let mut ms = 0_u64;
    for digit in text[..8].iter().chain(&text[9..13]) {
        ms = (ms << 4) | u64::from(char::from(*digit).to_digit(16)?);
    }
    Some(Timestamp::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Map;

    #[test]
    fn the_order_of_keys_does_not_matter_and_everything_else_does() {
        let kind = EventKind::message();
        let ab = Value::from(Map::from_iter([("a", Value::Int(1)), ("b", Value::Null)]));
        let ba = Value::from(Map::from_iter([("b", Value::Null), ("a", Value::Int(1))]));
        assert_eq!(content_hash(&kind, &ab), content_hash(&kind, &ba));
        let others = [
            Value::Null,
            Value::from("a"),
            Value::Bytes(b"a".to_vec()),
            Value::Array(vec![Value::from("a")]),
            Value::Array(vec![Value::from("a"), Value::Null]),
            Value::Int(1),
            Value::Bool(true),
            Value::Float(1.5),
        ];
        let hashes: std::collections::HashSet<_> =
            others.iter().map(|v| content_hash(&kind, v)).collect();
        assert_eq!(hashes.len(), others.len());
        assert_ne!(content_hash(&kind, &ab), content_hash(&EventKind::new("other").unwrap(), &ab));
    }

    #[test]
    fn a_uuid_v7_tells_its_time_and_others_do_not() {
        // The example of RFC 9562, appendix A.6.
        let id = |text: &str| MessageId::new(text).unwrap();
        let at = uuid_v7_time(&id("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"));
        assert_eq!(at, Some(Timestamp::from_millis(0x017F_22E2_79B0)));
        assert_eq!(uuid_v7_time(&id("919108f7-52d1-4320-9bac-f847db4148a8")), None);
        assert_eq!(uuid_v7_time(&MessageId::random()), None);
    }

    #[test]
    fn ids_made_later_are_greater() {
        let random = [0xFF; 10];
        let id = MessageId::v7(0x017F_22E2_79B0, random);
        assert_eq!(id.as_str(), "017f22e2-79b0-7fff-bfff-ffffffffffff");
        assert_eq!(uuid_v7_time(&id), Some(Timestamp::from_millis(0x017F_22E2_79B0)));
        assert!(MessageId::v7(0x017F_22E2_79B1, [0; 10]) > id);
        let (one, other) = (MessageId::now_v7(), MessageId::now_v7());
        assert_ne!(one, other);
        assert!(uuid_v7_time(&one) <= uuid_v7_time(&other), "unless the clock was set back");
    }
}

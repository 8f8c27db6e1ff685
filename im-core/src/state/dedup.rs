//! Dedup of sends: same sender, same id, same content.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{EventKind, MessageId, Seq};
use crate::time::Timestamp;
use crate::wire::Value;

/// SHA-256 of kind and content as submitted, independent of encoding and of the order of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
pub struct ContentHash(pub [u8; 32]);

/// The idempotency key of a send, together with room and sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The id that the sender chose.
    pub id: MessageId,
    /// The hash of kind and content as submitted, before any hook.
    pub hash: ContentHash,
}

/// The record of a send, stored as long as its room exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRecord {
    /// The position of the event.
    pub seq: Seq,
    /// The time of acceptance.
    pub at: Timestamp,
    /// The hash of its kind and content.
    pub hash: ContentHash,
}

/// Hashes kind and content as submitted.
///
/// Every value is written as a tag, its length where it has one, and its bytes, keys of maps
/// sorted: no two different contents have the same hash input, and the same content has the same
/// input in both encodings.
pub fn content_hash(kind: &EventKind, content: &Value) -> ContentHash {
    let mut hash = Sha256::new();
    feed_bytes(&mut hash, b'k', kind.as_str().as_bytes());
    hash_value(&mut hash, content);
    ContentHash(hash.finalize().into())
}

fn hash_value(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(b) => hash.update([b'b', u8::from(*b)]),
        Value::Int(n) => feed_bytes(hash, b'i', &n.to_be_bytes()),
        Value::Float(x) => feed_bytes(hash, b'f', &x.to_bits().to_be_bytes()),
        Value::Text(text) => feed_bytes(hash, b't', text.as_bytes()),
        Value::Bytes(bytes) => feed_bytes(hash, b'x', bytes),
        Value::Array(items) => {
            feed_bytes(hash, b'a', &(items.len() as u64).to_be_bytes());
            items.iter().for_each(|item| hash_value(hash, item));
        }
        Value::Map(map) => {
            feed_bytes(hash, b'm', &(map.len() as u64).to_be_bytes());
            for (key, value) in map.sorted() {
                feed_bytes(hash, b'k', key.as_bytes());
                hash_value(hash, value);
            }
        }
    }
}

fn feed_bytes(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_be_bytes());
    hash.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Map;

    #[test]
    fn content_hash_ignores_key_order_only() {
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
}

//! The line format.

use serde::{Deserialize, Serialize};

use crate::id::{EventKind, MessageId, RoomId, Seq, StateKey, UserId, push_hex};
use crate::state::ContentHash;
use crate::time::{Stamp, Timestamp};
use crate::wire::{Role, RoomKind, Value};

/// One line. See the documentation of the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "lowercase")]
pub(super) enum Line {
    Room {
        v: u32,
        id: RoomId,
        kind: RoomKind,
        open: bool,
        created: Timestamp,
        first: Seq,
        head: Seq,
    },
    Member {
        user: UserId,
        role: Role,
    },
    Banned {
        user: UserId,
    },
    Event(Box<EventLine>),
    State {
        key: StateKey,
        stamp: String,
        from: UserId,
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
        value: Option<Value>,
    },
    End {
        events: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EventLine {
    pub(super) seq: Seq,
    pub(super) from: UserId,
    pub(super) at: Timestamp,
    pub(super) kind: EventKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mid: Option<MessageId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<String>,
    pub(super) content: Value,
}

/// Deserializes a value that is present, null included.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(d).map(Some)
}

impl Line {
    /// Writes the line and its line feed.
    pub(super) fn write(&self, to: &mut String) {
        // Every part of a line has a form in JSON: stored values are finite, and keys are texts.
        to.push_str(&serde_json::to_string(self).unwrap_or_default());
        to.push('\n');
    }

    /// Parses a line; the error says what is wrong with it.
    pub(super) fn read(line: &str) -> Result<Self, String> {
        serde_json::from_str(line).map_err(|error| error.to_string())
    }
}

pub(super) fn hash_to_text(hash: &ContentHash) -> String {
    let mut text = String::with_capacity(64);
    push_hex(&mut text, &hash.0);
    text
}

pub(super) fn hash_from_text(text: &str) -> Option<ContentHash> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        // Two digits make at most 255.
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(ContentHash(hash))
}

pub(super) fn stamp_from_text(text: &str) -> Option<Stamp> {
    text.parse().ok()
}

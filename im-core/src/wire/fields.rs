//! Typed access to a frame's fields, with errors that name the field.

use std::sync::Arc;

use crate::code::Code;
use crate::id::{
    CommandId, DeviceId, Epoch, EventKind, IdError, MAX_SAFE_INTEGER, MessageId, RoomId, Seq,
    SessionId, StateKey, UserId,
};
use crate::time::{Stamp, Timestamp};

use super::codec::WireError;
use super::value::{Map, Value};

/// A frame's fields, removed one by one. The rest is ignored: newer peers may send more fields.
pub(super) struct Fields(Map);

/// A type that a field may have.
pub(super) trait Field: Sized {
    /// Parses it; the error names what was expected.
    fn read(value: Value) -> Result<Self, String>;
}

impl Fields {
    pub(super) fn of(value: Value) -> Result<Self, WireError> {
        match value {
            Value::Map(map) => Ok(Self(map)),
            _ => Err(WireError::new(Code::BadField, "a map was expected")),
        }
    }

    /// Removes a required field.
    pub(super) fn need<T: Field>(&mut self, name: &'static str) -> Result<T, WireError> {
        self.take(name)?.ok_or_else(|| missing(name))
    }

    /// Removes an optional field. Null counts as absent.
    pub(super) fn take<T: Field>(&mut self, name: &'static str) -> Result<Option<T>, WireError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::read(value).map(Some).map_err(|why| bad(name, &why)),
        }
    }

    /// Removes a required field as it is; null is a value like any other.
    pub(super) fn need_value(&mut self, name: &'static str) -> Result<Value, WireError> {
        self.0.remove(name).ok_or_else(|| missing(name))
    }

    /// Removes an optional field as it is.
    pub(super) fn take_value(&mut self, name: &'static str) -> Option<Value> {
        self.0.remove(name)
    }

    /// The fields that were not removed.
    pub(super) fn rest(self) -> Value {
        Value::Map(self.0)
    }

    /// A list of maps, each parsed by `read`. Absent counts as empty.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(Fields) -> Result<T, WireError>,
    ) -> Result<Vec<T>, WireError> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(items)) => {
                items.into_iter().map(|item| read(Fields::of(item)?)).collect()
            }
            Some(_) => Err(bad(name, "a list was expected")),
        }
    }
}

pub(super) fn missing(name: &str) -> WireError {
    WireError::new(Code::MissingField, format!("the field {name:?} is missing"))
}

pub(super) fn bad(name: &str, why: &str) -> WireError {
    WireError::new(Code::BadField, format!("the field {name:?}: {why}"))
}

impl Field for bool {
    fn read(value: Value) -> Result<Self, String> {
        if let Value::Bool(b) = value { Ok(b) } else { Err("true or false was expected".into()) }
    }
}

impl Field for u64 {
    fn read(value: Value) -> Result<Self, String> {
        value
            .as_int()
            .and_then(|n| u64::try_from(n).ok())
            .ok_or_else(|| "an integer from 0 to 2^53 - 1 was expected".into())
    }
}

impl Field for u32 {
    fn read(value: Value) -> Result<Self, String> {
        value
            .as_int()
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| "an integer from 0 to 2^32 - 1 was expected".into())
    }
}

impl Field for u16 {
    fn read(value: Value) -> Result<Self, String> {
        value
            .as_int()
            .and_then(|n| u16::try_from(n).ok())
            .ok_or_else(|| "a small integer was expected".into())
    }
}

impl Field for Arc<str> {
    fn read(value: Value) -> Result<Self, String> {
        if let Value::Text(text) = value { Ok(text) } else { Err("text was expected".into()) }
    }
}

impl Field for Seq {
    fn read(value: Value) -> Result<Self, String> {
        Self::new(u64::read(value)?).map_err(|e| e.to_string())
    }
}

impl Field for CommandId {
    fn read(value: Value) -> Result<Self, String> {
        u64::read(value).map(Self)
    }
}

impl Field for Timestamp {
    fn read(value: Value) -> Result<Self, String> {
        u64::read(value).map(Self::from_millis)
    }
}

macro_rules! text_fields {
    ($($name:ty),*) => { $(
        impl Field for $name {
            fn read(value: Value) -> Result<Self, String> {
                let text = <Arc<str>>::read(value)?;
                text.parse().map_err(|e: IdError| e.to_string())
            }
        }
    )* };
}

text_fields!(UserId, DeviceId, RoomId, MessageId, SessionId, StateKey, EventKind, Epoch, Stamp);

macro_rules! text_values {
    ($($name:ty),*) => { $(
        impl From<&$name> for Value {
            fn from(id: &$name) -> Self {
                Value::from(id.as_str())
            }
        }
    )* };
}

text_values!(UserId, DeviceId, RoomId, MessageId, SessionId, StateKey, EventKind);

impl From<Epoch> for Value {
    fn from(epoch: Epoch) -> Self {
        Value::from(epoch.to_string())
    }
}

impl From<Stamp> for Value {
    fn from(stamp: Stamp) -> Self {
        Value::from(stamp.to_string())
    }
}

impl From<Seq> for Value {
    fn from(seq: Seq) -> Self {
        int(seq.get())
    }
}

impl From<Timestamp> for Value {
    fn from(at: Timestamp) -> Self {
        int(at.as_millis())
    }
}

impl From<CommandId> for Value {
    fn from(id: CommandId) -> Self {
        int(id.0)
    }
}

/// An unsigned number as a value, clamped to 2^53 − 1.
pub(super) fn int(n: u64) -> Value {
    // At most 2^53 - 1, which an i64 holds.
    Value::Int(n.min(MAX_SAFE_INTEGER) as i64)
}

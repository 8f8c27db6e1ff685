//! Types of the store as values of columns.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{BackendError, BackendResult, Datum, Type};
use crate::id::{DeviceId, EventKind, MessageId, NodeId, RoomId, Seq, SessionId, StateKey, UserId};
use crate::state::{ContentHash, SecretHash};
use crate::time::Timestamp;
use crate::wire::{Content, Role, RoomKind};

/// A type that a column can hold.
pub(super) trait Columnar: Sized {
    /// The column's type.
    const TYPE: Type;
    /// Whether the column may be `Null`.
    const NULLABLE: bool = false;

    fn to_datum(&self) -> Datum;

    /// `None` if the value makes no sense.
    fn from_datum(datum: &Datum) -> Option<Self>;
}

/// Reads a value, or says which column is damaged.
pub(super) fn read<T: Columnar>(
    datum: Option<&Datum>,
    table: &str,
    column: &str,
) -> BackendResult<T> {
    let value = datum.and_then(T::from_datum);
    value.ok_or_else(|| BackendError::corrupt(format!("`{column}` of a record of `{table}`")))
}

macro_rules! numbers {
    ($($name:ty: $to:expr, $from:expr;)*) => {$(
        impl Columnar for $name {
            const TYPE: Type = Type::Int;

            fn to_datum(&self) -> Datum {
                let to: fn(&$name) -> i64 = $to;
                Datum::Int(to(self))
            }

            fn from_datum(datum: &Datum) -> Option<Self> {
                let from: fn(i64) -> Option<$name> = $from;
                from(datum.as_int()?)
            }
        }
    )*};
}

numbers! {
    i64: |n| *n, Some;
    u64: |n| n.cast_signed(), |n| Some(n.cast_unsigned());
    u32: |n| i64::from(*n), |n| n.try_into().ok();
    bool: |n| i64::from(*n), |n| Some(n != 0);
    Seq: |n| n.get().cast_signed(), |n| Seq::new(n.try_into().ok()?).ok();
    Timestamp: |n| n.as_millis().cast_signed(), |n| Some(Timestamp::from_millis(n.try_into().ok()?));
    NodeId: |n| i64::from(n.0), |n| Some(NodeId(n.try_into().ok()?));
}

macro_rules! texts {
    ($($name:ty, $most:expr;)*) => {$(
        impl Columnar for $name {
            const TYPE: Type = Type::Text($most);

            fn to_datum(&self) -> Datum {
                Datum::Text(self.shared())
            }

            fn from_datum(datum: &Datum) -> Option<Self> {
                Self::from_shared(datum.as_text()?).ok()
            }
        }
    )*};
}

texts! {
    UserId, 64;
    DeviceId, 64;
    RoomId, 128;
    MessageId, 64;
    SessionId, 64;
    StateKey, 128;
    EventKind, 32;
}

/// Enumerations, each by its word.
macro_rules! words {
    ($($name:ty: $($word:literal = $value:expr),*;)*) => {$(
        impl Columnar for $name {
            const TYPE: Type = Type::Text(16);

            fn to_datum(&self) -> Datum {
                Datum::from(self.word())
            }

            fn from_datum(datum: &Datum) -> Option<Self> {
                match &**datum.as_text()? {
                    $($word => Some($value),)*
                    _ => None,
                }
            }
        }
    )*};
}

words! {
    Role: "reader" = Role::Reader, "member" = Role::Member, "moderator" = Role::Moderator, "owner" = Role::Owner;
    RoomKind: "direct" = RoomKind::Direct, "group" = RoomKind::Group, "channel" = RoomKind::Channel,
        "own" = RoomKind::Inbox;
}

macro_rules! bytes {
    ($($name:ty: $ty:expr, $to:expr, $from:expr;)*) => {$(
        impl Columnar for $name {
            const TYPE: Type = $ty;

            fn to_datum(&self) -> Datum {
                let to: fn(&$name) -> Bytes = $to;
                Datum::Bytes(to(self))
            }

            fn from_datum(datum: &Datum) -> Option<Self> {
                let from: fn(&Bytes) -> Option<$name> = $from;
                from(datum.as_bytes()?)
            }
        }
    )*};
}

bytes! {
    Bytes: Type::Bytes, Bytes::clone, |bytes| Some(bytes.clone());
    SecretHash: Type::Bytes, |hash| Bytes::copy_from_slice(hash.as_bytes()),
        |bytes| Some(SecretHash::from_bytes(bytes.as_ref().try_into().ok()?));
    ContentHash: Type::Bytes, |hash| Bytes::copy_from_slice(&hash.0),
        |bytes| Some(ContentHash(bytes.as_ref().try_into().ok()?));
    Content: Type::Json, |content| content.packed().clone(),
        |bytes| Content::from_packed(bytes.clone()).ok();
}

impl Columnar for Arc<str> {
    const TYPE: Type = Type::Text(512);

    fn to_datum(&self) -> Datum {
        Datum::Text(Arc::clone(self))
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        datum.as_text().cloned()
    }
}

impl<T: Columnar> Columnar for Option<T> {
    const TYPE: Type = T::TYPE;
    const NULLABLE: bool = true;

    fn to_datum(&self) -> Datum {
        self.as_ref().map_or(Datum::Null, T::to_datum)
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        if datum.is_null() { Some(None) } else { T::from_datum(datum).map(Some) }
    }
}

/// How often commits have bumped a record. The backend fills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rev(pub(super) i64);

impl Columnar for Rev {
    const TYPE: Type = Type::Revision;

    fn to_datum(&self) -> Datum {
        Datum::Int(self.0)
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        datum.as_int().map(Self)
    }
}

/// The place in the change feed of the commit that last bumped a record, as its column has it. The backend fills it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Changed(pub(super) Datum);

impl Columnar for Changed {
    const TYPE: Type = Type::Changed;
    const NULLABLE: bool = true;

    fn to_datum(&self) -> Datum {
        self.0.clone()
    }

    fn from_datum(datum: &Datum) -> Option<Self> {
        Some(Self(datum.clone()))
    }
}

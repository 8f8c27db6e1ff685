//! Values of columns, and rows of them.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;

/// The value of one column.
///
/// Values of one column have one type, which its [`Type`](super::Type) declares; `Null` only where the column is nullable.
/// The order is that of keys and indexes on every backend: `Null` first, integers by value, texts and bytes by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum Datum {
    /// No value.
    #[default]
    Null,
    /// An integer.
    Int(i64),
    /// UTF-8 text, up to the bound of its column. It may hold any character but U+0000.
    Text(Arc<str>),
    /// Bytes. In a column of type [`Type::Json`](super::Type::Json): a MessagePack value of the wire's kind, which a SQL
    /// backend stores as JSON text.
    Bytes(Bytes),
}

/// A record: the values of a table's columns, in the order of its declaration.
pub type Row = Vec<Datum>;

impl Datum {
    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&Arc<str>> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The bytes, if these are bytes.
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Bytes that the value takes up, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Null => 1,
            Self::Int(_) => 8,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl PartialOrd for Datum {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datum {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Self::Bytes(a), Self::Bytes(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl Datum {
    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Int(_) => 1,
            Self::Text(_) => 2,
            Self::Bytes(_) => 3,
        }
    }
}

impl From<i64> for Datum {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<bool> for Datum {
    fn from(value: bool) -> Self {
        Self::Int(i64::from(value))
    }
}

impl From<&str> for Datum {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Arc<str>> for Datum {
    fn from(text: Arc<str>) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Datum {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl<T: Into<Datum>> From<Option<T>> for Datum {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

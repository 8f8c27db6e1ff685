//! The values that both encodings carry: JSON's, and bytes as a kind of their own.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::MAX_SAFE_INTEGER;

/// A value: JSON's types and bytes.
///
/// Invariants of every decoded value: integers lie within ±(2^53 − 1); floats are finite and have a
/// fraction or lie outside that range (`1.0` is the integer 1, `-0.0` is 0, so that both encodings
/// and every language agree on one form); the keys of a map are unique.
///
/// In JSON, bytes are an object with the one member `$bytes` (standard base64 with padding, RFC
/// 4648 section 4), and a key of a map that begins with `$` is written with one more `$` before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// An integer within ±(2^53 − 1).
    Int(i64),
    /// A finite number that is not such an integer.
    Float(f64),
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list.
    Array(Vec<Value>),
    /// Names and values.
    Map(Map),
}

/// Names and values in insertion order. Invariant: names are unique. Equality ignores the order.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(Cow<'static, str>, Value)>);

impl Map {
    /// A map with room for `n` entries.
    pub fn with_capacity(n: usize) -> Self {
        Self(Vec::with_capacity(n))
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// Removes and returns the value under `key`.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    /// Sets the value under `key`, replacing an earlier one.
    pub fn insert(&mut self, key: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.0.push((key, value)),
        }
    }

    /// Adds an entry whose key is known to be new.
    pub(crate) fn push(&mut self, key: &'static str, value: impl Into<Value>) {
        debug_assert!(self.get(key).is_none(), "duplicate key {key}");
        self.0.push((Cow::Borrowed(key), value.into()));
    }

    /// Adds an entry if there is a value for it.
    pub(crate) fn push_some(&mut self, key: &'static str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.push(key, value);
        }
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (k.as_ref(), v))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries sorted by the bytes of their keys.
    pub(crate) fn sorted(&self) -> Vec<(&str, &Value)> {
        let mut entries: Vec<_> = self.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| *key);
        entries
    }

    /// Returns a duplicate key, if any, in O(n log n).
    fn duplicate_key(&self) -> Option<&str> {
        let entries = self.sorted();
        entries.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].0)
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.sorted() == other.sorted()
    }
}

impl Value {
    /// A number in its canonical form; `None` if it is not finite.
    pub fn number(number: f64) -> Option<Self> {
        const EDGE: f64 = MAX_SAFE_INTEGER as f64;
        if !number.is_finite() {
            None
        } else if number.fract() == 0.0 && (-EDGE..=EDGE).contains(&number) {
            Some(Self::Int(number as i64))
        } else {
            Some(Self::Float(number))
        }
    }

    /// The nesting depth of lists and maps: 0 for a plain value, 1 for `[]`.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Map(map) => 1 + map.iter().map(|(_, v)| v.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// The number of values in it, itself included.
    pub fn count(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Self::Map(map) => 1 + map.iter().map(|(_, v)| v.count()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Returns whether the invariants above hold throughout. Decoding guarantees them; values built
    /// in Rust may break them.
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Int(n) => n.unsigned_abs() <= MAX_SAFE_INTEGER,
            Self::Float(x) => matches!(Self::number(*x), Some(Self::Float(_))),
            Self::Array(items) => items.iter().all(Self::is_well_formed),
            Self::Map(map) => {
                map.duplicate_key().is_none() && map.iter().all(|(_, v)| v.is_well_formed())
            }
            _ => true,
        }
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(n) = self { Some(*n) } else { None }
    }

    /// The map, if it is one.
    pub fn as_map(&self) -> Option<&Map> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    /// The value under `key`, if this is a map that has it.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map()?.get(key)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Int(i64::from(n))
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Self::Array(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl<K: Into<Cow<'static, str>>, V: Into<Value>> FromIterator<(K, V)> for Map {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

const BYTES_KEY: &str = "$bytes";

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => s.serialize_unit(),
            Self::Bool(b) => s.serialize_bool(*b),
            Self::Int(n) => s.serialize_i64(*n),
            Self::Float(x) if x.is_finite() => s.serialize_f64(*x),
            Self::Float(_) => {
                Err(serde::ser::Error::custom("a number that is not finite has no encoding"))
            }
            Self::Text(text) => s.serialize_str(text),
            Self::Bytes(bytes) if s.is_human_readable() => {
                let mut map = s.serialize_map(Some(1))?;
                map.serialize_entry(BYTES_KEY, &BASE64.encode(bytes))?;
                map.end()
            }
            Self::Bytes(bytes) => s.serialize_bytes(bytes),
            Self::Array(items) => {
                let mut seq = s.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(item)?;
                }
                seq.end()
            }
            Self::Map(map) => serialize_map(map, s),
        }
    }
}

fn serialize_map<S: Serializer>(map: &Map, s: S) -> Result<S::Ok, S::Error> {
    let escape = s.is_human_readable();
    let mut out = s.serialize_map(Some(map.len()))?;
    for (key, value) in map.iter() {
        if escape && key.starts_with('$') {
            out.serialize_entry(&format!("${key}"), value)?;
        } else {
            out.serialize_entry(key, value)?;
        }
    }
    out.end()
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let escaped = d.is_human_readable();
        d.deserialize_any(ValueVisitor { escaped })
    }
}

struct ValueVisitor {
    /// Whether bytes and keys with `$` have JSON's escaped form.
    escaped: bool,
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a boolean, a number, text, bytes, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E: de::Error>(self, n: i64) -> Result<Value, E> {
        if n.unsigned_abs() > MAX_SAFE_INTEGER {
            return Err(E::custom("an integer lies outside +-(2^53 - 1)"));
        }
        Ok(Value::Int(n))
    }

    fn visit_u64<E: de::Error>(self, n: u64) -> Result<Value, E> {
        let n = i64::try_from(n).map_err(|_| E::custom("an integer lies outside +-(2^53 - 1)"))?;
        self.visit_i64(n)
    }

    fn visit_f64<E: de::Error>(self, x: f64) -> Result<Value, E> {
        Value::number(x).ok_or_else(|| E::custom("a number is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::from(text))
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(Value::Bytes(bytes.to_vec()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        // The scan has bounded the count by the number of bytes, but a hint is not trusted.
        let mut items = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(64));
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(Cow<'static, str>, Value)> = Vec::new();
        while let Some(key) = access.next_key::<String>()? {
            if self.escaped && key == BYTES_KEY {
                let text = access.next_value::<String>()?;
                if !entries.is_empty() || access.next_key::<String>()?.is_some() {
                    return Err(de::Error::custom("$bytes must be the only member of its object"));
                }
                let bytes = BASE64
                    .decode(text)
                    .map_err(|_| de::Error::custom("$bytes is not standard base64"))?;
                return Ok(Value::Bytes(bytes));
            }
            let key = if self.escaped { unescape(key)? } else { key };
            entries.push((key.into(), access.next_value()?));
        }
        let map = Map(entries);
        match map.duplicate_key() {
            Some(key) => Err(de::Error::custom(format_args!("duplicate key {key:?}"))),
            None => Ok(Value::Map(map)),
        }
    }
}

fn unescape<E: de::Error>(mut key: String) -> Result<String, E> {
    if key.starts_with('$') {
        if !key[1..].starts_with('$') {
            return Err(E::custom("a key that begins with $ must begin with $$"));
        }
        key.remove(0);
    }
    Ok(key)
}

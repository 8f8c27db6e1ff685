//! Positions in a room's log: seq, epoch, and both together.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{IdError, MAX_SAFE_INTEGER};

/// An offset in a room's log. The first event has seq 1; 0 is before it.
///
/// Invariant: at most 2^53 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The first event.
    pub const FIRST: Self = Self(1);
    /// The upper bound, which no event has: logs end one before it, so every event has a next seq.
    /// As the start of a backward read it means the head.
    pub const MAX: Self = Self(MAX_SAFE_INTEGER);

    /// Checks the range.
    ///
    /// # Errors
    ///
    /// [`IdError::OutOfRange`] above 2^53 − 1.
    pub fn new(n: u64) -> Result<Self, IdError> {
        if n > MAX_SAFE_INTEGER {
            Err(IdError::OutOfRange { what: "seq", min: 0 })
        } else {
            Ok(Self(n))
        }
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The seq after this one; saturates at [`Seq::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        if self.0 >= MAX_SAFE_INTEGER { self } else { Self(self.0 + 1) }
    }

    /// The seq before this one; saturates at 0.
    #[must_use]
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// This seq plus `n`; saturates at [`Seq::MAX`].
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        let sum = self.0.saturating_add(n);
        Self(if sum > MAX_SAFE_INTEGER { MAX_SAFE_INTEGER } else { sum })
    }

    /// The number of events in (`earlier`, `self`]; 0 if `earlier` is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl<'de> Deserialize<'de> for Seq {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The epoch of a room's log: (store generation, room incarnation).
///
/// Cursors are comparable only within one epoch. Wiping or restoring a store, or a recovery that
/// may have dropped commits, changes the generation; deleting a room and creating it again changes
/// the incarnation. Clients treat the text form (`generation.incarnation`, both hexadecimal) as
/// opaque and compare it for equality only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Epoch {
    /// The store's generation: random, new whenever commits may have been lost.
    pub generation: u64,
    /// The room's incarnation: increases over the store's lifetime.
    pub incarnation: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}.{:x}", self.generation, self.incarnation)
    }
}

impl std::str::FromStr for Epoch {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let malformed = IdError::Malformed { what: "epoch" };
        let (generation, incarnation) = text.split_once('.').ok_or(malformed.clone())?;
        let part = |digits: &str| {
            let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
            let canonical = digits == "0" || !digits.starts_with('0');
            if digits.len() > 16 || !canonical || !digits.bytes().all(lower_hex) {
                return Err(malformed.clone());
            }
            u64::from_str_radix(digits, 16).map_err(|_| malformed.clone())
        };
        Ok(Self { generation: part(generation)?, incarnation: part(incarnation)? })
    }
}

impl TryFrom<String> for Epoch {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Epoch> for String {
    fn from(epoch: Epoch) -> String {
        epoch.to_string()
    }
}

/// A subscriber's position in a room: the last event that it has, with its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The epoch in which `seq` counts.
    pub epoch: Epoch,
    /// The last event that the subscriber has; 0 if none.
    pub seq: Seq,
}

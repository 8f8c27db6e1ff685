//! Points in time and state stamps. Neither reads a clock: the caller passes the time in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{IdError, MAX_SAFE_INTEGER, NodeId};

/// Milliseconds since the Unix epoch, UTC, leap seconds not counted (POSIX).
///
/// For display; order never depends on it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// From milliseconds; larger values are clamped to 2^53 − 1.
    pub const fn from_millis(ms: u64) -> Self {
        Self(if ms > MAX_SAFE_INTEGER { MAX_SAFE_INTEGER } else { ms })
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns this time plus `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self::from_millis(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time elapsed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Stamp of a hybrid logical clock (Kulkarni et al., 2014).
///
/// Stamps compare by wall time, then counter, then node. Newer stamps win in latest-wins state. The
/// text form, also on the wire, is `ms-counter-node` in decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Milliseconds since the Unix epoch.
    pub ms: Timestamp,
    /// Counts updates within one millisecond.
    pub counter: u32,
    /// Breaks ties between nodes.
    pub node: NodeId,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.ms.as_millis(), self.counter, self.node.0)
    }
}

impl std::str::FromStr for Stamp {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let malformed = || IdError::Malformed { what: "stamp" };
        let mut parts = text.split('-');
        let mut part = |max: u64| {
            let digits = parts.next().ok_or_else(malformed)?;
            let canonical = digits == "0" || !digits.starts_with('0');
            if !canonical || digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(malformed());
            }
            digits.parse::<u64>().ok().filter(|n| *n <= max).ok_or_else(malformed)
        };
        let ms = Timestamp(part(MAX_SAFE_INTEGER)?);
        let counter = part(u64::from(u32::MAX))? as u32;
        let node = NodeId(part(u64::from(u32::MAX))? as u32);
        if parts.next().is_some() { Err(malformed()) } else { Ok(Self { ms, counter, node }) }
    }
}

/// Source of stamps that increase even if the wall clock does not.
///
/// Invariant: every stamp returned is greater than all stamps returned or observed before.
#[derive(Debug)]
pub struct StampClock {
    node: NodeId,
    last: Stamp,
}

impl StampClock {
    /// Creates the clock of `node`.
    pub fn new(node: NodeId) -> Self {
        Self { node, last: Stamp { ms: Timestamp(0), counter: 0, node } }
    }

    /// Returns the next stamp at wall time `now`.
    pub fn tick(&mut self, now: Timestamp) -> Stamp {
        let (ms, counter) = if now > self.last.ms {
            (now, 0)
        } else if let Some(counter) = self.last.counter.checked_add(1) {
            (self.last.ms, counter)
        } else {
            (Timestamp::from_millis(self.last.ms.0 + 1), 0)
        };
        self.last = Stamp { ms, counter, node: self.node };
        self.last
    }

    /// Records another node's stamp: later ticks are greater.
    pub fn observe(&mut self, other: Stamp) {
        self.last = self.last.max(other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_clock_goes_back() {
        let mut clock = StampClock::new(NodeId(7));
        let a = clock.tick(Timestamp(100));
        let b = clock.tick(Timestamp(50));
        clock.observe(Stamp { ms: Timestamp(200), counter: 9, node: NodeId(1) });
        let c = clock.tick(Timestamp(150));
        assert!(a < b && b < c && c.ms == Timestamp(200));
    }

    #[test]
    fn a_stamp_survives_its_text() {
        let stamp = Stamp { ms: Timestamp(MAX_SAFE_INTEGER), counter: u32::MAX, node: NodeId(0) };
        assert_eq!(stamp.to_string().parse(), Ok(stamp));
        for bad in ["", "1-2", "1-2-3-4", "-1-2", "1-+2-3", "01-2-3", "1-4294967296-3"] {
            assert!(bad.parse::<Stamp>().is_err(), "{bad:?}");
        }
    }
}

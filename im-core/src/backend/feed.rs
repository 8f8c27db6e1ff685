//! The change feed: which records the commits have touched, in an order that no reader can overtake.
//!
//! Every transaction of a writer that touches something leaves one change record, under the writer's number and a tick that
//! counts up. A writer's ticks become visible in their order. So whoever reads the feed up to a position, and then the data,
//! misses nothing at or below the position; what lies above it may come twice.

use std::collections::BTreeMap;

use super::datum::{Datum, Row};
use super::error::{BackendError, BackendResult};

/// Where in the change feed a transaction stands: its writer, and which of the writer's transactions it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedPlace {
    /// The writer: less than 1,024.
    pub writer: u16,
    /// The tick: from 1, less than 2^53.
    pub tick: u64,
}

/// How far the change feed was read: a tick of each writer. A writer that is not in it: nothing of that writer's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FeedPosition(pub BTreeMap<u16, u64>);

/// What one transaction touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRecord {
    /// Where it stands.
    pub place: FeedPlace,
    /// What it touched, as its commits said: see [`Commit::touched`](super::Commit::touched).
    pub touched: Vec<Row>,
}

/// Bits of a tick within an integer.
const TICK_BITS: u32 = 53;

impl FeedPlace {
    /// The place as a column of type [`Type::Changed`](super::Type::Changed) holds it: writer × 2^53 + tick.
    pub fn to_datum(self) -> Datum {
        let tick = self.tick & ((1 << TICK_BITS) - 1);
        Datum::Int((i64::from(self.writer) << TICK_BITS) | i64::try_from(tick).unwrap_or(i64::MAX))
    }

    /// The place that a column holds; `None` where it is `Null`.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](super::BackendErrorKind::Corrupt): it is no place.
    pub fn from_datum(datum: &Datum) -> BackendResult<Option<Self>> {
        let int = match datum {
            Datum::Null => return Ok(None),
            Datum::Int(int) => u64::try_from(*int).ok(),
            _ => None,
        };
        let int = int.ok_or_else(|| BackendError::corrupt("a place in the change feed"))?;
        let writer = u16::try_from(int >> TICK_BITS);
        let writer = writer.map_err(|_| BackendError::corrupt("a place in the change feed"))?;
        Ok(Some(Self { writer, tick: int & ((1 << TICK_BITS) - 1) }))
    }
}

impl FeedPosition {
    /// Whether a transaction stands at or below this position.
    pub fn covers(&self, place: FeedPlace) -> bool {
        self.0.get(&place.writer).is_some_and(|tick| *tick >= place.tick)
    }

    /// Moves the position so that it covers `place`. It never moves back.
    pub fn advance(&mut self, place: FeedPlace) {
        let tick = self.0.entry(place.writer).or_default();
        *tick = place.tick.max(*tick);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_survives_its_column() {
        for place in
            [FeedPlace { writer: 0, tick: 1 }, FeedPlace { writer: 1_023, tick: (1 << 53) - 1 }]
        {
            assert_eq!(FeedPlace::from_datum(&place.to_datum()).unwrap(), Some(place));
        }
        assert_eq!(FeedPlace::from_datum(&Datum::Null).unwrap(), None);
        assert!(FeedPlace::from_datum(&Datum::Int(-1)).is_err());
        assert!(FeedPlace::from_datum(&Datum::from("x")).is_err());
    }

    #[test]
    fn position_covers_up_to_its_ticks() {
        let mut position = FeedPosition::default();
        position.advance(FeedPlace { writer: 1, tick: 5 });
        position.advance(FeedPlace { writer: 1, tick: 3 });
        assert!(position.covers(FeedPlace { writer: 1, tick: 5 }));
        assert!(!position.covers(FeedPlace { writer: 1, tick: 6 }));
        assert!(!position.covers(FeedPlace { writer: 2, tick: 1 }));
    }
}

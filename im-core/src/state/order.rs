//! Dense order: seq 1, 2, 3 … without gap or redelivery, in any order of arrival.

use std::collections::BTreeMap;

use crate::id::Seq;

/// The decision about an event that arrives at a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The next event: deliver it and move the cursor to it.
    Next,
    /// At or before the cursor: drop it.
    Seen,
    /// Events between are missing: do not deliver it; read them from the log first.
    Gap,
}

/// The one rule of delivery: an event is delivered iff its seq is the cursor + 1, whatever its
/// source.
///
/// This rule makes the splice of history and live events correct.
pub fn arrival(cursor: Seq, seq: Seq) -> Arrival {
    if seq <= cursor {
        Arrival::Seen
    } else if seq == cursor.next() {
        Arrival::Next
    } else {
        Arrival::Gap
    }
}

/// Reorders items by seq into dense order and buffers items that arrive early.
///
/// Invariants: the items returned end at `head`, without gap or redelivery; the buffered items lie
/// beyond `head` + 1 and number no more than the bound.
#[derive(Debug)]
pub struct Sequencer<T> {
    head: Seq,
    early: BTreeMap<Seq, T>,
    bound: usize,
    /// The highest seq known to exist, buffered or not.
    high_watermark: Seq,
}

impl<T> Sequencer<T> {
    /// Starts after `head`; buffers at most `bound` items and drops the furthest beyond that.
    pub fn new(head: Seq, bound: usize) -> Self {
        Self { head, early: BTreeMap::new(), bound, high_watermark: head }
    }

    /// The last seq returned.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// The highest seq known to exist. Beyond [`Sequencer::head`], a gap is detected.
    pub fn high_watermark(&self) -> Seq {
        self.high_watermark
    }

    /// Returns whether items are buffered.
    pub fn holds_back(&self) -> bool {
        !self.early.is_empty()
    }

    /// Records that `seq` exists, without the item.
    pub fn raise_high_watermark(&mut self, seq: Seq) {
        self.high_watermark = self.high_watermark.max(seq);
    }

    /// Adds an item; [`Sequencer::pop`] returns what is ready. An item at or before the head, or
    /// already buffered, is dropped.
    pub fn push(&mut self, seq: Seq, item: T) {
        self.raise_high_watermark(seq);
        if seq > self.head {
            self.early.entry(seq).or_insert(item);
            // The next item in order is the furthest only if it is alone.
            if self.early.len() > self.bound.max(1) {
                self.early.pop_last();
            }
        }
    }

    /// Returns the next item in order, if it has arrived.
    pub fn pop(&mut self) -> Option<T> {
        let item = self.early.remove(&self.head.next())?;
        self.head = self.head.next();
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n).unwrap()
    }

    proptest! {
        /// In any order of arrival, events leave the sequencer dense.
        #[test]
        fn sequencer_output_is_dense(arrivals in proptest::collection::vec(1u64..40, 0..200)) {
            let mut sequencer = Sequencer::new(Seq::ZERO, 1000);
            let mut out = Vec::new();
            for n in &arrivals {
                sequencer.push(seq(*n), *n);
                while let Some(item) = sequencer.pop() {
                    out.push(item);
                }
            }
            let present: std::collections::BTreeSet<u64> = arrivals.iter().copied().collect();
            let expected: Vec<u64> = (1..).take_while(|n| present.contains(n)).collect();
            prop_assert_eq!(out, expected);
            prop_assert_eq!(sequencer.high_watermark().get(), present.last().copied().unwrap_or(0));
        }

        #[test]
        fn bounded_sequencer_accepts_next_event(early in proptest::collection::vec(2u64..99, 0..50)) {
            let mut sequencer = Sequencer::new(Seq::ZERO, 3);
            for n in early {
                sequencer.push(seq(n), n);
            }
            sequencer.push(seq(1), 1);
            prop_assert_eq!(sequencer.pop(), Some(1));
        }
    }

    #[test]
    fn only_next_event_is_accepted() {
        assert_eq!(arrival(seq(4), seq(5)), Arrival::Next);
        assert_eq!(arrival(seq(4), seq(4)), Arrival::Seen);
        assert_eq!(arrival(seq(4), seq(6)), Arrival::Gap);
    }
}

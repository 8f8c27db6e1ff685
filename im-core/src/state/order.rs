//! Dense order: seq 1, 2, 3 … with no gap and no repeat, whatever order things arrive in.

use std::collections::BTreeMap;

use crate::id::Seq;

/// What a reader does with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is the next one: take it and move the cursor to it.
    Next,
    /// The reader has it already: drop it.
    Seen,
    /// Events between are missing: do not take it, read them from the log first.
    Gap,
}

/// The one rule of reading: an event is handed over only if its seq is the reader's cursor + 1, whatever the source.
/// It is what makes the splice of history and live events right.
pub fn arrival(cursor: Seq, seq: Seq) -> Arrival {
    if seq <= cursor {
        Arrival::Seen
    } else if seq == cursor.next() {
        Arrival::Next
    } else {
        Arrival::Gap
    }
}

/// Puts what arrives in any order into dense order, holding back what comes too early.
///
/// Invariants: what it has given out ends at `head`, without gap or repeat; what it holds back lies beyond `head` + 1
/// and is no more than its bound.
#[derive(Debug)]
pub struct Sequencer<T> {
    head: Seq,
    early: BTreeMap<Seq, T>,
    bound: usize,
    /// The furthest seq that was heard of, held back or not.
    high_watermark: Seq,
}

impl<T> Sequencer<T> {
    /// Starts after `head`; holds back at most `bound` items and forgets the furthest beyond that.
    pub fn new(head: Seq, bound: usize) -> Self {
        Self { head, early: BTreeMap::new(), bound, high_watermark: head }
    }

    /// The last seq given out.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// The furthest seq heard of. Beyond [`Sequencer::head`], something is missing.
    pub fn high_watermark(&self) -> Seq {
        self.high_watermark
    }

    /// Whether it holds anything back.
    pub fn holds_back(&self) -> bool {
        !self.early.is_empty()
    }

    /// Takes note that `seq` exists, without the item.
    pub fn raise_high_watermark(&mut self, seq: Seq) {
        self.high_watermark = self.high_watermark.max(seq);
    }

    /// Takes an item; [`Sequencer::pop`] gives out what is ready. A repeat is dropped.
    pub fn push(&mut self, seq: Seq, item: T) {
        self.raise_high_watermark(seq);
        if seq > self.head {
            self.early.entry(seq).or_insert(item);
            // The next one in order is never the furthest unless it is alone.
            if self.early.len() > self.bound.max(1) {
                self.early.pop_last();
            }
        }
    }

    /// The next item in order, if it is here.
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
        /// Whatever order events arrive in, they leave the sequencer dense.
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

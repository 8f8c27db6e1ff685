//! The choice of unsynced changes that have reached the disk.

use crate::crash::Random;

/// How much of the unsynced data is found after a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Arrived {
    /// All of it, as after a kill of the process only.
    All,
    /// None of it.
    Nothing,
    /// All up to one call, and a part of that call.
    Prefix,
    /// Some calls whole, others not at all: dropped, or overtaken by later ones.
    Some,
    /// Some sectors of 512 bytes, or pages of 4 KiB: writes are torn.
    Torn,
    /// Names and sizes, and no data.
    Names,
    /// Data, and no names.
    Data,
}

impl Arrived {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::All, Self::Nothing, Self::Prefix, Self::Some, Self::Torn, Self::Names, Self::Data];
}

/// The choices of one cut, which follow from the seed.
#[derive(Debug)]
pub(super) struct Choice {
    arrived: Arrived,
    random: Random,
    /// With [`Arrived::Prefix`], the last call that arrives.
    last: usize,
    /// The number of parts in 16 that arrive.
    share: u64,
    /// Number of bytes that arrive together or not at all.
    unit: usize,
    /// Whether names arrive in their order, as with a journal, or independently.
    journal: bool,
}

impl Choice {
    /// `end` is the index of the cut, `from` that of the earliest call that may not have arrived.
    pub(super) fn new(arrived: Arrived, seed: u64, from: usize, end: usize) -> Self {
        let mut random = Random::new(seed);
        let span = (end.saturating_sub(from) + 1) as u64;
        let last = from + (random.next() % span) as usize;
        let share = [1, 4, 8, 12, 15][(random.next() % 5) as usize];
        let unit = if random.next().is_multiple_of(2) { 512 } else { 4096 };
        let journal = random.next().is_multiple_of(2);
        Self { arrived, random, last, share, unit, journal }
    }

    fn likely(&mut self) -> bool {
        self.random.next() % 16 < self.share
    }

    pub(super) fn noise(&mut self) -> u8 {
        self.random.next() as u8
    }

    /// Returns whether a file's size arrives although its data does not.
    pub(super) fn grows(&mut self) -> bool {
        match self.arrived {
            Arrived::Names => true,
            Arrived::Some | Arrived::Torn => self.random.next().is_multiple_of(2),
            _ => false,
        }
    }

    /// Returns whether a change that cannot be torn has arrived.
    pub(super) fn whole(&mut self, index: usize) -> bool {
        match self.arrived {
            Arrived::All | Arrived::Data => true,
            Arrived::Nothing | Arrived::Names => false,
            Arrived::Prefix => index < self.last,
            Arrived::Some | Arrived::Torn => self.likely(),
        }
    }

    /// Returns whether a change of the size, or a hole, has arrived.
    pub(super) fn sized(&mut self, index: usize) -> bool {
        self.arrived == Arrived::Names || self.whole(index)
    }

    /// Returns the ranges of a write from `from` to `until` that have arrived.
    pub(super) fn parts(&mut self, index: usize, from: usize, until: usize) -> Vec<(usize, usize)> {
        match self.arrived {
            Arrived::Torn => self.torn(from, until),
            Arrived::Prefix if index == self.last => {
                // A sector is written whole or not at all.
                let sectors = until.saturating_sub(from).div_ceil(512) as u64;
                let cut = from + (self.random.next() % (sectors + 1)) as usize * 512;
                vec![(from, (cut - cut % 512).clamp(from, until))]
            }
            _ => {
                let arrived = self.whole(index);
                arrived.then_some((from, until)).into_iter().collect()
            }
        }
    }

    fn torn(&mut self, from: usize, until: usize) -> Vec<(usize, usize)> {
        let mut parts = Vec::new();
        let mut at = from;
        while at < until {
            let next = (at - at % self.unit + self.unit).min(until);
            if self.likely() {
                parts.push((at, next));
            }
            at = next;
        }
        parts
    }

    /// Returns whether names arrive in order, and up to which index; `synced` is the begin of the
    /// last sync of any file.
    pub(super) fn names(&mut self, synced: usize, end: usize) -> Names {
        let span = end.saturating_sub(synced) as u64 + 1;
        match self.arrived {
            Arrived::All | Arrived::Names => Names::UpTo(end),
            Arrived::Nothing | Arrived::Data => Names::UpTo(0),
            Arrived::Prefix => Names::UpTo(self.last),
            _ if self.journal => Names::UpTo(synced + (self.random.next() % span) as usize),
            _ => Names::Any,
        }
    }

    pub(super) fn name(&mut self) -> bool {
        self.likely()
    }
}

/// The changes of names that have arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Those before this index.
    UpTo(usize),
    /// Each independently.
    Any,
}

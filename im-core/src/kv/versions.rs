//! Snapshots for databases that have none.
//!
//! Before a batch is written, the values that it changes are put aside under its version. A reader has the version up to which
//! everything had ended when it began. Of a key that a later version has changed, it takes the value that was put aside first
//! after its own version; of any other, the database's. So no lock is held while rows are read, and nobody sees a batch before it
//! is flushed.
//!
//! A reader looks at the database first and at what was put aside then, and a writer does both in the other order: a value
//! that a reader took too late is always found put aside.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::{ControlFlow, Range};

use parking_lot::{Condvar, Mutex};

use crate::backend::{BackendResult, Way};

use super::database::{Each, Key, Rows, Value};

/// The values that were changed since the oldest reader began.
#[derive(Default)]
pub(super) struct Versions {
    inner: Mutex<Inner>,
    ended: Condvar,
}

#[derive(Default)]
struct Inner {
    /// The last version that began.
    last: u64,
    /// Up to this one, all have ended.
    visible: u64,
    /// Those beyond that have ended.
    ended: BTreeSet<u64>,
    /// By key: versions, and what was there before each.
    aside: BTreeMap<Key, VecDeque<(u64, Option<Value>)>>,
    /// By version: the keys that it has put something aside for.
    keys: VecDeque<(u64, Vec<Key>)>,
    /// How many readers there are of each version.
    readers: BTreeMap<u64, usize>,
}

impl Versions {
    /// Puts aside what a batch is going to change. Called by one at a time.
    pub(super) fn begin(&self, before: Vec<(Key, Option<Value>)>) -> u64 {
        let mut inner = self.inner.lock();
        inner.last += 1;
        let version = inner.last;
        let mut keys = Vec::with_capacity(before.len());
        for (key, value) in before {
            inner.aside.entry(key.clone()).or_default().push_back((version, value));
            keys.push(key);
        }
        inner.keys.push_back((version, keys));
        version
    }

    /// A batch may be seen, or was not written. Returns when all earlier ones have ended too.
    pub(super) fn end(&self, version: u64) {
        let mut inner = self.inner.lock();
        inner.ended.insert(version);
        loop {
            let next = inner.visible + 1;
            if !inner.ended.remove(&next) {
                break;
            }
            inner.visible = next;
        }
        inner.purge();
        self.ended.notify_all();
        self.ended.wait_while(&mut inner, |inner| inner.visible < version);
    }

    /// What `rows` had when all that may be seen by now was written.
    pub(super) fn snapshot<'a>(&'a self, rows: &'a dyn Rows) -> Snapshot<'a> {
        let mut inner = self.inner.lock();
        let version = inner.visible;
        *inner.readers.entry(version).or_default() += 1;
        Snapshot { versions: self, rows, version }
    }

    #[cfg(test)]
    fn put_aside(&self) -> usize {
        self.inner.lock().aside.len()
    }
}

impl Inner {
    /// The value at a version of a key that was changed later.
    fn at(&self, key: &[u8], version: u64) -> Option<&Option<Value>> {
        let later = self.aside.get(key)?.iter().find(|(changed, _)| *changed > version);
        later.map(|(_, before)| before)
    }

    /// Drops what no reader needs.
    fn purge(&mut self) {
        let oldest = self.readers.keys().next().copied().unwrap_or(self.visible).min(self.visible);
        while self.keys.front().is_some_and(|(version, _)| *version <= oldest) {
            let Some((version, keys)) = self.keys.pop_front() else { break };
            for key in keys {
                let Some(aside) = self.aside.get_mut(&key) else { continue };
                aside.retain(|(other, _)| *other != version);
                if aside.is_empty() {
                    self.aside.remove(&key);
                }
            }
        }
    }
}

/// The rows of one moment.
pub(super) struct Snapshot<'a> {
    versions: &'a Versions,
    rows: &'a dyn Rows,
    version: u64,
}

/// Rows that are read before what was put aside for them is looked up.
const CHUNK: usize = 128;

impl Rows for Snapshot<'_> {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        let now = self.rows.get(key)?;
        let inner = self.versions.inner.lock();
        Ok(inner.at(key, self.version).cloned().unwrap_or(now))
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        let (mut start, mut end) = (range.start.to_vec(), range.end.to_vec());
        while start < end {
            let mut chunk: BTreeMap<Key, Value> = BTreeMap::new();
            let mut last = None;
            self.rows.scan(&start..&end, way, &mut |key, value| {
                chunk.insert(key.to_vec(), value.to_vec());
                if chunk.len() < CHUNK {
                    return ControlFlow::Continue(());
                }
                last = Some(key.to_vec());
                ControlFlow::Break(())
            })?;
            // What the chunk is about: all that there is up to its last key.
            let (from, to) = match (way, &last) {
                (_, None) => (start.clone(), end.clone()),
                (Way::Forwards, Some(last)) => (start.clone(), [last, &[0][..]].concat()),
                (Way::Backwards, Some(last)) => (last.clone(), end.clone()),
            };
            self.restore(&from..&to, &mut chunk);
            let broken = match way {
                Way::Forwards => chunk.iter().try_for_each(|(key, value)| each(key, value)),
                Way::Backwards => chunk.iter().rev().try_for_each(|(key, value)| each(key, value)),
            };
            if broken.is_break() || last.is_none() {
                break;
            }
            match way {
                Way::Forwards => start = to,
                Way::Backwards => end = from,
            }
        }
        Ok(())
    }
}

impl Snapshot<'_> {
    /// Makes rows of a range what they were.
    fn restore(&self, range: Range<&Key>, rows: &mut BTreeMap<Key, Value>) {
        let inner = self.versions.inner.lock();
        for (key, aside) in inner.aside.range(range.start.clone()..range.end.clone()) {
            let later = aside.iter().find(|(changed, _)| *changed > self.version);
            match later {
                Some((_, Some(before))) => {
                    rows.insert(key.clone(), before.clone());
                }
                Some((_, None)) => {
                    rows.remove(key);
                }
                None => {}
            }
        }
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        let mut inner = self.versions.inner.lock();
        if let Some(readers) = inner.readers.get_mut(&self.version) {
            *readers -= 1;
            if *readers == 0 {
                inner.readers.remove(&self.version);
            }
        }
        inner.purge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{database::WriteBatch, keys};
    use proptest::prelude::*;

    /// Rows without snapshots.
    #[derive(Default)]
    struct Plain(Mutex<BTreeMap<Key, Value>>);

    impl Plain {
        fn write(&self, batch: &WriteBatch) {
            for (key, value) in &batch.changes {
                match value {
                    Some(value) => self.0.lock().insert(key.clone(), value.clone()),
                    None => self.0.lock().remove(key),
                };
            }
        }
    }

    impl Rows for Plain {
        fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
            Ok(self.0.lock().get(key).cloned())
        }

        fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
            let rows = self.0.lock();
            let mut found = rows.range(range.start.to_vec()..range.end.to_vec());
            let mut next = || match way {
                Way::Forwards => found.next(),
                Way::Backwards => found.next_back(),
            };
            while let Some((key, value)) = next() {
                if each(key, value).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    fn all(rows: &dyn Rows, way: Way) -> Vec<(Key, Value)> {
        let mut found = Vec::new();
        let (start, end) = (vec![0], keys::behind(&[200]));
        rows.scan(&start..&end, way, &mut |key, value| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(Vec<(u16, Option<u8>)>),
        /// The oldest, or the youngest, batch that has not ended.
        End,
        Read,
        Drop(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let write =
            proptest::collection::vec((0u16..300, proptest::option::of(any::<u8>())), 1..40);
        prop_oneof![
            4 => write.prop_map(Step::Write),
            3 => Just(Step::End),
            2 => Just(Step::Read),
            1 => any::<usize>().prop_map(Step::Drop),
        ]
    }

    proptest! {
        #[test]
        fn snapshot_shows_what_had_ended(steps in proptest::collection::vec(step(), 1..60)) {
            let (versions, plain) = (Versions::default(), Plain::default());
            let mut states = vec![BTreeMap::new()];
            let (mut open, mut readers) = (VecDeque::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(changes) => {
                        let mut state: BTreeMap<Key, Value> = states.last().unwrap().clone();
                        let changes: BTreeMap<u16, Option<u8>> = changes.into_iter().collect();
                        let mut batch = WriteBatch::default();
                        let mut before = Vec::new();
                        for (key, value) in changes {
                            let (key, value) = ([1, (key >> 8) as u8, key as u8].to_vec(), value.map(|v| vec![v]));
                            before.push((key.clone(), state.get(&key).cloned()));
                            match &value {
                                Some(value) => state.insert(key.clone(), value.clone()),
                                None => state.remove(&key),
                            };
                            batch.changes.push((key, value));
                        }
                        open.push_back(versions.begin(before));
                        plain.write(&batch);
                        states.push(state);
                    }
                    Step::End => {
                        if let Some(version) = open.pop_front() {
                            versions.end(version);
                        }
                    }
                    Step::Read => {
                        let state = states[states.len() - 1 - open.len()].clone();
                        readers.push((versions.snapshot(&plain), state));
                    }
                    Step::Drop(at) => {
                        if !readers.is_empty() {
                            readers.swap_remove(at % readers.len());
                        }
                    }
                }
                for (reader, state) in &readers {
                    let expected: Vec<_> = state.clone().into_iter().collect();
                    prop_assert_eq!(all(reader, Way::Forwards), expected.clone());
                    let back: Vec<_> = expected.into_iter().rev().collect();
                    prop_assert_eq!(all(reader, Way::Backwards), back);
                    let key = [1, 0, 7].to_vec();
                    prop_assert_eq!(reader.get(&key).unwrap(), state.get(&key).cloned());
                }
            }
            readers.clear();
            open.into_iter().for_each(|version| versions.end(version));
            prop_assert_eq!(versions.put_aside(), 0);
        }
    }
}

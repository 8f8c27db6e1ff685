//! A batch in the making: what the commits of a group change, on top of what the database has.

use std::collections::BTreeMap;

use crate::backend::{
    Answer, Applied, BackendError, BackendResult, Change, Commit, Datum, Expect, FeedPlace, Guard,
    GuardAct, Row, TableId, Way,
};

use super::database::{Key, Rows, Value, WriteBatch};
use super::layout::{Layout, int};
use super::{keys, row};

mod index;
mod log;

/// What a group of commits makes of the rows.
pub(super) struct Draft<'a> {
    layout: &'a Layout,
    rows: &'a dyn Rows,
    slots: BTreeMap<Key, Slot>,
    /// What the commit that is being made has changed: keys, and what was there before.
    undo: Vec<(Key, Option<Value>)>,
    touched: Vec<Row>,
    place: FeedPlace,
}

/// One row.
struct Slot {
    /// What the database has.
    before: Option<Value>,
    now: Option<Value>,
}

/// A guard that holds.
struct Held {
    table: TableId,
    key: Row,
    bumps: bool,
    revision: i64,
    /// Whether the commit put or removed it.
    written: bool,
}

/// What a batch is made of, and what the rows were before.
pub(super) struct Drafted {
    pub(super) batch: WriteBatch,
    /// The keys that change, with the values that they have, in the order of the keys.
    pub(super) before: Vec<(Key, Option<Value>)>,
}

/// Why a commit is not made.
enum Stop {
    Answer(Answer),
    /// A unique index has such a row.
    Taken(TableId, Key),
    Failed(BackendError),
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Draft<'a> {
    /// `place` is that of the transaction, if it touches anything.
    pub(super) fn new(layout: &'a Layout, rows: &'a dyn Rows, place: FeedPlace) -> Self {
        Self { layout, rows, slots: BTreeMap::new(), undo: Vec::new(), touched: Vec::new(), place }
    }

    /// Makes a commit, or leaves everything as it was.
    pub(super) fn make(&mut self, commit: &Commit) -> BackendResult<Answer> {
        self.undo.clear();
        let made = self.try_make(commit);
        if made.is_ok() {
            self.touched.extend(commit.touched.iter().cloned());
        } else {
            while let Some((key, before)) = self.undo.pop() {
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.now = before;
                }
            }
        }
        match made {
            Ok(applied) => Ok(Answer::Applied(applied)),
            Err(Stop::Answer(answer)) => Ok(answer),
            // Only now, without what the commit itself has made.
            Err(Stop::Taken(table, unique)) => {
                let fresh = self.unique_record(table, &unique)?;
                Ok(Answer::Conflict { guard: None, fresh })
            }
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Whether any commit touched something.
    pub(super) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The batch; `checks`: whether somebody else may have written meanwhile.
    pub(super) fn finish(mut self, checks: bool) -> Drafted {
        if !self.touched.is_empty() {
            let key = keys::change(self.place.writer, self.place.tick);
            let now = Some(row::pack_rows(&self.touched));
            self.slots.insert(key, Slot { before: None, now });
        }
        let (mut batch, mut before) = (WriteBatch::default(), Vec::new());
        for (key, slot) in self.slots {
            if checks {
                batch.checks.push((key.clone(), slot.before.clone()));
            }
            if slot.now != slot.before {
                before.push((key.clone(), slot.before));
                batch.changes.push((key, slot.now));
            }
        }
        Drafted { batch, before }
    }

    fn try_make(&mut self, commit: &Commit) -> Result<Applied, Stop> {
        if commit.guards.len() > Commit::MAX_GUARDS {
            return Err(BackendError::misuse("a commit has more than eight guards").into());
        }
        let mut held = Vec::with_capacity(commit.guards.len());
        for (at, guard) in commit.guards.iter().enumerate() {
            held.push(self.hold(at, guard)?);
        }
        if let Some(log) = &commit.log {
            self.change_log(log)?;
        }
        let place = (!commit.touched.is_empty()).then_some(self.place);
        for change in &commit.changes {
            self.change(change, &mut held, place)?;
        }
        for guard in held.iter().filter(|guard| guard.bumps && !guard.written) {
            let (table, number) = self.layout.table(guard.table)?;
            let key = keys::record(number, &guard.key);
            if let Some(value) = self.get(&key)? {
                let mut record = self.layout.record(guard.table, &key, value)?;
                fill(table.revision(), &mut record, Datum::Int(guard.revision));
                fill(table.changed(), &mut record, changed(place));
                self.put(key, Some(row::pack(&record[table.key..])))?;
            }
        }
        Ok(Applied { place, revisions: held.iter().map(|guard| guard.revision).collect() })
    }

    fn hold(&mut self, at: usize, guard: &Guard) -> Result<Held, Stop> {
        let (table, number) = self.layout.table(guard.table)?;
        Layout::check(table, &guard.key, table.key)?;
        let Some(column) = table.revision() else {
            let words = format!("`{}` has no revisions, so it cannot guard", table.name);
            return Err(BackendError::misuse(words).into());
        };
        let key = keys::record(number, &guard.key);
        let record = match self.get(&key)? {
            Some(value) => Some(self.layout.record(guard.table, &key, value)?),
            None => None,
        };
        let revision = record.as_ref().and_then(|record| int(&record[column]));
        let holds = match guard.expect {
            Expect::Absent => record.is_none(),
            Expect::Revision(expected) => revision == Some(expected),
        };
        if !holds {
            return Err(Stop::Answer(Answer::Conflict { guard: Some(at), fresh: record }));
        }
        let revision = match revision {
            Some(revision) => revision,
            None if table.revives => self.last_revision(number, &guard.key)?,
            None => 0,
        };
        let bumps = guard.act == GuardAct::Bump;
        Ok(Held {
            table: guard.table,
            key: guard.key.clone(),
            bumps,
            revision: revision + i64::from(bumps),
            written: false,
        })
    }

    /// The revision that a record had when it was removed.
    fn last_revision(&mut self, number: u16, key: &[Datum]) -> BackendResult<i64> {
        let Some(value) = self.get(&keys::removed(number, key))? else { return Ok(0) };
        let revision = row::Reader::new(value).next()?;
        int(&revision).ok_or_else(|| BackendError::corrupt("a revision"))
    }

    fn change(
        &mut self,
        change: &Change,
        held: &mut [Held],
        place: Option<FeedPlace>,
    ) -> Result<(), Stop> {
        match change {
            Change::Put { table, row } => self.put_record(*table, row, held, place),
            Change::PutIfNewer { table, row, by } => {
                let (declared, number) = self.layout.table(*table)?;
                Layout::check(declared, row, declared.columns.len())?;
                if let Some(column) = by.iter().find(|column| **column >= row.len()) {
                    let words = format!("`{}` has no column {column} to compare", declared.name);
                    return Err(BackendError::misuse(words).into());
                }
                let key = keys::record(number, &row[..declared.key]);
                if let Some(value) = self.get(&key)? {
                    let record = self.layout.record(*table, &key, value)?;
                    let is_newer = by
                        .iter()
                        .map(|column| &row[*column])
                        .gt(by.iter().map(|column| &record[*column]));
                    if !is_newer {
                        return Ok(());
                    }
                }
                self.put_record(*table, row, held, place)
            }
            Change::Remove { table, key } => self.remove_record(*table, key, held),
            Change::RemoveRange { table, prefix, from, to } => {
                let (declared, _) = self.layout.table(*table)?;
                let columns = &declared.columns[..declared.key];
                let bounds = [from.as_deref(), to.as_deref()];
                for (key, _) in self.scan(self.layout.span(*table, prefix, bounds)?)? {
                    let key = keys::read(&key, 3, columns)?;
                    self.remove_record(*table, &key, held)?;
                }
                Ok(())
            }
        }
    }

    fn put_record(
        &mut self,
        id: TableId,
        new: &[Datum],
        held: &mut [Held],
        place: Option<FeedPlace>,
    ) -> Result<(), Stop> {
        let (table, number) = self.layout.table(id)?;
        Layout::check(table, new, table.columns.len())?;
        let key = keys::record(number, &new[..table.key]);
        let before = match self.get(&key)? {
            Some(value) => Some(self.layout.record(id, &key, value)?),
            None => None,
        };
        let mut record = new.to_vec();
        let mut kept = None;
        if let Some(column) = table.revision() {
            let guard = guard_of(held, id, &new[..table.key]).filter(|guard| guard.bumps);
            let stored = before.as_ref().and_then(|before| int(&before[column]));
            let revision = match (guard, stored) {
                (Some(guard), _) => {
                    guard.written = true;
                    guard.revision
                }
                (None, Some(stored)) => {
                    kept = before.as_ref();
                    stored
                }
                (None, None) if table.revives => self.last_revision(number, &new[..table.key])? + 1,
                (None, None) => 1,
            };
            record[column] = Datum::Int(revision);
        }
        // The place is that of the last bump, where records have revisions.
        if let Some(column) = table.changed() {
            record[column] = kept.map_or_else(|| changed(place), |before| before[column].clone());
        }
        self.move_indexes(id, before.as_deref(), Some(&record))?;
        self.put(key, Some(row::pack(&record[table.key..])))?;
        Ok(())
    }

    fn remove_record(&mut self, id: TableId, key: &[Datum], held: &mut [Held]) -> Result<(), Stop> {
        let (table, number) = self.layout.table(id)?;
        Layout::check(table, key, table.key)?;
        let at = keys::record(number, key);
        let Some(value) = self.get(&at)? else { return Ok(()) };
        let before = self.layout.record(id, &at, value)?;
        if let Some(column) = table.revision() {
            let stored = int(&before[column]).unwrap_or_default();
            let guard = guard_of(held, id, key).filter(|guard| guard.bumps);
            let revision = guard.map_or(stored, |guard| {
                guard.written = true;
                guard.revision
            });
            if table.revives {
                let removed = row::pack(&[Datum::Int(revision)]);
                self.put(keys::removed(number, key), Some(removed))?;
            }
        }
        self.move_indexes(id, Some(&before), None)?;
        self.put(at, None)?;
        Ok(())
    }

    fn get(&mut self, key: &[u8]) -> BackendResult<Option<Value>> {
        if let Some(slot) = self.slots.get(key) {
            return Ok(slot.now.clone());
        }
        let value = self.rows.get(key)?;
        self.slots.insert(key.to_vec(), Slot { before: value.clone(), now: value.clone() });
        Ok(value)
    }

    fn put(&mut self, key: Key, now: Option<Value>) -> BackendResult<()> {
        let before = self.get(&key)?;
        self.put_over(key, before, now);
        Ok(())
    }

    /// As [`Draft::put`], where it is known what is under the key.
    fn put_over(&mut self, key: Key, before: Option<Value>, now: Option<Value>) {
        let slot = self.slots.entry(key.clone());
        let slot = slot.or_insert_with(|| Slot { before: before.clone(), now: before });
        self.undo.push((key, std::mem::replace(&mut slot.now, now)));
    }

    /// All rows of a range.
    fn scan(&self, range: std::ops::Range<Key>) -> BackendResult<Vec<(Key, Value)>> {
        let mut found = BTreeMap::new();
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let std::ops::Range { start, end } = &range;
        self.rows.scan(start..end, Way::Forwards, &mut |key, value| {
            found.insert(key.to_vec(), value.to_vec());
            std::ops::ControlFlow::Continue(())
        })?;
        for (key, slot) in self.slots.range(range) {
            match &slot.now {
                Some(value) => found.insert(key.clone(), value.clone()),
                None => found.remove(key),
            };
        }
        Ok(found.into_iter().collect())
    }
}

fn guard_of<'h>(held: &'h mut [Held], table: TableId, key: &[Datum]) -> Option<&'h mut Held> {
    held.iter_mut().find(|guard| guard.table == table && guard.key == key)
}

fn fill(column: Option<usize>, record: &mut [Datum], value: Datum) {
    if let Some(column) = column {
        record[column] = value;
    }
}

fn changed(place: Option<FeedPlace>) -> Datum {
    place.map_or(Datum::Null, FeedPlace::to_datum)
}

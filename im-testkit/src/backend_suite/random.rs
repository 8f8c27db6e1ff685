//! Random commits and questions, mostly of what there is.

use std::collections::BTreeSet;

use im_core::backend::{
    Change, Commit, Datum, Expect, FeedPosition, Guard, GuardAct, LogAct, LogChange, LogRead,
    Range, Read, Row, Sends, SyncLevel, TableId, Way,
};
use im_core::wire::Value;

use super::fixture::*;
use super::model::Model;

const NAMES: [&str; 7] = ["", "a", "a\u{1}", "aa", "b", "é", "🦀"];
const SENDERS: [&str; 4] = ["ann", "an", "bob", "é"];
const LOGS: [i64; 3] = [1, 2, -7];

/// Numbers that one seed decides.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn one_of<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn small(&mut self) -> i64 {
        self.below(9) as i64 - 2
    }

    fn several<T>(&mut self, below: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(below)).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.chance(2) { Some(make(self)) } else { None }
    }

    /// A batch of commits.
    pub(super) fn batch(&mut self, model: &Model) -> Vec<Commit> {
        let mut batch: Vec<Commit> = Vec::new();
        for at in 0..self.below(6) {
            let mut commit = self.commit(model);
            if at > 0 && self.chance(4) {
                commit.behind = Some(self.below(at));
            }
            batch.push(commit);
        }
        batch
    }

    fn commit(&mut self, model: &Model) -> Commit {
        let mut guards: Vec<Guard> = self.several(4, |random| random.guard(model));
        // Two guards on one record have no meaning.
        guards.sort_by_key(|guard| (guard.table, guard.key.clone()));
        guards.dedup_by_key(|guard| (guard.table, guard.key.clone()));
        let mut changes: Vec<Change> = self.several(5, |random| random.change());
        for guard in &guards {
            if self.chance(2) {
                changes.push(self.change_of(guard.table, &guard.key));
            }
        }
        let touched =
            if self.chance(2) { self.several(3, |random| random.touched()) } else { vec![] };
        let log = if self.chance(2) { Some(self.log_change(model)) } else { None };
        let sync = if self.chance(3) { SyncLevel::Unsynced } else { SyncLevel::Synced };
        Commit { guards, log, changes, touched, sync, behind: None }
    }

    fn touched(&mut self) -> Row {
        vec![text(self.one_of(&NAMES)), int(self.small()), Datum::Null]
    }

    /// A guard that holds more often than not.
    fn guard(&mut self, model: &Model) -> Guard {
        let (table, key, column) = match self.chance(2) {
            true => (ROOMS, vec![int(self.small())], ROOM_REV),
            false => (LIVES, vec![text(self.one_of(&NAMES))], LIFE_REV),
        };
        let revision = model.record(table, &key).and_then(|record| record[column].as_int());
        let expect = match revision {
            _ if self.chance(8) => Expect::Revision(self.small()),
            Some(_) if self.chance(8) => Expect::Absent,
            Some(revision) => Expect::Revision(revision),
            None => Expect::Absent,
        };
        let act = if self.chance(3) { GuardAct::Check } else { GuardAct::Bump };
        Guard { table, key, expect, act }
    }

    fn change(&mut self) -> Change {
        match self.below(3) {
            0 => {
                let key = vec![int(self.small())];
                self.change_of(ROOMS, &key)
            }
            1 => {
                let key = vec![text(self.one_of(&NAMES))];
                self.change_of(LIVES, &key)
            }
            _ => self.change_of_items(),
        }
    }

    fn change_of(&mut self, table: TableId, key: &Row) -> Change {
        if self.chance(4) {
            return remove(table, key.clone());
        }
        let row = match &key[0] {
            Datum::Int(id) => room(*id, self.one_of(&NAMES), self.one_of(&NAMES), self.small()),
            name => vec![name.clone(), int(self.small()), Datum::Null],
        };
        match self.chance(4) {
            true => Change::PutIfNewer { table, by: vec![if table == ROOMS { 3 } else { 1 }], row },
            false => put(table, row),
        }
    }

    fn item_key(&mut self) -> Row {
        vec![text(self.one_of(&NAMES)), int(self.small())]
    }

    fn item(&mut self) -> Row {
        let mut row = item(self.one_of(&NAMES), self.small(), self.small());
        row[3] = self.maybe(|random| random.one_of(&NAMES)).into();
        row[4] = self.maybe(|random| bytes::Bytes::from(vec![7; random.below(300)])).into();
        row[5] = self.maybe(|random| json(&Value::from(random.one_of(&NAMES)))).unwrap_or_default();
        row
    }

    fn change_of_items(&mut self) -> Change {
        match self.below(8) {
            0 => remove(ITEMS, self.item_key()),
            1 => {
                let by = self.one_of(&[vec![2], vec![3, 2], vec![4]]);
                Change::PutIfNewer { table: ITEMS, row: self.item(), by }
            }
            2 => {
                let prefix =
                    self.maybe(|random| vec![text(random.one_of(&NAMES))]).unwrap_or_default();
                let bound = |random: &mut Self| match prefix.is_empty() {
                    true => random.item_key(),
                    false => vec![int(random.small())],
                };
                // Without bounds too much is removed.
                let (from, to) = (Some(bound(self)), Some(bound(self)));
                Change::RemoveRange { table: ITEMS, prefix: prefix.clone(), from, to }
            }
            _ => put(ITEMS, self.item()),
        }
    }

    fn id(&mut self) -> Option<String> {
        (!self.chance(4)).then(|| format!("id {}", self.below(40)))
    }

    fn log_change(&mut self, model: &Model) -> LogChange {
        let log = self.one_of(&LOGS);
        let (first, last) = (model.first_seq(log), model.last_seq(log));
        let mut seq = last;
        let act = match self.below(8) {
            0 => LogAct::Trim { from: first, to: first + self.small() },
            1 => LogAct::Clear { from: last - self.small(), to: last },
            2 => LogAct::Forget(model.trimmed_sends(log).into_iter().take(self.below(3)).collect()),
            3 if model.entry(log, first).is_some() => {
                let at = first + self.below((last - first + 1) as usize) as i64;
                match model.entry(log, at).cloned() {
                    Some(old) => LogAct::Replace(vec![self.replacement(&old)]),
                    None => LogAct::Replace(Vec::new()),
                }
            }
            _ => {
                let mut ids = BTreeSet::new();
                LogAct::Append(self.several(4, |random| {
                    seq += 1;
                    let mut row = random.entry(log, seq);
                    if !ids.insert((row[2].clone(), row[3].clone())) {
                        row[3] = Datum::Null;
                    }
                    row
                }))
            }
        };
        LogChange { log, act }
    }

    fn entry(&mut self, log: i64, seq: i64) -> Row {
        let sender = self.one_of(&SENDERS);
        let mut row = entry(log, seq, sender, self.id().as_deref());
        row[4] = int(self.small());
        row[6] = int(self.below(50) as i64);
        row
    }

    /// Another entry in place of this one, with its id, a new one, or none.
    fn replacement(&mut self, old: &Row) -> Row {
        let (log, seq) = (old[0].as_int().expect("a log"), old[1].as_int().expect("a seq"));
        let mut row = self.entry(log, seq);
        match self.below(3) {
            0 => row[2..4].clone_from_slice(&old[2..4]),
            1 => row[3] = text(&format!("new {}", self.next())),
            _ => row[3] = Datum::Null,
        }
        row
    }

    /// Questions of each kind.
    pub(super) fn reads(&mut self, model: &Model) -> Vec<Read> {
        let mut reads = Vec::new();
        for table in TABLES {
            reads.push(Read::Range(Range::of(table, Vec::new())));
        }
        for log in LOGS {
            reads.extend([Read::Log(whole(log)), Read::Sends(all_sends(log))]);
        }
        for _ in 0..6 {
            reads.push(Read::Range(self.range(model)));
            reads.push(Read::Log(self.log_read(model)));
            reads.push(Read::Get { table: ITEMS, key: self.item_key() });
            reads.push(Read::Get { table: ROOMS, key: vec![int(self.small())] });
            let values = vec![text(self.one_of(&NAMES))];
            reads.push(Read::Find { table: ROOMS, index: BY_NAME, values });
            let (log, sender) = (self.one_of(&LOGS), text(self.one_of(&SENDERS)));
            let id = text(&self.id().unwrap_or_default());
            reads.push(Read::Send { log, sender: sender.clone(), id: id.clone() });
            let (sender, after) = (self.maybe(|_| sender.clone()), self.maybe(|_| (sender, id)));
            reads.push(Read::Sends(Sends { log, sender, after, limit: self.below(9) + 1 }));
        }
        let after = FeedPosition([(0, self.below(20) as u64)].into());
        reads.push(Read::Changes { after, limit: self.below(9) + 1 });
        reads
    }

    fn range(&mut self, model: &Model) -> Range {
        let table = self.one_of(&TABLES);
        let declared = schema().tables.swap_remove(usize::from(table.0));
        let index = self.below(declared.indexes.len() + 1).checked_sub(1);
        let order = declared.order(index);
        let records = model.records(table);
        let values = |random: &mut Self| -> Row {
            let of = |row: &Row| order.iter().map(|column| row[*column].clone()).collect();
            match records.is_empty() {
                true => Vec::new(),
                false => of(&random.one_of(&records)),
            }
        };
        let mut range = Range::of(table, Vec::new());
        range.index = index;
        range.prefix = values(self);
        range.prefix.truncate(self.below(order.len()));
        let skipped = range.prefix.len();
        let bound = |random: &mut Self| {
            let values: Row = values(random).into_iter().skip(skipped).collect();
            let most = random.below(values.len() + 1).max(1).min(values.len());
            values[..most].to_vec()
        };
        if self.chance(2) {
            range.after = Some(bound(self)).filter(|bound| !bound.is_empty());
        }
        if self.chance(2) {
            range.before = Some(bound(self)).filter(|bound| !bound.is_empty());
        }
        range.way = self.one_of(&[Way::Forwards, Way::Backwards]);
        range.limit = self.one_of(&[0, 1, 3, 10, usize::MAX]);
        range
    }

    fn log_read(&mut self, model: &Model) -> LogRead {
        let log = self.one_of(&LOGS);
        let last = model.last_seq(log);
        let mut end = |usual: i64| match self.below(4) {
            0 => usual,
            1 => last - self.small(),
            _ => self.below(last.max(1) as usize + 1) as i64,
        };
        let (from, to) = (end(i64::MIN), end(i64::MAX));
        let way = self.one_of(&[Way::Forwards, Way::Backwards]);
        let limit = self.one_of(&[0, 1, 4, usize::MAX]);
        let max_bytes = self.one_of(&[0, 30, 100, usize::MAX]);
        LogRead { log, from, to, way, limit, max_bytes, headers: self.chance(3) }
    }
}

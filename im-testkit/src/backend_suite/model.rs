//! Random commits, and a model that knows no database.

use std::collections::BTreeMap;

use im_core::backend::{
    Answer, Applied, Change, ChangeRecord, Commit, Datum, Expect, FeedPlace, FeedPosition, Found,
    GuardAct, Read, Row, Table, TableId,
};
use im_core::ports::Durability;

use super::BackendFactory;
use super::fixture::*;
use super::random::Random;

mod logs;

use logs::send_key;

const SEQUENCES: u64 = 12;
const STEPS: u64 = 60;

/// Random batches are answered as the model answers them, and all questions after them. A failure names its seed;
/// `IM_SUITE_SEED` runs that one alone, `IM_SUITE_STEPS` says how many batches it has.
pub async fn random_commits_agree_with_model<F: BackendFactory>(factory: &F) {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse().ok());
    let seeds = number("IM_SUITE_SEED").map_or(0..SEQUENCES, |seed: u64| seed..seed + 1);
    for seed in seeds {
        let _recorded = Recorded(seed);
        sequence(factory, seed, number("IM_SUITE_STEPS").unwrap_or(STEPS)).await;
    }
}

/// Prints the seed if the test fails.
struct Recorded(u64);

impl Drop for Recorded {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it failed with IM_SUITE_SEED={}", self.0);
        }
    }
}

async fn sequence<F: BackendFactory>(factory: &F, seed: u64, steps: u64) {
    let (mut random, mut model) = (Random::new(seed), Model::default());
    let mut db = Db::new(factory).await;
    for step in 0..steps {
        let batch = random.batch(&model);
        let answers = db.batch(batch.clone()).await;
        model.batch(&batch, &answers, step);
        if random.below(3) == 0 {
            model.compare(&db, &mut random).await;
        }
        if random.below(25) == 0 && db.0.info().durability != Durability::Volatile {
            db = db.reopened(factory).await.expect("only volatile backends are gone");
        }
    }
    model.compare(&db, &mut random).await;
    db.0.close().await.expect("the backend closes");
}

/// What a database has, by the contract's words.
#[derive(Debug, Clone, Default)]
pub(super) struct Model {
    tables: [BTreeMap<Row, Row>; TABLES.len()],
    /// The revisions of removed lives.
    removed: BTreeMap<Row, i64>,
    entries: BTreeMap<(i64, i64), Row>,
    sends: BTreeMap<(i64, Datum, Datum), Row>,
    changes: BTreeMap<FeedPlace, Vec<Row>>,
}

/// A commit that is not made.
enum Refused {
    Answered(Answer),
    /// A record has these values in the columns of a unique index.
    Taken(TableId, Vec<usize>, Row),
}

/// A guard that holds: the record, its revision behind the commit, and whether it is bumped.
struct Held {
    table: TableId,
    key: Row,
    revision: i64,
    bumps: bool,
    written: bool,
}

impl Model {
    /// The records of a table.
    pub(super) fn records(&self, table: TableId) -> Vec<Row> {
        self.tables[usize::from(table.0)].values().cloned().collect()
    }

    /// The record under a key.
    pub(super) fn record(&self, table: TableId, key: &Row) -> Option<&Row> {
        self.tables[usize::from(table.0)].get(key)
    }

    /// The last seq of a log; 0 if it has no entries.
    pub(super) fn last_seq(&self, log: i64) -> i64 {
        let mut of_log = self.entries.range((log, i64::MIN)..=(log, i64::MAX));
        of_log.next_back().map_or(0, |((_, seq), _)| *seq)
    }

    /// The first seq of a log; 1 if it has no entries.
    pub(super) fn first_seq(&self, log: i64) -> i64 {
        let mut of_log = self.entries.range((log, i64::MIN)..=(log, i64::MAX));
        of_log.next().map_or(1, |((_, seq), _)| *seq)
    }

    /// An entry of a log.
    pub(super) fn entry(&self, log: i64, seq: i64) -> Option<&Row> {
        self.entries.get(&(log, seq))
    }

    /// The sends of a log whose entries were trimmed.
    pub(super) fn trimmed_sends(&self, log: i64) -> Vec<(Datum, Datum)> {
        let kept: Vec<_> = self.entries.values().map(send_key).collect();
        let trimmed = self.sends.keys().filter(|key| key.0 == log && !kept.contains(key));
        trimmed.map(|(_, sender, id)| (sender.clone(), id.clone())).collect()
    }

    fn batch(&mut self, batch: &[Commit], answers: &[Answer], step: u64) {
        let mut touched: BTreeMap<FeedPlace, Vec<Row>> = BTreeMap::new();
        for (at, (commit, answer)) in batch.iter().zip(answers).enumerate() {
            let is_held = |behind: usize| !matches!(answers[behind], Answer::Applied(_));
            let expected = match commit.behind {
                Some(behind) if is_held(behind) => Answer::Skipped,
                _ => self.commit(commit, place_of(answer)),
            };
            assert_eq!(*answer, expected, "step {step}, commit {at}: {commit:?}");
            if let Some(place) = place_of(answer) {
                touched.entry(place).or_default().extend(commit.touched.iter().cloned());
            }
        }
        for (place, rows) in touched {
            let last = self.changes.keys().rfind(|other| other.writer == place.writer);
            assert!(last.is_none_or(|last| last.tick < place.tick), "{place:?} is beyond {last:?}");
            self.changes.insert(place, rows);
        }
    }

    /// Makes a commit, or leaves everything as it was. `place` is where the backend says that it stands.
    fn commit(&mut self, commit: &Commit, place: Option<FeedPlace>) -> Answer {
        let mut next = self.clone();
        let place = if commit.touched.is_empty() { None } else { place };
        match next.make(commit, place) {
            Ok(revisions) => {
                *self = next;
                Answer::Applied(Applied { place, revisions })
            }
            Err(Refused::Answered(answer)) => answer,
            Err(Refused::Taken(table, columns, values)) => {
                let fresh = self.with_values(table, &columns, &values);
                Answer::Conflict { guard: None, fresh }
            }
        }
    }

    fn make(&mut self, commit: &Commit, place: Option<FeedPlace>) -> Result<Vec<i64>, Refused> {
        let mut held = Vec::new();
        for (at, guard) in commit.guards.iter().enumerate() {
            let table = declared(guard.table);
            let record = self.record(guard.table, &guard.key).cloned();
            let revision = record.as_ref().and_then(|row| row[table.revision().unwrap()].as_int());
            let holds = match guard.expect {
                Expect::Absent => record.is_none(),
                Expect::Revision(expected) => revision == Some(expected),
            };
            if !holds {
                return Err(Refused::Answered(Answer::Conflict { guard: Some(at), fresh: record }));
            }
            let bumps = guard.act == GuardAct::Bump;
            let last = revision.unwrap_or_else(|| self.last_revision(&table, &guard.key));
            let (table, key, revision) = (guard.table, guard.key.clone(), last + i64::from(bumps));
            held.push(Held { table, key, revision, bumps, written: false });
        }
        if let Some(log) = &commit.log {
            self.change_log(log)?;
        }
        let place = place.map_or(Datum::Null, FeedPlace::to_datum);
        for change in &commit.changes {
            self.change(change, &mut held, &place)?;
        }
        for guard in held.iter().filter(|guard| guard.bumps && !guard.written) {
            let table = declared(guard.table);
            if let Some(row) = self.tables[usize::from(guard.table.0)].get_mut(&guard.key) {
                fill(row, table.revision(), int(guard.revision));
                fill(row, table.changed(), place.clone());
            }
        }
        Ok(held.into_iter().map(|guard| guard.revision).collect())
    }

    fn last_revision(&self, table: &Table, key: &Row) -> i64 {
        if table.revives { self.removed.get(key).copied().unwrap_or(0) } else { 0 }
    }

    fn change(&mut self, change: &Change, held: &mut [Held], place: &Datum) -> Result<(), Refused> {
        match change {
            Change::Put { table, row } => self.put(*table, row, held, place),
            Change::PutIfNewer { table, row, by } => {
                let of = |row: &Row| by.iter().map(|column| row[*column].clone()).collect::<Row>();
                let key = row[..declared(*table).key].to_vec();
                match self.record(*table, &key) {
                    Some(record) if of(record) >= of(row) => Ok(()),
                    _ => self.put(*table, row, held, place),
                }
            }
            Change::Remove { table, key } => {
                self.remove(*table, key, held);
                Ok(())
            }
            Change::RemoveRange { table, prefix, from, to } => {
                let is_in = |key: &&Row| {
                    let rest = |bound: &Row| key[prefix.len()..][..bound.len()].to_vec();
                    key.starts_with(prefix)
                        && from.as_ref().is_none_or(|from| rest(from) >= *from)
                        && to.as_ref().is_none_or(|to| rest(to) <= *to)
                };
                let keys = self.tables[usize::from(table.0)].keys();
                for key in keys.filter(is_in).cloned().collect::<Vec<_>>() {
                    self.remove(*table, &key, held);
                }
                Ok(())
            }
        }
    }

    fn put(
        &mut self,
        id: TableId,
        row: &Row,
        held: &mut [Held],
        place: &Datum,
    ) -> Result<(), Refused> {
        let (table, mut row) = (declared(id), row.clone());
        let key = row[..table.key].to_vec();
        let before = self.record(id, &key).cloned();
        if let Some(column) = table.revision() {
            let bumped =
                held.iter_mut().find(|guard| guard.bumps && guard.table == id && guard.key == key);
            let changed = table.changed();
            match (bumped, &before) {
                (Some(guard), _) => {
                    guard.written = true;
                    row[column] = int(guard.revision);
                    fill(&mut row, changed, place.clone());
                }
                (None, Some(before)) => {
                    row[column] = before[column].clone();
                    changed.into_iter().for_each(|changed| row[changed] = before[changed].clone());
                }
                (None, None) => {
                    row[column] = int(self.last_revision(&table, &key) + 1);
                    fill(&mut row, changed, place.clone());
                }
            }
        }
        for index in table.indexes.iter().filter(|index| index.unique) {
            let of = |row: &Row| index.columns.iter().map(|c| row[*c].clone()).collect::<Row>();
            let mut others = self.tables[usize::from(id.0)].iter();
            if let Some((_, other)) =
                others.find(|(other, held)| **other != key && of(held) == of(&row))
            {
                return Err(Refused::Taken(id, index.columns.clone(), of(other)));
            }
        }
        self.tables[usize::from(id.0)].insert(key, row);
        Ok(())
    }

    fn remove(&mut self, id: TableId, key: &Row, held: &mut [Held]) {
        let table = declared(id);
        let Some(record) = self.tables[usize::from(id.0)].remove(key) else { return };
        let Some(column) = table.revision() else { return };
        let bumped =
            held.iter_mut().find(|guard| guard.bumps && guard.table == id && guard.key == *key);
        let revision = match bumped {
            Some(guard) => {
                guard.written = true;
                guard.revision
            }
            None => record[column].as_int().expect("a revision"),
        };
        if table.revives {
            self.removed.insert(key.clone(), revision);
        }
    }

    /// The record that has these values in these columns.
    fn with_values(&self, table: TableId, columns: &[usize], values: &Row) -> Option<Row> {
        let has = |row: &&Row| columns.iter().zip(values).all(|(c, value)| row[*c] == *value);
        self.tables[usize::from(table.0)].values().find(has).cloned()
    }

    /// Asks random questions in one batch, and compares the answers.
    async fn compare(&self, db: &Db, random: &mut Random) {
        let mut reads = random.reads(self);
        reads.push(Read::Changes { after: FeedPosition::default(), limit: usize::MAX });
        let found = db.read(reads.clone()).await;
        for (read, found) in reads.iter().zip(found) {
            assert_eq!(found, self.answer(read), "{read:?}");
        }
    }

    fn answer(&self, read: &Read) -> Found {
        match read {
            Read::Get { table, key } => Found::Record(self.record(*table, key).cloned()),
            Read::Find { table, index, values } => {
                let columns = declared(*table).indexes[*index].columns.clone();
                Found::Record(self.with_values(*table, &columns, values))
            }
            Read::Range(range) => {
                let (table, records) = (declared(range.table), self.records(range.table));
                Found::Records(super::ranges::expected(&table, &records, range))
            }
            Read::Log(log) => {
                let entries: Vec<Row> = self.entries.values().cloned().collect();
                Found::Records(super::logs::expected(&entries, log))
            }
            Read::Send { log, sender, id } => {
                Found::Record(self.sends.get(&(*log, sender.clone(), id.clone())).cloned())
            }
            Read::Sends(sends) => Found::Records(self.page_of_sends(sends)),
            Read::Changes { after, limit } => {
                let record = |(place, touched): (&FeedPlace, &Vec<Row>)| {
                    (!after.covers(*place))
                        .then(|| ChangeRecord { place: *place, touched: touched.clone() })
                };
                Found::Changes(self.changes.iter().filter_map(record).take(*limit).collect())
            }
        }
    }
}

fn declared(table: TableId) -> Table {
    schema().tables.swap_remove(usize::from(table.0))
}

fn fill(row: &mut Row, column: Option<usize>, value: Datum) {
    if let Some(column) = column {
        row[column] = value;
    }
}

fn place_of(answer: &Answer) -> Option<FeedPlace> {
    match answer {
        Answer::Applied(applied) => applied.place,
        _ => None,
    }
}

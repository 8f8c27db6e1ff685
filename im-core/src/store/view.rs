//! What a rule sees of the store.
//!
//! A rule is a function from a view to what is to be done. It is run again and again: where it asks for something that was not
//! read yet, it stops, that is read, and the rule begins from the start. So rules wait for nothing, change nothing, and are the same
//! whether what they ask for comes from a cache or from the database.

use std::collections::HashMap;

use crate::backend::{BackendError, Datum, Found, LogRead, Range, Read, Row, Sends};
use crate::ports::StoreError;
use crate::state::Refusal;

use super::tables::Record;

/// Answers to what was asked so far.
#[derive(Debug, Default)]
pub(super) struct View {
    found: HashMap<Read, Found>,
}

/// Why a rule has not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// This has to be read first.
    Lacks(Vec<Read>),
    /// It refuses what was asked for.
    Refused(Refusal),
    /// What was read is damaged.
    Failed(StoreError),
}

/// What a rule comes to.
pub(super) type Ruled<T> = Result<T, Stop>;

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Failed(error.into())
    }
}

impl View {
    /// The record with this key.
    pub(super) fn get<R: Record>(&self, key: Row) -> Ruled<Option<R>> {
        match self.find(Read::Get { table: R::TABLE, key })? {
            Found::Record(Some(row)) => Ok(Some(R::from_row(row)?)),
            _ => Ok(None),
        }
    }

    /// The records with these keys, in their order.
    pub(super) fn get_all<R: Record>(&self, keys: Vec<Row>) -> Ruled<Vec<Option<R>>> {
        let read = |key| Read::Get { table: R::TABLE, key };
        self.records(keys.into_iter().map(read).collect())
    }

    /// The records of a range, which is of this record's table.
    pub(super) fn range<R: Record>(&self, range: Range) -> Ruled<Vec<R>> {
        records(self.find(Read::Range(range))?)
    }

    /// The record that has this value in its unique index.
    pub(super) fn find_by<R: Record>(&self, index: usize, value: Datum) -> Ruled<Option<R>> {
        Ok(self.find_all_by(index, vec![value])?.pop().flatten())
    }

    /// The records that have these values in their unique index, in the order of the values.
    pub(super) fn find_all_by<R: Record>(
        &self,
        index: usize,
        values: Vec<Datum>,
    ) -> Ruled<Vec<Option<R>>> {
        let read = |value| Read::Find { table: R::TABLE, index, values: vec![value] };
        self.records(values.into_iter().map(read).collect())
    }

    /// Entries of a log.
    pub(super) fn log<R: Record>(&self, log: LogRead) -> Ruled<Vec<R>> {
        records(self.find(Read::Log(log))?)
    }

    /// A row of [`Read::Send`], if there is one.
    pub(super) fn send(&self, read: Read) -> Ruled<Option<&Row>> {
        match self.find(read)? {
            Found::Record(row) => Ok(row.as_ref()),
            _ => Ok(None),
        }
    }

    /// Whether any of these [`Read::Send`]s finds something.
    pub(super) fn any_send(&self, reads: Vec<Read>) -> Ruled<bool> {
        let found = self.find_all(reads)?;
        Ok(found.into_iter().any(|found| matches!(found, Found::Record(Some(_)))))
    }

    /// Rows of [`Read::Sends`].
    pub(super) fn sends(&self, sends: Sends) -> Ruled<&[Row]> {
        match self.find(Read::Sends(sends))? {
            Found::Records(rows) => Ok(rows),
            _ => Ok(&[]),
        }
    }

    fn records<R: Record>(&self, reads: Vec<Read>) -> Ruled<Vec<Option<R>>> {
        let found = self.find_all(reads)?.into_iter().map(|found| match found {
            Found::Record(Some(row)) => R::from_row(row).map(Some),
            _ => Ok(None),
        });
        Ok(found.collect::<Result<_, _>>()?)
    }

    fn find(&self, read: Read) -> Ruled<&Found> {
        match self.found.get(&read) {
            Some(found) => Ok(found),
            None => Err(Stop::Lacks(vec![read])),
        }
    }

    fn find_all(&self, reads: Vec<Read>) -> Ruled<Vec<&Found>> {
        let lacks: Vec<Read> =
            reads.iter().filter(|read| !self.found.contains_key(*read)).cloned().collect();
        if lacks.is_empty() {
            Ok(reads.iter().filter_map(|read| self.found.get(read)).collect())
        } else {
            Err(Stop::Lacks(lacks))
        }
    }

    /// Everything that was asked so far.
    pub(super) fn asked(&self) -> Vec<Read> {
        self.found.keys().cloned().collect()
    }

    /// Adds answers.
    pub(super) fn learn(&mut self, reads: Vec<Read>, found: Vec<Found>) {
        self.found.extend(reads.into_iter().zip(found));
    }
}

fn records<R: Record>(found: &Found) -> Ruled<Vec<R>> {
    match found {
        Found::Records(rows) => {
            Ok(rows.iter().map(|row| R::from_row(row)).collect::<Result<_, _>>()?)
        }
        _ => Ok(Vec::new()),
    }
}

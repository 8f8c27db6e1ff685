//! What commits make of indexes.

use crate::backend::{BackendResult, Datum, Row, TableId};

use super::super::database::Value;
use super::super::{keys, row};
use super::{Draft, Stop};

impl Draft<'_> {
    /// Makes the entries of the indexes those of `after`.
    pub(super) fn move_indexes(
        &mut self,
        id: TableId,
        before: Option<&[Datum]>,
        after: Option<&[Datum]>,
    ) -> Result<(), Stop> {
        let (table, _) = self.layout.table(id)?;
        if table.indexes.is_empty() {
            return Ok(());
        }
        let of = |record: Option<&[Datum]>| match record {
            Some(record) => self.layout.indexed(id, record),
            None => Ok(Vec::new()),
        };
        let (old, new) = (of(before)?, of(after)?);
        for (at, index) in table.indexes.iter().enumerate() {
            let (old, new) = (old.get(at), new.get(at));
            if old == new {
                continue;
            }
            if let Some(old) = old {
                self.put_over(old.clone(), Some(Value::new()), None);
            }
            if index.unique {
                self.move_unique(id, at, before, after)?;
            }
            if let Some(new) = new {
                self.put_over(new.clone(), None, Some(Value::new()));
            }
        }
        Ok(())
    }

    /// Makes the row of a unique index that of `after`. It is a row of its own, and not found by a scan, so that it is
    /// checked where others write too.
    fn move_unique(
        &mut self,
        id: TableId,
        index: usize,
        before: Option<&[Datum]>,
        after: Option<&[Datum]>,
    ) -> Result<(), Stop> {
        let (table, _) = self.layout.table(id)?;
        if let Some(before) = before {
            self.put(self.layout.unique(id, index, before)?, None)?;
        }
        let Some(after) = after else { return Ok(()) };
        let key = self.layout.unique(id, index, after)?;
        if self.get(&key)?.is_some() {
            return Err(Stop::Taken(id, key));
        }
        self.put(key, Some(row::pack(&after[..table.key])))?;
        Ok(())
    }

    /// The record that a row of a unique index stands for.
    pub(super) fn unique_record(
        &mut self,
        id: TableId,
        unique: &[u8],
    ) -> BackendResult<Option<Row>> {
        let (table, number) = self.layout.table(id)?;
        let Some(key) = self.get(unique)? else { return Ok(None) };
        let key = row::unpack(Row::new(), key, &table.columns[..table.key])?;
        let key = keys::record(number, &key);
        self.get(&key)?.map(|value| self.layout.record(id, &key, value)).transpose()
    }
}

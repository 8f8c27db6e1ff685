//! What a transaction reads and writes: one table of bytes.

use std::ops::Range;

use im_core::keyed::{Rows, RowsMut, Step, Way};
use im_core::ports::StoreResult;
use redb::{ReadableTable, Table, TableDefinition};

use crate::database::Redb;

type Bytes = &'static [u8];

/// Its name is part of what is on the disk.
pub(crate) const ROWS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("im");

/// The table as a transaction sees it.
pub(crate) struct Seen<'a, T> {
    pub(crate) table: T,
    /// Is told of errors.
    pub(crate) redb: &'a Redb,
}

impl<T: ReadableTable<Bytes, Bytes>> Rows for Seen<'_, T> {
    fn get(&self, key: &[u8]) -> StoreResult<Option<Vec<u8>>> {
        let value = self.table.get(key).map_err(|e| self.redb.failed(e))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn walk(
        &self,
        range: Range<&[u8]>,
        way: Way,
        each: &mut dyn FnMut(&[u8], &[u8]) -> Step,
    ) -> StoreResult<()> {
        let mut rows = self.table.range::<&[u8]>(range).map_err(|e| self.redb.failed(e))?;
        loop {
            let row = match way {
                Way::Forwards => rows.next(),
                Way::Backwards => rows.next_back(),
            };
            let Some(row) = row else { return Ok(()) };
            let (key, value) = row.map_err(|e| self.redb.failed(e))?;
            if each(key.value(), value.value())?.is_break() {
                return Ok(());
            }
        }
    }
}

impl RowsMut for Seen<'_, Table<'_, Bytes, Bytes>> {
    fn put(&mut self, key: &[u8], value: &[u8]) -> StoreResult<()> {
        self.table.insert(key, value).map(drop).map_err(|e| self.redb.failed(e))
    }

    fn remove(&mut self, key: &[u8]) -> StoreResult<()> {
        self.table.remove(key).map(drop).map_err(|e| self.redb.failed(e))
    }
}

//! What a transaction reads: one table of bytes.

use std::ops::Range;

use im_core::backend::{BackendResult, Way};
use im_core::kv::{Each, Rows, Value};
use parking_lot::MappedRwLockReadGuard;
use redb::{ReadOnlyTable, TableDefinition};

use crate::database::Redb;

type Bytes = &'static [u8];

/// Its name is part of what is on the disk.
pub(crate) const ROWS: TableDefinition<'static, Bytes, Bytes> = TableDefinition::new("im");

/// The table of one moment.
pub(crate) struct Snapshot<'a> {
    pub(crate) table: ReadOnlyTable<Bytes, Bytes>,
    /// Notes errors.
    pub(crate) redb: &'a Redb,
    /// Keeps the file from being opened again.
    pub(crate) _open: MappedRwLockReadGuard<'a, redb::Database>,
}

impl Rows for Snapshot<'_> {
    fn get(&self, key: &[u8]) -> BackendResult<Option<Value>> {
        let value = self.table.get(key).map_err(|e| self.redb.failed(e))?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    fn scan(&self, range: Range<&[u8]>, way: Way, each: Each<'_>) -> BackendResult<()> {
        if range.is_empty() {
            return Ok(());
        }
        let mut rows = self.table.range::<&[u8]>(range).map_err(|e| self.redb.failed(e))?;
        loop {
            let row = match way {
                Way::Forwards => rows.next(),
                Way::Backwards => rows.next_back(),
            };
            let Some(row) = row else { return Ok(()) };
            let (key, value) = row.map_err(|e| self.redb.failed(e))?;
            if each(key.value(), value.value()).is_break() {
                return Ok(());
            }
        }
    }
}

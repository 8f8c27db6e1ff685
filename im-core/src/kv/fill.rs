//! Indexes that were declared after records were written.

use std::ops::{ControlFlow, Range};

use crate::backend::{self, BackendError, BackendResult, TableId, Way};

use super::database::{Database, Key, Value, WriteBatch, Written};
use super::layout::Layout;
use super::{keys, row};

/// Rows in one batch.
const CHUNK: usize = 1_000;

/// Makes all entries of an index. What an attempt before has left is removed.
pub(super) fn fill(
    database: &impl Database,
    layout: &Layout,
    id: TableId,
    index: usize,
) -> BackendResult<()> {
    let (_, number) = layout.table(id)?;
    let at = index as u8;
    for prefix in [keys::indexed(number, at), keys::uniques(number, at)] {
        clear(database, keys::all(&prefix))?;
    }
    let mut range = layout.range(&backend::Range::of(id, Vec::new()))?;
    loop {
        let rows = chunk(database, &range)?;
        let Some((last, _)) = rows.last() else { return Ok(()) };
        let next = keys::behind(last);
        // Others may have written to it meanwhile: then this chunk is read again.
        if database.write(&entries(database, layout, id, index, rows)?)? == Written::Applied {
            range.start = next;
        }
    }
}

/// The batch that puts the entries of these records.
fn entries(
    database: &impl Database,
    layout: &Layout,
    id: TableId,
    index: usize,
    rows: Vec<(Key, Value)>,
) -> BackendResult<WriteBatch> {
    let (table, _) = layout.table(id)?;
    let is_unique = table.indexes.get(index).is_some_and(|index| index.unique);
    let mut batch = WriteBatch::default();
    for (key, value) in rows {
        let record = layout.record(id, &key, value.clone())?;
        let entry = layout.indexed(id, &record)?.swap_remove(index);
        batch.changes.push((entry, Some(Value::new())));
        if is_unique {
            let unique = layout.unique(id, index, &record)?;
            let own = row::pack(&record[..table.key]);
            let is_taken = database.get(&unique)?.is_some_and(|held| held != own);
            if is_taken || batch.changes.iter().any(|(other, _)| *other == unique) {
                let (name, index) = (table.name, table.indexes[index].name);
                let words = format!("two records of `{name}` agree in the unique index `{index}`");
                return Err(BackendError::misuse(words));
            }
            batch.changes.push((unique, Some(own)));
        }
        if !database.info().exclusive {
            batch.checks.push((key, Some(value)));
        }
    }
    batch.changes.sort();
    Ok(batch)
}

fn clear(database: &impl Database, range: Range<Key>) -> BackendResult<()> {
    loop {
        let rows = chunk(database, &range)?;
        if rows.is_empty() {
            return Ok(());
        }
        let changes = rows.into_iter().map(|(key, _)| (key, None)).collect();
        database.write(&WriteBatch { checks: Vec::new(), changes })?;
    }
}

/// The first rows of a range.
fn chunk(database: &impl Database, range: &Range<Key>) -> BackendResult<Vec<(Key, Value)>> {
    let mut rows = Vec::new();
    if range.is_empty() {
        return Ok(rows);
    }
    database.scan(&range.start..&range.end, Way::Forwards, &mut |key, value| {
        rows.push((key.to_vec(), value.to_vec()));
        if rows.len() < CHUNK { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(rows)
}

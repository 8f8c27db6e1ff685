//! Answers to questions, from the rows of one moment.

use std::ops::ControlFlow;

use crate::backend::{
    BackendError, BackendResult, ChangeRecord, Datum, FeedPlace, FeedPosition, Found, LogRead,
    Range, Read, Row, Sends, TableId, Way,
};

use super::database::{Key, Rows, Value};
use super::layout::{Layout, int};
use super::{keys, row};

/// Answers a batch of questions.
pub(super) fn look(layout: &Layout, rows: &dyn Rows, reads: &[Read]) -> BackendResult<Vec<Found>> {
    reads.iter().map(|read| answer(layout, rows, read)).collect()
}

fn answer(layout: &Layout, rows: &dyn Rows, read: &Read) -> BackendResult<Found> {
    match read {
        Read::Get { table, key } => get(layout, rows, *table, key).map(Found::Record),
        Read::Find { table, index, values } => {
            let (declared, _) = layout.table(*table)?;
            let found = declared.indexes.get(*index);
            if found.is_none_or(|index| !index.unique || index.columns.len() != values.len()) {
                let words = format!("`{}` has no such unique index", declared.name);
                return Err(BackendError::misuse(words));
            }
            let range = Range::of(*table, values.clone()).by(*index).limit(1);
            Ok(Found::Record(read_range(layout, rows, &range)?.pop()))
        }
        Read::Range(range) => read_range(layout, rows, range).map(Found::Records),
        Read::Log(log) => read_log(layout, rows, log).map(Found::Records),
        Read::Send { log, sender, id } => {
            let key = keys::send(*log, sender, id);
            let send = rows.get(&key)?.map(|value| layout.send(&key, value)).transpose();
            send.map(Found::Record)
        }
        Read::Sends(sends) => read_sends(layout, rows, sends).map(Found::Records),
        Read::Changes { after, limit } => read_changes(rows, after, *limit).map(Found::Changes),
    }
}

fn get(layout: &Layout, rows: &dyn Rows, id: TableId, key: &[Datum]) -> BackendResult<Option<Row>> {
    let (table, number) = layout.table(id)?;
    Layout::check(table, key, table.key)?;
    let at = keys::record(number, key);
    rows.get(&at)?.map(|value| row::unpack(key.to_vec(), value, &table.columns)).transpose()
}

fn read_range(layout: &Layout, rows: &dyn Rows, range: &Range) -> BackendResult<Vec<Row>> {
    let found = collect(rows, layout.range(range)?, range.way, range.limit)?;
    let record = |(key, value): (Key, Value)| match range.index {
        None => layout.record(range.table, &key, value).map(Some),
        Some(index) => {
            let key = key_of(layout, range.table, index, &key)?;
            get(layout, rows, range.table, &key)
        }
    };
    found.into_iter().filter_map(|row| record(row).transpose()).collect()
}

/// The key of the record that an entry of an index stands for.
pub(super) fn key_of(
    layout: &Layout,
    id: TableId,
    index: usize,
    entry: &[u8],
) -> BackendResult<Row> {
    let (table, _) = layout.table(id)?;
    let order = table.order(Some(index));
    let values = keys::read(entry, 4, order.iter().map(|column| &table.columns[*column]))?;
    let of = |column: usize| order.iter().position(|other| *other == column);
    // The order has every column of the key.
    Ok((0..table.key).filter_map(of).map(|at| values[at].clone()).collect())
}

fn read_log(layout: &Layout, rows: &dyn Rows, read: &LogRead) -> BackendResult<Vec<Row>> {
    let log = &layout.schema.log;
    let (mut entries, mut failed, mut bytes) = (Vec::new(), None, 0_usize);
    let range = read.keys();
    rows.scan(&range.start..&range.end, read.way, &mut |key, value| {
        if entries.len() >= read.limit {
            return ControlFlow::Break(());
        }
        let mut entry = match layout.entry(key, value.to_vec()) {
            Ok(entry) => entry,
            Err(error) => {
                failed = Some(error);
                return ControlFlow::Break(());
            }
        };
        let size = int(&entry[log.size]).and_then(|size| usize::try_from(size).ok());
        bytes = bytes.saturating_add(size.unwrap_or_default());
        if bytes > read.max_bytes && !entries.is_empty() {
            return ControlFlow::Break(());
        }
        if read.headers {
            let columns = entry.iter_mut().zip(&log.table.columns);
            columns
                .filter(|(_, column)| column.content)
                .for_each(|(value, _)| *value = Datum::Null);
        }
        entries.push(entry);
        ControlFlow::Continue(())
    })?;
    failed.map_or(Ok(entries), Err)
}

fn read_sends(layout: &Layout, rows: &dyn Rows, sends: &Sends) -> BackendResult<Vec<Row>> {
    let all = keys::sends(sends.log);
    let prefix = match &sends.sender {
        Some(sender) => keys::push_all(all, std::slice::from_ref(sender)),
        None => all,
    };
    let mut range = keys::all(&prefix);
    if let Some((sender, id)) = &sends.after {
        range.start = range.start.max(keys::behind(&keys::send(sends.log, sender, id)));
    }
    let found = collect(rows, range, Way::Forwards, sends.limit)?;
    found.into_iter().map(|(key, value)| layout.send(&key, value)).collect()
}

fn read_changes(
    rows: &dyn Rows,
    after: &FeedPosition,
    limit: usize,
) -> BackendResult<Vec<ChangeRecord>> {
    // One writer: whoever has the mutex.
    let tick = after.0.get(&WRITER).copied().unwrap_or(0);
    let range = keys::change(WRITER, tick.saturating_add(1))..keys::behind(&keys::changes(WRITER));
    let found = collect(rows, range, Way::Forwards, limit.max(1))?;
    let record = |(key, value): (Key, Value)| {
        let touched = row::unpack_rows(value)?;
        Ok(ChangeRecord { place: FeedPlace { writer: WRITER, tick: tick_of(&key)? }, touched })
    };
    found.into_iter().map(record).collect()
}

/// The number of the only writer.
pub(super) const WRITER: u16 = 0;

/// The last tick in the change feed; 0 if there is none.
pub(super) fn last_tick(rows: &dyn Rows) -> BackendResult<u64> {
    let all = keys::all(&keys::changes(WRITER));
    let last = collect(rows, all, Way::Backwards, 1)?;
    last.first().map_or(Ok(0), |(key, _)| tick_of(key))
}

fn tick_of(key: &[u8]) -> BackendResult<u64> {
    let tick = key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    tick.ok_or_else(|| BackendError::corrupt("a key of the change feed"))
}

fn collect(
    rows: &dyn Rows,
    range: std::ops::Range<Key>,
    way: Way,
    limit: usize,
) -> BackendResult<Vec<(Key, Value)>> {
    let mut found = Vec::new();
    if range.start >= range.end || limit == 0 {
        return Ok(found);
    }
    rows.scan(&range.start..&range.end, way, &mut |key, value| {
        found.push((key.to_vec(), value.to_vec()));
        if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(found)
}

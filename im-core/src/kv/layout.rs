//! The declared tables, and where each one's rows are.

use crate::backend::{
    BackendError, BackendResult, Column, Datum, Declared, LogRead, Range, Row, Schema, Table,
    TableId, Type,
};

use super::database::{Key, Rows, Value, WriteBatch};
use super::{keys, row};

/// The layout that this version writes.
const LAYOUT: i64 = 1;

/// A schema, with the number that each of its tables has in this database.
pub(super) struct Layout {
    pub(super) schema: Schema,
    numbers: Vec<u16>,
    pub(super) generation: u64,
}

/// What is to be written so that a database has a schema.
pub(super) struct Opening {
    pub(super) layout: Layout,
    pub(super) batch: WriteBatch,
    /// Indexes that are new, by table: their entries are missing.
    pub(super) unfilled: Vec<(TableId, usize)>,
}

impl Layout {
    /// Compares a schema with what the database has. `generation` makes the number for one that is empty.
    pub(super) fn open(
        schema: &Schema,
        rows: &dyn Rows,
        generation: impl FnOnce() -> u64,
    ) -> BackendResult<Opening> {
        schema.check()?;
        let mut batch = WriteBatch::default();
        let held = read_ints(rows, "store", &mut batch)?;
        let generation = match held.as_deref() {
            Some([LAYOUT, generation]) => generation.cast_unsigned(),
            Some([layout, ..]) => {
                let words = format!(
                    "the database has layout {layout}, and this version reads {LAYOUT}: use the version that wrote it"
                );
                return Err(BackendError::misuse(words));
            }
            Some([]) => return Err(BackendError::corrupt("the number of the layout")),
            None => {
                let generation = generation();
                put_ints(&mut batch, "store", &[LAYOUT, generation.cast_signed()]);
                generation
            }
        };
        let tables = read_ints(rows, "tables", &mut batch)?;
        let before = tables.and_then(|tables| tables.first().copied()).unwrap_or(0);
        let mut last = before;
        let (mut numbers, mut unfilled) = (Vec::new(), Vec::new());
        declare(&schema.log.table, 0, rows, &mut batch)?;
        for (at, table) in schema.tables.iter().enumerate() {
            let id = TableId(u16::try_from(at).unwrap_or(u16::MAX));
            let declared = declare(table, last + 1, rows, &mut batch)?;
            last = last.max(i64::from(declared.number));
            numbers.push(declared.number);
            unfilled.extend(declared.unfilled.map(|index| (id, index)));
        }
        if last > before {
            put_ints(&mut batch, "tables", &[last]);
        }
        batch.changes.sort();
        let layout = Self { schema: schema.clone(), numbers, generation };
        Ok(Opening { layout, batch, unfilled })
    }

    /// Begins another generation, in the batch that opens the database.
    pub(super) fn renew(&mut self, batch: &mut WriteBatch, generation: u64) {
        self.generation = generation;
        batch.changes.retain(|(key, _)| *key != keys::meta("store"));
        put_ints(batch, "store", &[LAYOUT, generation.cast_signed()]);
        batch.changes.sort();
    }

    pub(super) fn table(&self, id: TableId) -> BackendResult<(&Table, u16)> {
        let table = self.schema.table(id)?;
        let number = self.numbers.get(usize::from(id.0)).copied();
        number.map(|number| (table, number)).ok_or_else(|| BackendError::misuse("no such table"))
    }

    /// The record that `value` and the columns of its key are.
    pub(super) fn record(&self, id: TableId, key: &[u8], value: Value) -> BackendResult<Row> {
        let (table, _) = self.table(id)?;
        let columns = &table.columns;
        row::unpack(keys::read(key, 3, &columns[..table.key])?, value, columns)
    }

    /// The entry of a log under this key.
    pub(super) fn entry(&self, key: &[u8], value: Value) -> BackendResult<Row> {
        let columns = &self.schema.log.table.columns;
        row::unpack(keys::read(key, 1, &columns[..2])?, value, columns)
    }

    /// The send under this key.
    pub(super) fn send(&self, key: &[u8], value: Value) -> BackendResult<Row> {
        let log = &self.schema.log;
        let columns = log.unique.map(|column| &log.table.columns[column]);
        let mut send = keys::read(key, 9, columns)?;
        let mut reader = row::Reader::new(value);
        for _ in 0..=log.outlives.len() {
            send.push(reader.next()?);
        }
        Ok(send)
    }

    /// The send that an entry is: its key, and what is remembered of it. `None`: it has no message id.
    pub(super) fn send_of(&self, entry: &[Datum]) -> Option<(Key, Value)> {
        let log = &self.schema.log;
        let [sender, id] = log.unique.map(|column| &entry[column]);
        if id.is_null() {
            return None;
        }
        let kept = log.outlives.iter().map(|column| entry[*column].clone());
        let kept: Row = std::iter::once(entry[1].clone()).chain(kept).collect();
        Some((keys::send(int(&entry[0])?, sender, id), row::pack(&kept)))
    }

    /// The entries of its indexes that a record has.
    pub(super) fn indexed(&self, id: TableId, record: &[Datum]) -> BackendResult<Vec<Key>> {
        let (table, number) = self.table(id)?;
        let entry = |at: usize| {
            let values: Row =
                table.order(Some(at)).into_iter().map(|column| record[column].clone()).collect();
            keys::push_all(keys::indexed(number, at as u8), &values)
        };
        Ok((0..table.indexes.len()).map(entry).collect())
    }

    /// The row of a unique index that a record has.
    pub(super) fn unique(&self, id: TableId, at: usize, record: &[Datum]) -> BackendResult<Key> {
        let (table, number) = self.table(id)?;
        let columns = table.indexes.get(at).map(|index| index.columns.as_slice());
        let columns = columns.unwrap_or_default().iter();
        let values: Row = columns.map(|column| record[*column].clone()).collect();
        Ok(keys::push_all(keys::uniques(number, at as u8), &values))
    }

    /// The keys of records with this prefix, from one bound to the other, both included.
    pub(super) fn span(
        &self,
        id: TableId,
        prefix: &[Datum],
        [from, to]: [Option<&[Datum]>; 2],
    ) -> BackendResult<std::ops::Range<Key>> {
        let (table, number) = self.table(id)?;
        let order = table.order(None);
        Self::check_part(table, &order, prefix)?;
        for bound in [from, to].into_iter().flatten() {
            Self::check_part(table, &order[prefix.len()..], bound)?;
        }
        let prefix = keys::push_all(keys::records(number), prefix);
        let end = match to {
            Some(to) => keys::behind(&keys::push_all(prefix.clone(), to)),
            None => keys::behind(&prefix),
        };
        Ok(keys::push_all(prefix, from.unwrap_or_default())..end)
    }

    /// The keys that a range covers.
    pub(super) fn range(&self, range: &Range) -> BackendResult<std::ops::Range<Key>> {
        let (table, number) = self.table(range.table)?;
        let begin = match range.index {
            Some(index) if index < table.indexes.len() => keys::indexed(number, index as u8),
            Some(_) => {
                return Err(BackendError::misuse(format!("`{}` has no such index", table.name)));
            }
            None => keys::records(number),
        };
        let order = table.order(range.index);
        Self::check_part(table, &order, &range.prefix)?;
        for bound in [&range.after, &range.before].into_iter().flatten() {
            Self::check_part(table, &order[range.prefix.len()..], bound)?;
        }
        let prefix = keys::push_all(begin, &range.prefix);
        let from =
            range.after.as_ref().map(|after| keys::behind(&keys::push_all(prefix.clone(), after)));
        let to = range.before.as_ref().map(|before| keys::push_all(prefix.clone(), before));
        let all = keys::all(&prefix);
        Ok(from.unwrap_or(all.start)..to.unwrap_or(all.end))
    }

    /// Checks that a row has the columns of a table.
    pub(super) fn check(table: &Table, row: &[Datum], columns: usize) -> BackendResult<()> {
        if row.len() != columns {
            let words =
                format!("a row of `{}` has {} columns, not {columns}", table.name, row.len());
            return Err(BackendError::misuse(words));
        }
        check_values(table, row.iter().zip(&table.columns))
    }

    /// Checks that values are of the first columns of an order.
    pub(super) fn check_part(
        table: &Table,
        order: &[usize],
        values: &[Datum],
    ) -> BackendResult<()> {
        if values.len() > order.len() {
            let (name, most, len) = (table.name, order.len(), values.len());
            let words = format!("a part of `{name}` is asked for by {len} columns, not by {most}");
            return Err(BackendError::misuse(words));
        }
        check_values(table, values.iter().zip(order.iter().map(|column| &table.columns[*column])))
    }
}

/// Checks that values fit into their columns.
fn check_values<'v>(
    table: &Table,
    mut values: impl Iterator<Item = (&'v Datum, &'v Column)>,
) -> BackendResult<()> {
    match values.find(|(datum, column)| !fits(datum, column)) {
        Some((_, column)) => Err(BackendError::misuse(format!(
            "a value does not fit into the column `{}` of `{}`",
            column.name, table.name
        ))),
        None => Ok(()),
    }
}

/// Whether a value fits into a column.
fn fits(datum: &Datum, column: &Column) -> bool {
    match (datum, column.ty) {
        (_, Type::Revision | Type::Changed) => true,
        (Datum::Null, _) => column.nullable,
        (Datum::Int(_), Type::Int) | (Datum::Bytes(_), Type::Bytes | Type::Json) => true,
        (Datum::Text(text), Type::Text(most)) => {
            text.len() <= usize::from(most) && !text.contains('\0')
        }
        _ => false,
    }
}

impl LogRead {
    /// The keys that it covers.
    pub(super) fn keys(&self) -> std::ops::Range<Key> {
        let from = keys::entry(self.log, self.from);
        if self.from > self.to {
            return from.clone()..from;
        }
        from..keys::behind(&keys::entry(self.log, self.to))
    }
}

/// A table of the database: its number, and the indexes that its records are not in yet.
struct Numbered {
    number: u16,
    unfilled: std::ops::Range<usize>,
}

/// Compares a table with how it was declared before.
fn declare(
    table: &Table,
    number: i64,
    rows: &dyn Rows,
    batch: &mut WriteBatch,
) -> BackendResult<Numbered> {
    let key = keys::meta(&format!("table {}", table.name));
    let held = rows.get(&key)?;
    batch.checks.push((key.clone(), held.clone()));
    let (number, unfilled) = match held {
        // A new table has no records.
        None => (number, 0..0),
        Some(held) => {
            let (number, declared) = read_declared(held)?;
            (number, declared.upgrade(table)?.indexes)
        }
    };
    batch.changes.push((key, Some(write_declared(number, &Declared::of(table)))));
    let number = u16::try_from(number).map_err(|_| BackendError::corrupt("a number of a table"))?;
    Ok(Numbered { number, unfilled })
}

fn write_declared(number: i64, declared: &Declared) -> Value {
    let texts = |texts: &[String]| texts.iter().map(|text| Datum::from(text.as_str())).collect();
    let head = vec![Datum::Int(number), Datum::Int(i64::from(declared.version))];
    row::pack_rows(&[head, texts(&declared.columns), texts(&declared.indexes)])
}

fn read_declared(value: Value) -> BackendResult<(i64, Declared)> {
    let texts = |row: &Row| {
        let text = |datum: &Datum| datum.as_text().map(|text| text.to_string());
        row.iter().map(text).collect::<Option<Vec<_>>>()
    };
    let rows = row::unpack_rows(value)?;
    let read = || {
        let [head, columns, indexes] = &rows[..] else { return None };
        let [number, version] = &head[..] else { return None };
        let version = u32::try_from(version.as_int()?).ok()?;
        let (columns, indexes) = (texts(columns)?, texts(indexes)?);
        Some((number.as_int()?, Declared { version, columns, indexes }))
    };
    read().ok_or_else(|| BackendError::corrupt("the declaration of a table"))
}

pub(super) fn int(datum: &Datum) -> Option<i64> {
    datum.as_int()
}

fn read_ints(
    rows: &dyn Rows,
    name: &str,
    batch: &mut WriteBatch,
) -> BackendResult<Option<Vec<i64>>> {
    let held = rows.get(&keys::meta(name))?;
    batch.checks.push((keys::meta(name), held.clone()));
    let Some(held) = held else { return Ok(None) };
    let row = row::unpack_rows(held)?.pop().unwrap_or_default();
    row.iter()
        .map(|datum| datum.as_int().ok_or_else(|| BackendError::corrupt(name)))
        .collect::<BackendResult<_>>()
        .map(Some)
}

fn put_ints(batch: &mut WriteBatch, name: &str, ints: &[i64]) {
    let row: Row = ints.iter().copied().map(Datum::Int).collect();
    batch.changes.push((keys::meta(name), Some(row::pack_rows(&[row]))));
}

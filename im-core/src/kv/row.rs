//! Columns as bytes: those of a record that are not in its key.

use bytes::Bytes;

use crate::backend::{BackendError, BackendResult, Column, Datum, Row, Type};

use super::database::Value;

const NULL: u8 = 0;
const INT: u8 = 1;
const TEXT: u8 = 2;
const BYTES: u8 = 3;

/// The columns, each with its type before it.
pub(super) fn pack(columns: &[Datum]) -> Value {
    let mut out = Vec::with_capacity(columns.iter().map(|datum| datum.size() + 3).sum());
    columns.iter().for_each(|datum| push(&mut out, datum));
    out
}

fn push(out: &mut Value, datum: &Datum) {
    match datum {
        Datum::Null => out.push(NULL),
        Datum::Int(int) => {
            out.push(INT);
            push_number(out, zigzag(*int));
        }
        Datum::Text(text) => push_bytes(out, TEXT, text.as_bytes()),
        Datum::Bytes(bytes) => push_bytes(out, BYTES, bytes),
    }
}

fn push_bytes(out: &mut Value, tag: u8, bytes: &[u8]) {
    out.push(tag);
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Seven bits a byte, the lowest first.
#[allow(clippy::cast_possible_truncation, reason = "the lowest bits are what is meant")]
fn push_number(out: &mut Value, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn zigzag(int: i64) -> u64 {
    ((int << 1) ^ (int >> 63)).cast_unsigned()
}

/// Reads columns that [`pack`] wrote.
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(value: Value) -> Self {
        Self { bytes: value.into() }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> BackendResult<Datum> {
        match self.byte()? {
            NULL => Ok(Datum::Null),
            INT => {
                let number = self.number()?;
                Ok(Datum::Int((number >> 1).cast_signed() ^ -(number & 1).cast_signed()))
            }
            TEXT => {
                let text = self.slice()?;
                let text = std::str::from_utf8(&text).map_err(|_| damaged())?;
                Ok(Datum::Text(text.into()))
            }
            BYTES => Ok(Datum::Bytes(self.slice()?)),
            _ => Err(damaged()),
        }
    }

    fn byte(&mut self) -> BackendResult<u8> {
        let byte = *self.bytes.first().ok_or_else(damaged)?;
        self.bytes = self.bytes.slice(1..);
        Ok(byte)
    }

    fn number(&mut self) -> BackendResult<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(damaged())
    }

    fn slice(&mut self) -> BackendResult<Bytes> {
        let len = usize::try_from(self.number()?).map_err(|_| damaged())?;
        if len > self.bytes.len() {
            return Err(damaged());
        }
        Ok(self.bytes.split_to(len))
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Puts the columns of a value behind those of its key. Columns that were declared after it was written are `Null`, 0 or empty.
pub(super) fn unpack(mut row: Row, value: Value, columns: &[Column]) -> BackendResult<Row> {
    let mut reader = Reader::new(value);
    row.reserve(columns.len() - row.len().min(columns.len()));
    for column in &columns[row.len()..] {
        row.push(if reader.is_empty() { missing(column) } else { reader.next()? });
    }
    Ok(row)
}

fn missing(column: &Column) -> Datum {
    match column.ty {
        _ if column.nullable => Datum::Null,
        Type::Changed => Datum::Null,
        Type::Int | Type::Revision => Datum::Int(0),
        Type::Text(_) => Datum::from(""),
        Type::Bytes | Type::Json => Datum::Bytes(Bytes::new()),
    }
}

/// Rows as one value: what a transaction touched.
pub(super) fn pack_rows(rows: &[Row]) -> Value {
    let mut out = Value::new();
    for row in rows {
        push_number(&mut out, row.len() as u64);
        row.iter().for_each(|datum| push(&mut out, datum));
    }
    out
}

pub(super) fn unpack_rows(value: Value) -> BackendResult<Vec<Row>> {
    let mut reader = Reader::new(value);
    let mut rows = Vec::new();
    while !reader.is_empty() {
        let len = reader.number()?;
        rows.push((0..len).map(|_| reader.next()).collect::<BackendResult<_>>()?);
    }
    Ok(rows)
}

fn damaged() -> BackendError {
    BackendError::corrupt("a record")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datum() -> impl Strategy<Value = Datum> {
        prop_oneof![
            Just(Datum::Null),
            any::<i64>().prop_map(Datum::Int),
            ".{0,200}".prop_map(|text| Datum::from(text.as_str())),
            proptest::collection::vec(any::<u8>(), 0..200).prop_map(|b| Datum::Bytes(b.into())),
        ]
    }

    proptest! {
        #[test]
        fn written_rows_are_read_back(
            rows in proptest::collection::vec(proptest::collection::vec(datum(), 0..5), 0..4)
        ) {
            prop_assert_eq!(unpack_rows(pack_rows(&rows)).unwrap(), rows);
        }

        #[test]
        fn damaged_rows_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = unpack_rows(bytes);
        }
    }

    #[test]
    fn added_columns_are_empty_in_records() {
        let columns = [
            Column::new("key", Type::Int, ""),
            Column::new("a", Type::Int, ""),
            Column::nullable("b", Type::Text(8), ""),
            Column::new("c", Type::Int, ""),
        ];
        let row = unpack(vec![Datum::Int(1)], pack(&[Datum::Int(2)]), &columns).unwrap();
        assert_eq!(row, [Datum::Int(1), Datum::Int(2), Datum::Null, Datum::Int(0)]);
    }
}

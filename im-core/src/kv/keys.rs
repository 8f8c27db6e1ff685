//! Where rows are. Layout 1.
//!
//! A key is a byte that says what the row is, then numbers and values that keep their order as bytes: integers in eight bytes,
//! the sign turned round; texts with 0 as `00 ff`, ended by `00 00`.
//!
//! | byte | key | value |
//! |---|---|---|
//! | 0 | name | a number or a declaration |
//! | 1 | table, columns of the key | the other columns |
//! | 2 | table, index, columns of the index, the rest of the key | nothing |
//! | 3 | log, seq | the other columns |
//! | 4 | log, sender, message id | seq, and what outlives an entry |
//! | 5 | writer, tick | what a transaction touched |
//! | 6 | table, columns of the key | the last revision of a record that was removed |
//! | 7 | table, unique index, columns of the index | the key of the record |

use std::ops::Range;

use crate::backend::{BackendError, BackendResult, Column, Datum, Row, Type};

use super::database::Key;

const META: u8 = 0;
const RECORD: u8 = 1;
const INDEX: u8 = 2;
const ENTRY: u8 = 3;
const SEND: u8 = 4;
const CHANGE: u8 = 5;
const REMOVED: u8 = 6;
const UNIQUE: u8 = 7;

pub(super) fn meta(name: &str) -> Key {
    [&[META], name.as_bytes()].concat()
}

/// All records of a table.
pub(super) fn records(table: u16) -> Key {
    let [high, low] = table.to_be_bytes();
    vec![RECORD, high, low]
}

pub(super) fn record(table: u16, key: &[Datum]) -> Key {
    push_all(records(table), key)
}

pub(super) fn removed(table: u16, key: &[Datum]) -> Key {
    let [high, low] = table.to_be_bytes();
    push_all(vec![REMOVED, high, low], key)
}

/// All entries of an index.
pub(super) fn indexed(table: u16, index: u8) -> Key {
    let [high, low] = table.to_be_bytes();
    vec![INDEX, high, low, index]
}

/// All rows of a unique index.
pub(super) fn uniques(table: u16, index: u8) -> Key {
    let [high, low] = table.to_be_bytes();
    vec![UNIQUE, high, low, index]
}

pub(super) fn entries(log: i64) -> Key {
    let mut key = vec![ENTRY];
    push_int(&mut key, log);
    key
}

pub(super) fn entry(log: i64, seq: i64) -> Key {
    let mut key = entries(log);
    push_int(&mut key, seq);
    key
}

pub(super) fn sends(log: i64) -> Key {
    let mut key = vec![SEND];
    push_int(&mut key, log);
    key
}

pub(super) fn send(log: i64, sender: &Datum, id: &Datum) -> Key {
    let mut key = sends(log);
    push(&mut key, sender);
    push(&mut key, id);
    key
}

pub(super) fn changes(writer: u16) -> Key {
    let [high, low] = writer.to_be_bytes();
    vec![CHANGE, high, low]
}

pub(super) fn change(writer: u16, tick: u64) -> Key {
    [changes(writer), tick.to_be_bytes().to_vec()].concat()
}

/// Puts values behind a key.
pub(super) fn push_all(mut key: Key, values: &[Datum]) -> Key {
    values.iter().for_each(|value| push(&mut key, value));
    key
}

fn push(key: &mut Key, value: &Datum) {
    match value {
        Datum::Int(int) => push_int(key, *int),
        Datum::Text(text) => push_text(key, text.as_bytes()),
        Datum::Bytes(bytes) => push_text(key, bytes),
        // No column of a key is nullable.
        Datum::Null => push_text(key, &[]),
    }
}

fn push_int(key: &mut Key, int: i64) {
    key.extend_from_slice(&(int.cast_unsigned() ^ (1 << 63)).to_be_bytes());
}

fn push_text(key: &mut Key, text: &[u8]) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == 0) {
        key.extend_from_slice(&rest[..at]);
        key.extend_from_slice(&[0, 0xff]);
        rest = &rest[at + 1..];
    }
    key.extend_from_slice(rest);
    key.extend_from_slice(&[0, 0]);
}

/// The values behind the first `skipped` bytes of a key, of these types.
pub(super) fn read<'c>(
    key: &[u8],
    skipped: usize,
    columns: impl IntoIterator<Item = &'c Column>,
) -> BackendResult<Row> {
    let mut rest = key.get(skipped..).ok_or_else(damaged)?;
    let row = columns.into_iter().map(|column| take(&mut rest, column.ty)).collect();
    if rest.is_empty() { row } else { Err(damaged()) }
}

fn take(rest: &mut &[u8], ty: Type) -> BackendResult<Datum> {
    if !matches!(ty, Type::Text(_)) {
        let (int, tail) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
        *rest = tail;
        return Ok(Datum::Int((u64::from_be_bytes(*int) ^ (1 << 63)).cast_signed()));
    }
    let mut text = Vec::new();
    loop {
        let at = rest.iter().position(|byte| *byte == 0).ok_or_else(damaged)?;
        text.extend_from_slice(&rest[..at]);
        let mark = *rest.get(at + 1).ok_or_else(damaged)?;
        *rest = &rest[at + 2..];
        if mark == 0 {
            break;
        }
        text.push(0);
    }
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    Ok(Datum::Text(text.into()))
}

fn damaged() -> BackendError {
    BackendError::corrupt("a key")
}

/// The first key behind all that begin with `prefix`, whose first byte is not 255.
pub(super) fn behind(prefix: &[u8]) -> Key {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// All keys that begin with `prefix`.
pub(super) fn all(prefix: &[u8]) -> Range<Key> {
    prefix.to_vec()..behind(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn datum() -> impl Strategy<Value = (i64, String)> {
        (any::<i64>(), "[\u{0}-\u{3}a\u{ff}]{0,4}")
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_values(a in datum(), b in datum()) {
            let row = |(int, text): &(i64, String)| vec![Datum::from(text.as_str()), Datum::from(*int)];
            let (left, right) = (record(1, &row(&a)), record(1, &row(&b)));
            prop_assert_eq!(left.cmp(&right), row(&a).cmp(&row(&b)));
        }

        #[test]
        fn written_keys_are_read_back(a in datum()) {
            let row = vec![Datum::from(a.1.as_str()), Datum::from(a.0)];
            let columns = [Column::new("t", Type::Text(64), ""), Column::new("i", Type::Int, "")];
            prop_assert_eq!(read(&record(7, &row), 3, &columns).unwrap(), row);
        }

        #[test]
        fn damaged_keys_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let columns = [Column::new("t", Type::Text(64), ""), Column::new("i", Type::Int, "")];
            if let Ok(row) = read(&bytes, 0, &columns) {
                prop_assert_eq!(push_all(Vec::new(), &row), bytes);
            }
        }
    }
}

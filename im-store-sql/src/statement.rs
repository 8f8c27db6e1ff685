//! Statements as they are put together: each value is bound where its place stands, so that text and arguments cannot
//! fall out of step. No value ever becomes text.

use sqlx::{AssertSqlSafe, SqlSafeStr};

use crate::dialect::{Dialect, Lookup};
use crate::error::{Fault, Outcome};

/// A statement in the making.
pub(crate) struct Statement<D: Dialect> {
    text: String,
    args: D::Arguments,
    bound: usize,
    /// Within a group: how many values it has so far. They are put with commas between.
    group: Option<usize>,
    failed: Option<sqlx::Error>,
}

/// Rows in one statement. All databases take 65,535 arguments but SQLite, which takes 32,766; no table has more than 16
/// columns.
pub(crate) const MAX_ROWS: usize = 512;

impl<D: Dialect> Statement<D> {
    pub(crate) fn new(sql: &str) -> Self {
        Self {
            text: sql.to_owned(),
            args: D::Arguments::default(),
            bound: 0,
            group: None,
            failed: None,
        }
    }

    /// More text.
    pub(crate) fn sql(mut self, sql: &str) -> Self {
        self.text.push_str(sql);
        self
    }

    /// A number.
    pub(crate) fn int(self, value: u64) -> Self {
        self.opt_int(Some(value))
    }

    /// A number, or nothing. Seqs and times are below 2^53, as are the epochs that this store gives out; what is beyond 2^63, an
    /// epoch that a client made up, stands there as a negative number.
    pub(crate) fn opt_int(mut self, value: Option<u64>) -> Self {
        let value = value.map(u64::cast_signed);
        let bound = D::bind_int(&mut self.args, value);
        self.place(bound)
    }

    /// ` LIMIT …`: at most so many rows.
    pub(crate) fn limit(self, rows: usize) -> Self {
        let rows = u64::try_from(rows).unwrap_or(u64::MAX).min(im_core::id::MAX_SAFE_INTEGER);
        self.sql(" LIMIT ").int(rows)
    }

    pub(crate) fn text(self, value: &str) -> Self {
        self.opt_text(Some(value))
    }

    pub(crate) fn opt_text(mut self, value: Option<&str>) -> Self {
        let bound = D::bind_text(&mut self.args, value);
        self.place(bound)
    }

    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        self.opt_bytes(Some(value))
    }

    pub(crate) fn opt_bytes(mut self, value: Option<&[u8]>) -> Self {
        let bound = D::bind_bytes(&mut self.args, value);
        self.place(bound)
    }

    fn place(mut self, bound: crate::dialect::Bound) -> Self {
        if let Err(error) = bound {
            self.failed = Some(sqlx::Error::Encode(error));
        }
        if let Some(count) = &mut self.group {
            if *count > 0 {
                self.text.push_str(", ");
            }
            *count += 1;
        }
        self.bound += 1;
        D::placeholder(&mut self.text, self.bound);
        self
    }

    /// `(…), (…), …`: a group for each item, of the values that `bind` puts.
    pub(crate) fn groups<T>(mut self, items: &[T], bind: impl Fn(Self, &T) -> Self) -> Self {
        for (at, item) in items.iter().enumerate() {
            self = self.sql(if at == 0 { "" } else { ", " });
            self = self.group(|group| bind(group, item));
        }
        self
    }

    /// `(…)`: the values that `bind` puts, with commas between.
    pub(crate) fn group(mut self, bind: impl FnOnce(Self) -> Self) -> Self {
        self.text.push('(');
        self.group = Some(0);
        self = bind(self);
        self.group = None;
        self.sql(")")
    }

    /// `(…)`: a value for each item; the number of items is brought up to a power of two as in [`Statement::look_up`].
    pub(crate) fn list<T>(self, items: &[T], bind: impl Fn(Self, &T) -> Self) -> Self {
        self.group(|group| padded(items).into_iter().fold(group, bind))
    }

    /// A query for the rows of `table` whose `columns`, which are a key, have one of these values.
    ///
    /// The number of groups is a power of two, so that few different statements are prepared: the last item stands
    /// several times, and rows may be given several times.
    pub(crate) fn look_up<T>(
        select: &str,
        table: &str,
        columns: &[&str],
        items: &[T],
        bind: impl Fn(Self, &T) -> Self,
    ) -> Self {
        let padded = padded(items);
        let list = columns.join(", ");
        let wanted = || {
            Self::new(&format!("WITH w({list}) AS (VALUES "))
                .groups(&padded, |statement, item| bind(statement, item))
        };
        let on = |table: &str| {
            let on: Vec<_> =
                columns.iter().map(|column| format!("{table}.{column} = w.{column}")).collect();
            on.join(" AND ")
        };
        match D::LOOKUP {
            Lookup::Join => {
                wanted().sql(&format!(") SELECT {select} FROM w JOIN {table} t ON {}", on("t")))
            }
            Lookup::Lateral => wanted().sql(&format!(
                ") SELECT {select} FROM w JOIN LATERAL (SELECT * FROM {table} i WHERE {} LIMIT 1) t ON TRUE",
                on("i")
            )),
            Lookup::RowIn => {
                Self::new(&format!("SELECT {select} FROM {table} t WHERE ({list}) IN ("))
                    .groups(&padded, |statement, item| bind(statement, item))
                    .sql(")")
            }
        }
    }

    pub(crate) fn finish(self) -> Outcome<(sqlx::SqlStr, D::Arguments)> {
        match self.failed {
            Some(error) => Err(Fault::Database(error)),
            // Values are bound, never written into it; the rest stands in this crate.
            None => Ok((AssertSqlSafe(self.text).into_sql_str(), self.args)),
        }
    }
}

fn padded<T>(items: &[T]) -> Vec<&T> {
    let mut padded: Vec<&T> = items.iter().collect();
    if let Some(last) = items.last() {
        padded.resize(items.len().next_power_of_two(), last);
    }
    padded
}

/// Bytes of contents in one statement, but never fewer than one row's: a quarter of the `max_allowed_packet` that MariaDB has
/// by default, beyond which it ends the connection.
const MAX_BYTES: usize = 4 << 20;

/// Cuts items into pieces of sizes that are powers of two, largest first: few different statements are prepared.
pub(crate) fn pieces<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    bounded_pieces(items, |_| 0)
}

/// As [`pieces`], of items that take so many bytes each beside what is small.
pub(crate) fn bounded_pieces<T>(
    mut items: &[T],
    size: impl Fn(&T) -> usize,
) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        if items.is_empty() {
            return None;
        }
        let (most, mut bytes) = (items.len().min(MAX_ROWS), 0_usize);
        let fits = |item: &&T| {
            bytes = bytes.saturating_add(size(item));
            bytes <= MAX_BYTES
        };
        let most = items[..most].iter().take_while(fits).count().max(1);
        let size = 1 << most.ilog2();
        let (piece, rest) = items.split_at(size);
        items = rest;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces have powers of two as sizes and leave no item out.
    #[test]
    fn pieces_are_powers_of_two() {
        for count in [0, 1, 2, 3, 300, 512, 513, 1_100] {
            let items: Vec<usize> = (0..count).collect();
            let cut: Vec<&[usize]> = pieces(&items).collect();
            assert!(cut.iter().all(|piece| piece.len().is_power_of_two()));
            assert!(cut.iter().all(|piece| piece.len() <= MAX_ROWS));
            assert_eq!(cut.concat(), items);
        }
    }

    /// A piece stays below the byte limit, unless it is one larger item.
    #[test]
    fn pieces_are_bounded_by_bytes() {
        let sizes = [1, MAX_BYTES, 1, MAX_BYTES + 1, MAX_BYTES / 2, MAX_BYTES / 2, 1, 1, 1];
        let cut: Vec<&[usize]> = bounded_pieces(&sizes, |size| *size).collect();
        assert_eq!(cut.concat(), sizes);
        for piece in cut {
            assert!(piece.len() == 1 || piece.iter().sum::<usize>() <= MAX_BYTES, "{piece:?}");
            assert!(piece.len().is_power_of_two());
        }
    }
}

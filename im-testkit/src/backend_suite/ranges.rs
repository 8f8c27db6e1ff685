//! Ranges over keys and indexes, in both directions, from and to everywhere.

use std::cmp::Ordering;

use im_core::backend::{Range, Row, Table, Way};

use super::BackendFactory;
use super::fixture::*;

/// What a range of these records is, by its definition.
pub(super) fn expected(table: &Table, records: &[Row], range: &Range) -> Vec<Row> {
    let order = table.order(range.index);
    let of = |row: &Row| order.iter().map(|column| row[*column].clone()).collect::<Row>();
    let skipped = range.prefix.len();
    let compared = |row: &Row, bound: &Row| of(row)[skipped..][..bound.len()].cmp(&bound[..]);
    let is_in = |row: &&Row| {
        let greater = |bound| compared(row, bound) == Ordering::Greater;
        let less = |bound| compared(row, bound) == Ordering::Less;
        of(row)[..skipped] == range.prefix[..]
            && range.after.as_ref().is_none_or(greater)
            && range.before.as_ref().is_none_or(less)
    };
    let mut found: Vec<Row> = records.iter().filter(is_in).cloned().collect();
    found.sort_by_key(of);
    if range.way == Way::Backwards {
        found.reverse();
    }
    found.truncate(range.limit);
    found
}

/// Owners that are apart by little.
const OWNERS: [&str; 8] = ["", "a", "a\u{1}", "aa", "ab", "b", "\u{7f}", "é"];

async fn filled<F: BackendFactory>(factory: &F) -> (Db, Vec<Row>) {
    let db = Db::new(factory).await;
    let slots = [i64::MIN, -1, 0, 1, 256, i64::MAX];
    let of = |(at, owner): (usize, &'static str)| {
        slots.into_iter().enumerate().map(move |(n, slot)| item(owner, slot, ((at + n) % 4) as i64))
    };
    let rows: Vec<Row> = OWNERS.into_iter().enumerate().flat_map(of).collect();
    db.put(ITEMS, rows.clone()).await;
    (db, rows)
}

/// Asks for a range forwards and backwards, with limits and without, and compares.
async fn agree(db: &Db, rows: &[Row], range: Range) {
    let table = schema().tables.swap_remove(usize::from(ITEMS.0));
    for limit in [usize::MAX, 1, 5, 0] {
        for range in [range.clone().limit(limit), range.clone().limit(limit).backwards()] {
            let found = db.range(range.clone()).await;
            assert_eq!(found, expected(&table, rows, &range), "{range:?}");
        }
    }
}

fn all() -> Range {
    Range::of(ITEMS, Vec::new())
}

/// All records come in the order of their keys' bytes.
pub async fn range_runs_in_key_order<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    agree(&db, &rows, all()).await;
}

/// An index orders by its columns and then by the key.
pub async fn index_range_runs_in_order<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    agree(&db, &rows, all().by(BY_NUMBER)).await;
    for number in -1..5 {
        agree(&db, &rows, Range::of(ITEMS, vec![int(number)]).by(BY_NUMBER)).await;
        let prefix = vec![int(number), text("a")];
        agree(&db, &rows, Range::of(ITEMS, prefix).by(BY_NUMBER)).await;
    }
}

/// A prefix is a column's whole value, not the beginning of a text.
pub async fn prefix_names_whole_columns<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    for owner in OWNERS.into_iter().chain(["aaa", "zz", "a\u{2}"]) {
        agree(&db, &rows, Range::of(ITEMS, vec![text(owner)])).await;
        agree(&db, &rows, Range::of(ITEMS, vec![text(owner), int(1)])).await;
    }
}

/// Bounds leave out the records that equal them in the columns they name.
pub async fn range_bounds_are_exclusive<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    for owner in ["", "a", "aa", "ac", "é", "ü"] {
        for bound in [vec![text(owner)], vec![text(owner), int(0)], vec![text(owner), int(7)]] {
            agree(&db, &rows, all().after(bound.clone())).await;
            agree(&db, &rows, all().before(bound.clone())).await;
            agree(&db, &rows, all().after(vec![text("a\u{1}")]).before(bound)).await;
        }
    }
}

/// Bounds behind a prefix, also those at the ends of the integers.
pub async fn bounds_apply_behind_the_prefix<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    let prefixed = || Range::of(ITEMS, vec![text("aa")]);
    for slot in [i64::MIN, i64::MIN + 1, -1, 0, 2, i64::MAX - 1, i64::MAX] {
        agree(&db, &rows, prefixed().after(vec![int(slot)])).await;
        agree(&db, &rows, prefixed().before(vec![int(slot)])).await;
        agree(&db, &rows, prefixed().after(vec![int(-1)]).before(vec![int(slot)])).await;
    }
}

/// Bounds over an index, of its own columns and of the key's behind them.
pub async fn bounds_apply_over_an_index<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    for bound in [vec![int(1)], vec![int(1), text("aa")], vec![int(2), text("b"), int(0)]] {
        agree(&db, &rows, all().by(BY_NUMBER).after(bound.clone())).await;
        agree(&db, &rows, all().by(BY_NUMBER).before(bound.clone())).await;
        let behind = Range::of(ITEMS, bound[..1].to_vec()).by(BY_NUMBER);
        agree(&db, &rows, behind.clone().after(vec![text("a")])).await;
        agree(&db, &rows, behind.after(vec![text("a"), int(0)]).before(vec![text("b")])).await;
    }
}

/// Bounds over a unique index that name its columns and the key.
pub async fn bounds_apply_over_unique_index<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let rows: Vec<Row> = (0..6).map(|n| room(n, &format!("name {}", n * 7 % 6), "x", 0)).collect();
    db.put(ROOMS, rows).await;
    let (rows, table) = (db.all(ROOMS).await, schema().tables.remove(usize::from(ROOMS.0)));
    let by = || Range::of(ROOMS, Vec::new()).by(BY_NAME);
    for row in &rows {
        for bound in [vec![row[1].clone()], vec![row[1].clone(), row[0].clone()]] {
            let after = by().after(bound.clone());
            let before = by().before(bound.clone()).backwards();
            let prefixed = Range::of(ROOMS, bound).by(BY_NAME);
            for range in [by(), after, before, prefixed] {
                assert_eq!(
                    db.range(range.clone()).await,
                    expected(&table, &rows, &range),
                    "{range:?}"
                );
            }
        }
    }
}

/// An empty table, and bounds without a record between them, have no records.
pub async fn empty_range_has_no_records<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    agree(&db, &[], all()).await;
    agree(&db, &[], all().by(BY_NUMBER).after(vec![int(1)])).await;
    let (db, rows) = filled(factory).await;
    agree(&db, &rows, all().after(vec![text("b")]).before(vec![text("a")])).await;
    agree(&db, &rows, all().after(vec![text("a")]).before(vec![text("a")])).await;
    agree(&db, &rows, Range::of(ITEMS, vec![text("a")]).after(vec![int(i64::MAX)])).await;
}

/// Pages that each go on after the last record of the one before have every record once.
pub async fn pages_have_each_record_once<F: BackendFactory>(factory: &F) {
    let (db, rows) = filled(factory).await;
    let table = schema().tables.swap_remove(usize::from(ITEMS.0));
    for range in [all(), all().by(BY_NUMBER)] {
        let order = table.order(range.index);
        for backwards in [false, true] {
            let mut found: Vec<Row> = Vec::new();
            let start = if backwards { range.clone().backwards() } else { range.clone() };
            loop {
                let last = found.last().map(|row| order.iter().map(|c| row[*c].clone()).collect());
                let page = match last {
                    None => start.clone(),
                    Some(last) if backwards => start.clone().before(last),
                    Some(last) => start.clone().after(last),
                };
                let page = db.range(page.limit(7)).await;
                if page.is_empty() {
                    break;
                }
                found.extend(page);
            }
            assert_eq!(found, expected(&table, &rows, &start));
        }
    }
}

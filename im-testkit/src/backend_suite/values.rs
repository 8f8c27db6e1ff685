//! Values at their limits come back as they were, from records, keys and indexes.

use im_core::backend::{Range, Row};
use im_core::wire::{Map, Value};

use super::BackendFactory;
use super::fixture::*;

/// Puts items and compares them, by key, by range, and after a reopen if there is one.
async fn round_trip<F: BackendFactory>(factory: &F, rows: Vec<Row>) {
    let db = Db::new(factory).await;
    db.put(ITEMS, rows.clone()).await;
    let mut sorted = rows.clone();
    sorted.sort_by_key(|row| row[..2].to_vec());
    assert_eq!(db.all(ITEMS).await, sorted);
    for row in &rows {
        assert_eq!(db.get(ITEMS, row[..2].to_vec()).await.as_ref(), Some(row));
        let prefix = vec![row[2].clone(), row[0].clone(), row[1].clone()];
        let found = db.range(Range::of(ITEMS, prefix).by(BY_NUMBER)).await;
        assert_eq!(found, std::slice::from_ref(row));
    }
    let Some(db) = db.reopened(factory).await else { return };
    assert_eq!(db.all(ITEMS).await, sorted);
}

/// Integers from one end to the other, in keys, indexes and columns.
pub async fn integers_keep_their_ends<F: BackendFactory>(factory: &F) {
    let ints = [i64::MIN, i64::MIN + 1, -(1 << 53) - 1, -256, -1, 0, 1, 255, 1 << 53, i64::MAX];
    round_trip(factory, ints.into_iter().map(|n| item("a", n, n)).collect()).await;
}

/// Texts that are empty, or look alike, or are no good as they are in some language.
pub async fn texts_keep_every_character<F: BackendFactory>(factory: &F) {
    let texts = [
        "",
        " ",
        "  ",
        "a",
        "A",
        "a ",
        " a",
        "a\u{1}",
        "\u{1}",
        "\t\r\n",
        "\u{7f}\u{80}\u{85}",
        "é",
        "e\u{301}",
        "ß",
        "ss",
        "ı",
        "i",
        "İ",
        "🦀",
        "👩‍👩‍👧‍👦",
        "\u{202e}x\u{202c}",
        "\u{feff}x",
        "\u{fffd}",
        "\u{ffff}",
        "\u{10ffff}",
        "'; --",
        "\\",
        "\\0",
        "%",
        "_",
        "a%",
        "a_",
        "$1",
        "?",
        "{}",
        "\"",
    ];
    let row = |(at, text): (usize, &&str)| {
        let mut row = item(text, at as i64, 0);
        row[3] = (*text).into();
        row
    };
    round_trip(factory, texts.iter().enumerate().map(row).collect()).await;
}

/// Texts of as many bytes as their column takes, in keys and out of them.
pub async fn longest_texts_are_kept<F: BackendFactory>(factory: &F) {
    let owners = ["x".repeat(512), "é".repeat(256), "字".repeat(170) + "yy", "🦀".repeat(128)];
    let labels = ["y".repeat(40), "é".repeat(20), "字".repeat(13) + "z", "🦀".repeat(10)];
    let row = |(owner, label): (&String, &String)| {
        let mut row = item(owner, i64::MAX, i64::MIN);
        row[3] = label.as_str().into();
        row
    };
    let mut rows: Vec<Row> = owners.iter().zip(&labels).map(row).collect();
    // One that differs from another one in the last byte alone.
    rows.push(item(&("x".repeat(511) + "w"), i64::MAX, i64::MIN));
    round_trip(factory, rows).await;
}

/// Bytes of every value, none at all, and a mebibyte.
pub async fn bytes_of_all_sizes_are_kept<F: BackendFactory>(factory: &F) {
    let every: Vec<u8> = (0..=255).collect();
    let sizes = [0, 1, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 1 << 20];
    let row = |(at, size): (usize, &usize)| {
        let mut row = item("a", at as i64, at as i64);
        row[4] = bytes(&every.iter().copied().cycle().take(*size).collect::<Vec<u8>>());
        row
    };
    round_trip(factory, sizes.iter().enumerate().map(row).collect()).await;
}

/// `Null` is neither an empty text nor empty bytes nor a `null` of JSON.
pub async fn null_differs_from_empty<F: BackendFactory>(factory: &F) {
    let mut empty = item("empty", 0, 0);
    (empty[3], empty[4], empty[5]) = (text(""), bytes(&[]), json(&Value::Null));
    round_trip(factory, vec![empty, item("null", 0, 0)]).await;
}

/// Values of type `Json` are read back as the values that they were.
pub async fn json_values_are_kept<F: BackendFactory>(factory: &F) {
    let mut deep = Value::Null;
    for _ in 0..16 {
        deep = Value::Array(vec![deep]);
    }
    let map = Map::from_iter([
        ("", Value::Int((1 << 53) - 1)),
        ("$bytes", Value::Bytes(vec![0, 255])),
        ("z", Value::Float(0.1)),
        ("a", Value::Float(-1e300)),
        ("ключ", Value::Bool(false)),
    ]);
    let values = [
        Value::Bool(true),
        Value::Int(-((1 << 53) - 1)),
        Value::Int(0),
        Value::Float(1.5),
        Value::Float(f64::MIN_POSITIVE),
        Value::from(""),
        Value::from("\0 \u{10ffff} \"\\ é"),
        Value::Bytes(Vec::new()),
        Value::Array(Vec::new()),
        Map::default().into(),
        map.into(),
        deep,
    ];
    let row = |(at, value): (usize, &Value)| {
        let mut row = item("a", at as i64, 0);
        row[5] = json(value);
        row
    };
    round_trip(factory, values.iter().enumerate().map(row).collect()).await;
}

/// Names of guarded records and unique values at their limits are told apart.
pub async fn longest_guard_keys_are_apart<F: BackendFactory>(factory: &F) {
    let db = Db::new(factory).await;
    let names =
        ["x".repeat(64), "x".repeat(63), "字".repeat(21), "字".repeat(21) + "x", String::new()];
    db.put(LIVES, names.iter().map(|name| life(name, 1))).await;
    db.put(ROOMS, names.iter().zip(1..).map(|(name, id)| room(id, name, "", 0))).await;
    for name in &names {
        db.apply(im_core::backend::Commit {
            guards: vec![bump(LIVES, name.as_str(), 1)],
            ..Default::default()
        })
        .await;
    }
    let revisions: Vec<_> =
        db.all(LIVES).await.into_iter().map(|row| row[LIFE_REV].clone()).collect();
    assert_eq!(revisions, vec![int(2); names.len()]);
    assert_eq!(db.all(ROOMS).await.len(), names.len());
}

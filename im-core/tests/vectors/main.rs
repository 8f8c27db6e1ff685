//! The golden vectors in `wire/vectors`, which every implementation of the protocol reads in its
//! tests.
//!
//! They are generated from the cases in the modules here. A test fails when file and code differ;
//! after an intended change, write them again with `IM_BLESS=1 cargo test -p im-core --test
//! vectors` and read the difference.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod frames;
mod from_clients;
mod from_servers;
mod names;
mod refused;
mod refused_cases;
mod spec;
mod values;

use std::path::PathBuf;

use serde::Serialize;

/// The bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

/// The same JSON in visible ASCII: some vectors contain invisible characters.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}' {
            out.push(c);
        } else {
            c.encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

/// Compares the generated vectors with the file, or writes the file when asked to. Returns the
/// file's text.
fn golden(file: &str, made: &impl Serialize) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../wire/vectors").join(file);
    let made = ascii(&(serde_json::to_string_pretty(made).unwrap() + "\n"));
    if std::env::var_os("IM_BLESS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let differs = made.lines().zip(kept.lines()).position(|(made, kept)| made != kept);
    if let Some(line) = differs {
        let (made, kept) = (made.lines().nth(line), kept.lines().nth(line));
        panic!("wire/vectors/{file}, line {}:\n  file {kept:?}\n  code {made:?}", line + 1);
    }
    assert_eq!(
        made.len(),
        kept.len(),
        "wire/vectors/{file} is longer or shorter than what the code makes"
    );
    kept
}

//! Quoted code in the documents: a code block with a file name after its language quotes that file.
//! All blocks of a file together must equal the whole file, so that no quote is incomplete or
//! stale.
//!
//! Blank lines are ignored.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::links::documents;

/// Returns the wrong quotes in the documents of `folder`, in words.
pub(super) fn broken_in(folder: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (name, text) in documents(folder)? {
        for (file, quoted) in quotes(&text) {
            let path = folder.join(file);
            let source = fs::read_to_string(&path).with_context(|| {
                format!("{name} quotes {}, which cannot be read", path.display())
            })?;
            if let Some(why) = difference(&quoted, &source) {
                broken.push(format!("{name}: the quote of {file} differs from the file: {why}"));
            }
        }
    }
    Ok(broken)
}

/// Returns the quoted lines of each file.
fn quotes(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut quotes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // Some in a block; the inner value is the file that it quotes, if any.
    let mut open: Option<Option<&str>> = None;
    for line in text.lines() {
        match (open, line.strip_prefix("```")) {
            (None, Some(heading)) => open = Some(heading.split_whitespace().nth(1)),
            (Some(_), Some(_)) => open = None,
            (Some(Some(file)), None) => quotes.entry(file).or_default().push(line),
            _ => {}
        }
    }
    quotes
}

fn difference(quoted: &[&str], source: &str) -> Option<String> {
    let full = |line: &&str| !line.trim().is_empty();
    let mut quoted = quoted.iter().copied().filter(full);
    let mut source = source.lines().filter(full);
    loop {
        match (quoted.next(), source.next()) {
            (None, None) => return None,
            (one, other) if one == other => {}
            (one, other) => {
                let shown = |line: Option<&str>| line.unwrap_or("the end").trim().to_owned();
                return Some(format!(
                    "`{}` in the file, `{}` in the quote",
                    shown(other),
                    shown(one)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_file_form_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.rs"), "one\n\ntwo\nthree\n").unwrap();
        let broken = |text: &str| {
            fs::write(folder.path().join("page.md"), text).unwrap();
            broken_in(folder.path()).unwrap().len()
        };
        let block = |code: &str| format!("words\n```rust a.rs\n{code}\n```\n");
        assert_eq!(broken(&(block("one") + "```sh\nother\n```\n" + &block("two\nthree"))), 0);
        for wrong in ["one\ntwo", "two\nthree", "one\ntwo\n  three", "one\ntwo\nthree\nfour"] {
            assert_eq!(broken(&block(wrong)), 1, "{wrong}");
        }
    }

    #[test]
    fn missing_file_cannot_be_quoted() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("page.md"), "```rust b.rs\n```\n```rust b.rs\nx\n```")
            .unwrap();
        assert!(broken_in(folder.path()).is_err());
    }
}

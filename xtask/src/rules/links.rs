//! Links in the documents: their files exist, and the tests that they name exist.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Returns the broken links in the documents of `folder`, in words.
pub(super) fn broken_in(folder: &Path) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for (name, text) in documents(folder)? {
        broken.extend(broken_links(folder, &text).into_iter().map(|why| format!("{name}: {why}")));
    }
    broken.sort();
    Ok(broken)
}

/// Returns name and text of each document in `folder`.
pub(super) fn documents(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut documents = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            documents.push((name, fs::read_to_string(&path)?));
        }
    }
    Ok(documents)
}

fn broken_links(root: &Path, text: &str) -> Vec<String> {
    links(text).into_iter().filter_map(|(words, target)| wrong(root, words, target)).collect()
}

/// Returns words and target of each `[words](target)`.
fn links(text: &str) -> Vec<(&str, &str)> {
    let mut links = Vec::new();
    for (middle, _) in text.match_indices("](") {
        let begin = text[..middle].rfind('[');
        let end = text[middle..].find(')');
        if let (Some(begin), Some(end)) = (begin, end) {
            links.push((&text[begin + 1..middle], &text[middle + 2..middle + end]));
        }
    }
    links
}

fn wrong(root: &Path, words: &str, target: &str) -> Option<String> {
    let file = target.split('#').next().unwrap_or_default();
    if file.is_empty() || file.contains("://") {
        return None;
    }
    let path = root.join(file);
    if !path.exists() {
        return Some(format!("`{target}` does not exist"));
    }
    let test = test_name(words).filter(|_| file.ends_with(".rs"))?;
    let source = fs::read_to_string(&path).unwrap_or_default();
    let there =
        [format!("fn {test}("), format!("fn {test}<")].iter().any(|head| source.contains(head));
    if there { None } else { Some(format!("there is no `{test}` in {file}")) }
}

/// Returns the test that a link's words name: several words joined by `_`, in backticks.
fn test_name(words: &str) -> Option<&str> {
    let name = words.strip_prefix('`')?.strip_suffix('`')?;
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    (plain && name.contains('_')).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_tests_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.rs"), "fn it_holds() {}\nasync fn it_lasts<T>() {}")
            .unwrap();
        let broken = |text: &str| broken_links(folder.path(), text).len();
        assert_eq!(
            broken(
                "[`it_holds`](a.rs), [`it_lasts`](a.rs), [`plan`](a.rs), [x](https://x.y/z), [y](#y)"
            ),
            0
        );
        assert_eq!(broken("[`it_broke`](a.rs) and [the rest](b.md)"), 2);
    }
}

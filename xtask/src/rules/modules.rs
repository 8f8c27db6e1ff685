//! The rule inside im-core, checked on its sources: a scan for paths that begin at the crate's
//! root.
//!
//! Comments, string literals and everything after the first `#[cfg(test)]` of a file are ignored.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A module may import from earlier entries; modules of one entry may import each other.
const ORDER: [&[&str]; 11] = [
    &["id", "time", "code", "error"],
    &["wire"],
    &["state"],
    &["ports"],
    &["backend"],
    &["kv"],
    &["keyed"],
    &["memory"],
    &["store"],
    &["transfer"],
    &["engine"],
];

/// Words that a module without runtime, clock and I/O must not contain.
const IMPURE: [&str; 13] = [
    "tokio",
    "futures",
    "async_trait",
    "parking_lot",
    "SystemTime",
    "Instant",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::process",
    "std::env",
    "std::sync::Mutex",
];

/// Returns the violations in the sources below `src`, in words.
pub(super) fn broken_below(src: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(src, &mut files)?;
    files.sort();
    let mut broken = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("could not read {}", file.display()))?;
        let path = file.strip_prefix(src).unwrap_or(&file);
        let named = |why: String| format!("im-core/src/{}: {why}", path.display());
        broken.extend(broken_in(path, &text).into_iter().map(named));
    }
    Ok(broken)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in
        fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// Returns the violations in one file, whose path begins at `src`.
fn broken_in(path: &Path, text: &str) -> Vec<String> {
    let modules = modules_of(path);
    let Some(from) = modules.first() else { return Vec::new() };
    if path.file_name().is_some_and(|name| name == "tests.rs") {
        return Vec::new();
    }
    let Some(rank) = rank(from) else {
        return vec![format!(
            "the module `{from}` is missing in the order of modules: add it in xtask/src/rules"
        )];
    };
    let code = code_of(text);
    let mut broken: Vec<String> = roots_in(&code, modules.len())
        .into_iter()
        .filter(|to| self::rank(to).is_some_and(|to| to > rank))
        .map(|to| format!("`{from}` may not import from `{to}`"))
        .collect();
    if matches!(from.as_str(), "wire" | "state") {
        let impure = IMPURE.iter().filter(|word| says(&code, word));
        broken.extend(impure.map(|word| format!("`{from}` is pure and may not use `{word}`")));
    }
    broken.sort();
    broken.dedup();
    broken
}

fn rank(module: &str) -> Option<usize> {
    ORDER.iter().position(|peers| peers.contains(&module))
}

/// Returns the path of the module in a file; empty for the crate's root.
fn modules_of(path: &Path) -> Vec<String> {
    let mut parts: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| matches!(last.as_str(), "mod" | "lib")) {
        parts.pop();
    }
    parts
}

/// Returns the code without comments, string literals and tests.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let without_comments = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    let mut code = String::with_capacity(text.len());
    for line in without_comments {
        // Every second piece between quotation marks is a string literal.
        let outside = line.split('"').step_by(2).collect::<Vec<_>>();
        code.push_str(&outside.join("\"\""));
        code.push('\n');
    }
    code
}

/// Returns the first names of all paths that begin at the crate's root, in a module `depth` below
/// it.
fn roots_in(code: &str, depth: usize) -> Vec<String> {
    let mut prefixes = vec!["crate::".to_owned(), "super::".repeat(depth)];
    prefixes.dedup();
    let mut roots = Vec::new();
    for prefix in prefixes {
        for (at, _) in code.match_indices(&prefix) {
            let before = code[..at].chars().next_back();
            let part_of_more =
                before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$');
            if !part_of_more {
                roots.extend(first_names(&code[at + prefix.len()..]));
            }
        }
    }
    roots
}

/// Returns the name that `rest` begins with, or those of a group in braces.
fn first_names(rest: &str) -> Vec<String> {
    let Some(group) = rest.strip_prefix('{') else { return vec![name_of(rest)] };
    let (mut names, mut depth, mut begins) = (Vec::new(), 1_usize, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            c if begins && !c.is_whitespace() => {
                names.push(name_of(&group[at..]));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn name_of(rest: &str) -> String {
    rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Whether the code contains `word` as a whole word.
fn says(code: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        !is_part(code[..at].chars().next_back()) && !is_part(code[at + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        broken_in(Path::new(path), text)
    }

    #[test]
    fn later_modules_import_earlier_modules_only() {
        assert!(broken("state/append.rs", "use crate::wire::Event;\nuse crate::Code;").is_empty());
        assert_eq!(broken("wire/codec.rs", "use crate::state::plan;").len(), 1);
        assert_eq!(broken("ports/hooks.rs", "fn f() { crate::engine::start() }").len(), 1);
        assert_eq!(broken("memory/store.rs", "use crate::engine::Engine;").len(), 1);
        assert!(broken("engine/mod.rs", "use crate::memory::MemoryStore;").is_empty());
        assert!(broken("id.rs", "use crate::time::Stamp;").is_empty());
    }

    #[test]
    fn groups_and_parents_are_seen_through() {
        assert_eq!(
            broken("wire/a.rs", "use crate::{id::{RoomId, Seq},\n  state::plan, engine};").len(),
            2
        );
        assert_eq!(broken("wire/a.rs", "use super::super::state::plan;").len(), 1);
        assert_eq!(broken("wire/mod.rs", "use super::ports::Store;").len(), 1);
        assert!(broken("engine/a/b.rs", "use super::super::ports::Store;").is_empty());
        assert!(
            broken("wire/a.rs", "use super::state::X;").is_empty(),
            "wire::state would be wire's own"
        );
    }

    #[test]
    fn comments_strings_tests_are_ignored() {
        let text = "/// [`crate::engine::X`]\nconst A: &str = \"crate::engine\"; // crate::engine\n\
                    #[cfg(test)]\nmod tests { use crate::engine::X; }";
        assert!(broken("ports/a.rs", text).is_empty());
        assert!(broken("memory/tests.rs", "use crate::engine::X;").is_empty());
        assert!(broken("lib.rs", "pub use crate::engine::X;").is_empty());
    }

    #[test]
    fn wire_and_state_are_pure() {
        assert!(broken("wire/a.rs", "use std::time::Duration; struct Instantly;").is_empty());
        assert_eq!(broken("wire/a.rs", "use tokio::sync::mpsc;").len(), 1);
        assert_eq!(broken("state/a.rs", "let now = std::time::Instant::now();").len(), 1);
        assert_eq!(broken("state/a.rs", "std::fs::read(p)?; SystemTime::now();").len(), 2);
        assert!(broken("ports/clock.rs", "use std::time::SystemTime;").is_empty());
    }

    #[test]
    fn unlisted_module_is_reported() {
        assert_eq!(broken("novelty.rs", "").len(), 1);
    }

    #[test]
    fn a_folder_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("wire")).unwrap();
        fs::write(folder.path().join("wire/bad.rs"), "use crate::engine::Engine;").unwrap();
        fs::write(folder.path().join("lib.rs"), "pub mod wire;").unwrap();
        let broken = broken_below(folder.path()).unwrap();
        assert_eq!(broken, ["im-core/src/wire/bad.rs: `wire` may not import from `engine`"]);
    }
}

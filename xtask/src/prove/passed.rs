//! Which parts of the long proofs have passed, and on which code.
//!
//! A line of `target/xtask/proved.txt` is the code's fingerprint, the commit, and the part's name,
//! separated by tabs. The fingerprint covers the sources of servers, clients and the tools of the
//! proofs, so that later commits to other files void nothing.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{output, program, workshop};

/// Folders that are not part of the proved code.
const NOT_CODE: [&str; 6] = ["docs", "wire", "examples", "xtask", "clients", "tests/browser"];

/// The parts that have passed.
#[derive(Debug)]
pub(super) struct Passed {
    file: PathBuf,
    /// The fingerprint and the commit; `None` if the code has uncommitted changes.
    code: Option<(String, String)>,
    names: BTreeSet<String>,
}

impl Passed {
    /// Reads the parts that have passed on the current code.
    pub(super) fn open() -> Result<Self> {
        let code = code().context("could not read the code's state from git")?;
        if code.is_none() {
            eprintln!("    there are uncommitted changes: passed parts are not recorded");
        }
        Ok(Self::read(workshop().join("proved.txt"), code))
    }

    fn read(file: PathBuf, code: Option<(String, String)>) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let name = |line: &str| {
            let mut fields = line.splitn(3, '\t');
            let same = fields.next() == code.as_ref().map(|(code, _)| code.as_str());
            fields.nth(1).filter(|_| same).map(str::to_owned)
        };
        let names = text.lines().filter_map(name).collect();
        Self { file, code, names }
    }

    /// Whether the part has passed.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Records that the part has passed.
    pub(super) fn add(&self, name: &str) -> Result<()> {
        let Some((code, commit)) = &self.code else { return Ok(()) };
        let write = || {
            fs::create_dir_all(self.file.parent().unwrap_or(Path::new(".")))?;
            let mut file = OpenOptions::new().create(true).append(true).open(&self.file)?;
            file.write_all(format!("{code}\t{commit}\t{name}\n").as_bytes())
        };
        write().with_context(|| format!("could not write {}", self.file.display()))
    }
}

/// The fingerprint and the commit of the code, if all of it is committed.
fn code() -> Result<Option<(String, String)>> {
    let but = NOT_CODE.map(|folder| format!(":(exclude){folder}"));
    let but = || but.iter().map(String::as_str).chain([":(exclude)*.md"]);
    let git = |words: &[&str]| output(&mut program("git", words));
    let changed: Vec<_> = ["status", "--porcelain", "--", "."].into_iter().chain(but()).collect();
    if !git(&changed)?.trim().is_empty() {
        return Ok(None);
    }
    let files: Vec<_> = ["ls-files", "--stage", "--", "."].into_iter().chain(but()).collect();
    let commit = git(&["rev-parse", "HEAD"])?;
    Ok(Some((format!("{:016x}", hash(&git(&files)?)), commit.trim().to_owned())))
}

/// FNV-1a: independent of Rust's release.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_of_other_code_is_void() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("proved.txt");
        let on =
            |code: &str| Passed::read(file.clone(), Some((code.to_owned(), "commit".to_owned())));
        on("a").add("one").unwrap();
        on("b").add("two").unwrap();
        assert!(on("a").has("one") && !on("a").has("two"));
        assert!(on("b").has("two") && !on("b").has("one"));
        Passed::read(file.clone(), None).add("three").unwrap();
        assert!(!Passed::read(file, None).has("three"), "the code of that part is unknown");
    }
}

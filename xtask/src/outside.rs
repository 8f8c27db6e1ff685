//! `docs/raw-tcp`, a transport made as others would make theirs: outside the workspace, against the docs alone.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, root, run, target};

/// Where it lies.
pub(crate) const FOLDER: &str = "docs/raw-tcp";

/// The workspace's profile, so that both share what is built of other people's crates.
const PROFILE: [&str; 3] = [
    "profile.dev.debug=\"line-tables-only\"",
    "profile.dev.package.\"*\".opt-level=1",
    "profile.dev.package.\"*\".debug=false",
];

/// What a transport may take, in lines.
const FEWER_LINES_THAN: usize = 150;

/// Formatting.
pub(crate) fn check_format() -> Result<()> {
    run(&mut at_home(["fmt", "--check"]))
}

/// Clippy, docs, and its size.
pub(crate) fn check() -> Result<()> {
    run(built(["clippy", "--all-targets"]).args(["--", "-D", "warnings"]))?;
    run(built(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
    let source = root().join(FOLDER).join("src").join("lib.rs");
    let text = fs::read_to_string(&source)
        .with_context(|| format!("could not read {}", source.display()))?;
    let lines = text.lines().count();
    ensure!(
        lines < FEWER_LINES_THAN,
        "{FOLDER}/src/lib.rs has {lines} lines, and a transport is to take under {FEWER_LINES_THAN}: make the seam simpler"
    );
    eprintln!("    {FOLDER}/src/lib.rs has {lines} lines");
    Ok(())
}

/// Its tests, or those whose names contain `filter`.
pub(crate) fn test(filter: Option<&str>) -> Command {
    let mut tests = built(["test", "--no-fail-fast"]);
    tests.arg("--").args(filter);
    tests
}

/// `cargo` with these words for that crate, building where the workspace builds.
fn built<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = at_home(words);
    command.arg("--target-dir").arg(target());
    command.args(PROFILE.iter().flat_map(|line| ["--config", line]));
    command
}

/// `cargo` with these words in that crate's folder.
fn at_home<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = cargo(words);
    command.current_dir(root().join(FOLDER));
    command
}

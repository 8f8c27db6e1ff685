//! A transport, a store and a server made as others would make theirs: outside the workspace, against the docs alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, program, root, run, target};

/// A crate that is no member of the workspace.
pub(crate) struct Outside {
    /// What it is, for the steps' names.
    pub(crate) what: &'static str,
    /// Where it lies.
    folder: &'static str,
    /// What all of its `src` may take, in lines.
    fewer_lines_than: usize,
}

/// All of them.
pub(crate) const OUTSIDE: [Outside; 4] = [
    Outside { what: "the README's server", folder: "docs/mount-axum", fewer_lines_than: 25 },
    Outside { what: "a transport", folder: "docs/raw-tcp", fewer_lines_than: 150 },
    Outside { what: "a store", folder: "docs/redb-store", fewer_lines_than: 300 },
    Outside { what: "a shared store", folder: "docs/remote-store", fewer_lines_than: 300 },
];

/// The workspace's profile, so that all share what is built of other people's crates.
const PROFILE: [&str; 3] = [
    "profile.dev.debug=\"line-tables-only\"",
    "profile.dev.package.\"*\".opt-level=1",
    "profile.dev.package.\"*\".debug=false",
];

impl Outside {
    /// Formatting.
    pub(crate) fn check_format(&self) -> Result<()> {
        run(&mut self.at_home(["fmt", "--check"]))
    }

    /// Clippy, docs, and its size.
    pub(crate) fn check(&self) -> Result<()> {
        run(self.built(["clippy", "--all-targets"]).args(["--", "-D", "warnings"]))?;
        run(self.built(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
        let Self { what, folder, fewer_lines_than: most } = self;
        let lines = self.lines()?;
        ensure!(
            lines < *most,
            "{folder}/src has {lines} lines, and {what} is to take under {most}: make the seam simpler"
        );
        eprintln!("    {folder}/src has {lines} lines");
        Ok(())
    }

    /// Its tests, or those whose names contain `filter`.
    pub(crate) fn test(&self, filter: Option<&str>) -> Command {
        let mut tests = self.built(["test", "--no-fail-fast"]);
        tests.arg("--").args(filter);
        tests
    }

    /// `cargo deny check` of what it builds, by the rules of the workspace, of which it may need fewer. What is to be
    /// checked is added.
    pub(crate) fn deny(&self, deny: &Path) -> Command {
        let mut command = program(deny, ["--all-features", "--config"]);
        command.arg(root().join("deny.toml"));
        command.arg("--manifest-path").arg(self.home().join("Cargo.toml"));
        command.args(["check", "--allow", "license-not-encountered"]);
        command
    }

    /// The lines of all files of its `src`, which has no folders.
    fn lines(&self) -> Result<usize> {
        let source = self.home().join("src");
        let unread = || format!("could not read {}", source.display());
        let mut lines = 0;
        for file in fs::read_dir(&source).with_context(unread)? {
            lines += fs::read_to_string(file?.path()).with_context(unread)?.lines().count();
        }
        Ok(lines)
    }

    /// `cargo` with these words for that crate, building where the workspace builds.
    fn built<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.at_home(words);
        command.arg("--target-dir").arg(target());
        command.args(PROFILE.iter().flat_map(|line| ["--config", line]));
        command
    }

    /// `cargo` with these words in that crate's folder.
    fn at_home<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = cargo(words);
        command.current_dir(self.home());
        command
    }

    fn home(&self) -> PathBuf {
        root().join(self.folder)
    }
}

//! A transport, a store and a server as third parties would write them: outside the workspace, from
//! the docs alone.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::run::{cargo, program, root, run, target};

/// A crate that is no member of the workspace.
pub(crate) struct Outside {
    /// What the crate is, for the names of steps.
    pub(crate) what: &'static str,
    /// Its folder.
    folder: &'static str,
    /// Bound of the lines in its `src`.
    fewer_lines_than: usize,
}

/// All of them.
pub(crate) const OUTSIDE: [Outside; 4] = [
    Outside { what: "the README's server", folder: "docs/mount-axum", fewer_lines_than: 25 },
    Outside { what: "a transport", folder: "docs/raw-tcp", fewer_lines_than: 150 },
    Outside { what: "a store", folder: "docs/redb-store", fewer_lines_than: 300 },
    Outside { what: "a shared store", folder: "docs/remote-store", fewer_lines_than: 300 },
];

/// The workspace's profile, so that all crates share their built dependencies.
const PROFILE: [&str; 3] = [
    "profile.dev.debug=\"line-tables-only\"",
    "profile.dev.package.\"*\".opt-level=1",
    "profile.dev.package.\"*\".debug=false",
];

impl Outside {
    /// Checks the formatting.
    pub(crate) fn check_format(&self) -> Result<()> {
        run(&mut self.at_home(["fmt", "--check"]))
    }

    /// Runs clippy and rustdoc, and checks the size.
    pub(crate) fn check(&self) -> Result<()> {
        run(self.built(["clippy", "--all-targets"]).args(["--", "-D", "warnings"]))?;
        run(self.built(["doc", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))?;
        let Self { what, folder, fewer_lines_than: most } = self;
        let lines = self.lines()?;
        ensure!(
            lines < *most,
            "{folder}/src has {lines} lines, but {what} must have fewer than {most}: simplify the interface"
        );
        eprintln!("    {folder}/src has {lines} lines");
        Ok(())
    }

    /// The command for its tests, or for those whose names contain `filter`.
    pub(crate) fn test(&self, filter: Option<&str>) -> Command {
        let mut tests = self.built(["test", "--no-fail-fast"]);
        tests.arg("--").args(filter);
        tests
    }

    /// The command `cargo deny check` for its dependencies, by the rules of the workspace, of which
    /// it may use fewer. The caller adds what to check.
    pub(crate) fn deny(&self, deny: &Path) -> Command {
        let mut command = program(deny, ["--all-features", "--config"]);
        command.arg(root().join("deny.toml"));
        command.arg("--manifest-path").arg(self.home().join("Cargo.toml"));
        command.args(["check", "--allow", "license-not-encountered"]);
        command
    }

    /// Counts the lines of all files in its `src`, which has no folders.
    fn lines(&self) -> Result<usize> {
        let source = self.home().join("src");
        let unread = || format!("could not read {}", source.display());
        let mut lines = 0;
        for file in fs::read_dir(&source).with_context(unread)? {
            lines += fs::read_to_string(file?.path()).with_context(unread)?.lines().count();
        }
        Ok(lines)
    }

    /// `cargo` with these arguments for that crate, with the workspace's target folder.
    fn built<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.at_home(words);
        command.arg("--target-dir").arg(target());
        command.args(PROFILE.iter().flat_map(|line| ["--config", line]));
        command
    }

    /// `cargo` with these arguments in that crate's folder.
    fn at_home<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = cargo(words);
        command.current_dir(self.home());
        command
    }

    fn home(&self) -> PathBuf {
        root().join(self.folder)
    }
}

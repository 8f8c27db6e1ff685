//! Running programs as named steps, with their times.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// The folder in which cargo builds.
pub(crate) fn target() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    // `join` with an absolute path returns that path.
    root().join(target)
}

/// The folder for everything that is downloaded or built for checks and tests.
pub(crate) fn workshop() -> PathBuf {
    target().join("xtask")
}

/// Runs steps one after the other and prints how long each took.
pub(crate) struct Steps {
    began: Instant,
    done: Vec<(String, Duration)>,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), done: Vec::new() }
    }

    /// Runs one step. `advice` is printed when it fails.
    pub(crate) fn step(
        &mut self,
        name: &str,
        advice: &str,
        body: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        eprintln!("\n==> {name}");
        let began = Instant::now();
        body().map_err(|error| anyhow!("{name}: {error:#}\nwhat to do: {advice}"))?;
        let took = began.elapsed();
        eprintln!("    {name}: ok, {}", shown(took));
        self.done.push((name.to_owned(), took));
        Ok(())
    }

    /// Prints the table at the end.
    pub(crate) fn summary(&self) {
        eprintln!("\nAll passed in {}:", shown(self.began.elapsed()));
        for (name, took) in &self.done {
            eprintln!("  {:>9}  {name}", shown(*took));
        }
    }
}

fn shown(took: Duration) -> String {
    let seconds = took.as_secs();
    if seconds < 60 {
        format!("{:.1} s", took.as_secs_f64())
    } else {
        format!("{} m {:02} s", seconds / 60, seconds % 60)
    }
}

/// `cargo` with these arguments, in the workspace's folder.
pub(crate) fn cargo<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(words).current_dir(root());
    command
}

/// A program with these arguments, in the workspace's folder.
pub(crate) fn program<S: AsRef<OsStr>>(
    name: impl AsRef<OsStr>,
    words: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(name);
    command.args(words).current_dir(root());
    command
}

/// Runs the command to its end, with its output shown.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    eprintln!("    {line}");
    let status = command.status().with_context(|| format!("could not start `{line}`"))?;
    if !status.success() {
        bail!("`{line}` ended with {status}");
    }
    Ok(())
}

/// Runs the command to its end and returns its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line(command);
    let output = command.output().with_context(|| format!("could not start `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as typed in a shell.
fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

//! Starts workers and judges with the shim.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::Shim;
use super::log::{self, Act, Record};
use crate::crash::{Task, VERDICT, Verdict, Violation};

/// A process that runs longer than this counts as hanging.
const LONGEST: Duration = Duration::from_secs(120);

/// The commands and folders of worker processes.
pub(super) struct Stage<'a, C> {
    /// The shim's library.
    pub(super) library: &'a Path,
    /// The caller's folder for all files.
    pub(super) work: &'a Path,
    /// Returns the command of a worker on the store in a folder, with a task.
    pub(super) command: C,
}

/// The result of a worker.
pub(super) struct Done {
    pub(super) records: Vec<Record>,
    pub(super) status: Option<ExitStatus>,
    pub(super) stderr: String,
}

impl<C: Fn(&Path, &Task) -> Command> Stage<'_, C> {
    /// Returns a new folder whose files are watched; the store is in `data` below it.
    pub(super) fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.work.join(name);
        remove(&folder)?;
        fs::create_dir_all(&folder)?;
        folder.canonicalize()
    }

    /// Returns a file that replaces the system's boot id.
    fn boot(&self, boot: &str) -> io::Result<PathBuf> {
        let path = self.work.join(format!("boot-{boot}"));
        fs::write(&path, format!("{boot}\n"))?;
        Ok(path)
    }

    /// Runs a worker and records its calls. `shim` adds further instructions.
    pub(super) async fn record(
        &self,
        folder: &Path,
        task: &Task,
        boot: &str,
        reported: &str,
        shim: impl FnOnce(Shim) -> Shim,
    ) -> io::Result<Done> {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (log, marks) =
            (self.work.join(format!("log-{name}")), self.work.join(format!("marks-{name}")));
        remove(&log)?;
        let with = shim(Shim::new(self.library, folder)?.record(&log, &marks));
        let with = with.boot(&self.boot(boot)?);
        let (status, _, stderr) = self.run(&with, folder, task, reported).await?;
        let bytes = if log.exists() { fs::read(&log)? } else { Vec::new() };
        remove(&log)?;
        let records = log::parse(&bytes).map_err(io::Error::other)?;
        Ok(Done { records, status, stderr })
    }

    /// Runs a judge on the store in `folder`, as after a reboot.
    pub(super) async fn judge(
        &self,
        folder: &Path,
        boot: &str,
        reported: &str,
        twice: bool,
    ) -> io::Result<Verdict> {
        let shim = Shim::new(self.library, folder)?.boot(&self.boot(boot)?);
        let (status, stdout, stderr) =
            self.run(&shim, folder, &Task::Judge { twice }, reported).await?;
        let said = stdout.lines().find_map(|line| line.strip_prefix(VERDICT));
        if let Some(verdict) = said.and_then(|text| serde_json::from_str(text).ok()) {
            return Ok(verdict);
        }
        let how = status.map_or("hangs".to_owned(), |status| format!("ended with {status}"));
        let why = format!("the store's process {how}: {}", tail(&stderr));
        Ok(Verdict { violations: vec![Violation::Wrong(why)], ..Verdict::default() })
    }

    async fn run(
        &self,
        shim: &Shim,
        folder: &Path,
        task: &Task,
        reported: &str,
    ) -> io::Result<(Option<ExitStatus>, String, String)> {
        let mut command = (self.command)(&folder.join("data"), task);
        shim.load(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        let mut child = command.kill_on_drop(true).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // If the process has ended, its status is reported.
            let _ = stdin.write_all(reported.as_bytes()).await;
        }
        match tokio::time::timeout(LONGEST, child.wait_with_output()).await {
            Ok(output) => {
                let output = output?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                Ok((Some(output.status), text(&output.stdout), text(&output.stderr)))
            }
            // Dropping the process kills it.
            Err(_) => Ok((None, String::new(), String::new())),
        }
    }
}

/// Returns the last lines of standard error.
pub(super) fn tail(stderr: &str) -> String {
    let lines: Vec<_> = stderr.lines().collect();
    lines[lines.len().saturating_sub(8)..].join(" | ")
}

/// Returns the lines of a worker before a record.
pub(super) fn said(records: &[Record]) -> String {
    let marks = records.iter().filter_map(|record| match &record.act {
        Act::Mark(text) => Some(format!("{text}\n")),
        _ => None,
    });
    marks.collect()
}

/// Removes a file or a folder, if it exists.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

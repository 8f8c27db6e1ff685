//! A server as a process of its own, spawned from this executable.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The longest start or end of a server before the run fails. Recovery of a large store takes
/// seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The line that a server prints when it accepts connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The address of the listener.
    pub(crate) listening: SocketAddr,
}

impl Ready {
    /// Prints the line.
    pub(crate) fn announce(listening: SocketAddr) -> Result<()> {
        println!("{}", serde_json::to_string(&Self { listening })?);
        Ok(())
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: u32,
    /// The address of the listener.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts this executable with `args` and waits until it listens.
    ///
    /// # Errors
    ///
    /// If it does not start; its messages are on standard error.
    pub(crate) async fn start(args: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find the path of this executable")?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server process")?;
        let pid = child.id().context("the server process ended at once")?;
        let stdout = child.stdout.take().context("the server process has no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .context("the server did not become ready in time")??;
        let Some(line) = line else {
            // The address of a store may hold a password, so print the command only.
            bail!("the server ended before it was ready: `{}`", args.first().map_or("", |a| a))
        };
        let ready: Ready =
            serde_json::from_str(&line).with_context(|| format!("the server printed {line:?}"))?;
        Ok(Self { child, pid, address: ready.listening })
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Kills it by SIGKILL, with nothing flushed. Returns at once.
    ///
    /// # Errors
    ///
    /// If it had ended before.
    pub(crate) fn strike(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended by itself before it was killed: {status}");
        }
        self.child.start_kill().context("cannot kill the server")
    }

    /// Waits until a killed server has ended.
    ///
    /// # Errors
    ///
    /// If it ended otherwise than by the kill.
    pub(crate) async fn gone(mut self) -> Result<()> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().await?;
        match status.signal() {
            Some(libc::SIGKILL) => Ok(()),
            _ => bail!("the server was not killed but ended: {status}"),
        }
    }

    /// Stops it cleanly, by closing its standard input.
    ///
    /// # Errors
    ///
    /// If it does not end in time, or ends with an error.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status: ExitStatus = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("the server did not end in time")??;
        if status.success() { Ok(()) } else { bail!("the server ended with {status}") }
    }
}

/// Waits for the end of standard input, SIGTERM or Ctrl-C: the clean ways to stop a server.
pub(crate) async fn shutdown_signal() -> Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own, since a read of standard input cannot be cancelled; it ends with the
    // process.
    std::thread::Builder::new().name("stdin".into()).stack_size(64 * 1024).spawn(move || {
        let copied = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = ended.send(copied);
    })?;
    tokio::select! {
        _ = end => {}
        told = im_http::shutdown_signal() => told?,
    }
    Ok(())
}

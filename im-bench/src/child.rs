//! A server as a process of its own, spawned from this very executable.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// How long a server may take to begin or to end before the run is given up. Recovery of a large store takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// The one line that a server prints when it can be connected to.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// Where it listens.
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
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts this executable with `args` and waits until it listens.
    ///
    /// # Errors
    ///
    /// It does not start; its own words stand on standard error.
    pub(crate) async fn start(args: &[String]) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the server process")?;
        let pid = child.id().context("the server process ended at once")?;
        let stdout = child.stdout.take().context("the server process has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .context("the server did not get ready")??;
        let Some(line) = line else {
            // Its address of a store may hold a password.
            bail!("the server ended before it was ready: `{}`", args.first().map_or("", |a| a))
        };
        let ready: Ready =
            serde_json::from_str(&line).with_context(|| format!("the server said {line:?}"))?;
        Ok(Self { child, pid, address: ready.listening })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it as a crash would: SIGKILL, nothing flushed. Returns at once.
    ///
    /// # Errors
    ///
    /// It was gone before, so that nothing was killed.
    pub(crate) fn strike(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server had ended by itself before it was killed: {status}");
        }
        self.child.start_kill().context("cannot kill the server")
    }

    /// Waits until a server that was struck is gone.
    ///
    /// # Errors
    ///
    /// It ended in another way than by the kill.
    pub(crate) async fn gone(mut self) -> Result<()> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = self.child.wait().await?;
        match status.signal() {
            Some(libc::SIGKILL) => Ok(()),
            _ => bail!("the server was not killed but ended: {status}"),
        }
    }

    /// Ends it in good order, by closing its standard input.
    ///
    /// # Errors
    ///
    /// It does not end in time, or ends with an error.
    pub(crate) async fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status: ExitStatus = tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .context("the server does not end")??;
        if status.success() { Ok(()) } else { bail!("the server ended with {status}") }
    }
}

/// Waits until standard input ends, or SIGTERM or Ctrl-C comes: the ways to end a server in good order.
pub(crate) async fn shutdown_signal() -> Result<()> {
    let (ended, end) = tokio::sync::oneshot::channel();
    // A thread of its own, since a read of standard input cannot be cancelled; it ends with the process.
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

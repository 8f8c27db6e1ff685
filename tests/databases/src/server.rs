//! One server: start, kill, restart, stop.

use std::path::Path;
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Context as _, Error};
use crate::folder::{ServerFolder, hex, random};
use crate::kind::{Kind, Login, Programs};
use crate::port;
use crate::process::{self, LOOK};

/// Time limit of a start or a stop. Recovery after a kill takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How many ports are tried if another process takes the port before the server does.
const PORTS: usize = 5;

/// A server that belongs to the caller, with its data in a folder of its own.
///
/// Dropping it stops it and removes the folder; if the thread panics, the end of the server's log
/// is printed first. If this process is killed, the guard does both.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    programs: Programs,
    login: Login,
    port: u16,
    url: String,
    child: Option<Child>,
    folder: ServerFolder,
}

impl Server {
    /// Creates an empty server, with one user and one database, and waits until it accepts clients.
    /// Takes some seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if there are no programs of this kind, [`Error::Failed`] if it does not
    /// start.
    pub fn start(kind: Kind) -> Result<Self, Error> {
        let programs = kind.programs()?;
        let password = hex(&random::<16>().context(|| "no random numbers".into())?);
        let mut folder = ServerFolder::new(kind.word(), kind.end())?;
        let login = Login { password };
        kind.make(&mut folder, &programs, &login)?;
        let mut server =
            Self { kind, programs, login, port: 0, url: String::new(), child: None, folder };
        for left in (0..PORTS).rev() {
            server.port = port::free().context(|| "no port".into())?;
            match server.run() {
                Err(_) if left > 0 && !port::is_free(server.port) => {}
                outcome => {
                    outcome?;
                    break;
                }
            }
        }
        server.url = kind.url(&server.login, server.port);
        Ok(server)
    }

    /// Returns the URL: `postgres://user:password@127.0.0.1:port/database`. It never changes.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Returns the kind of server.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the folder with its data and its `log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.folder
    }

    /// Returns the id of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Returns the last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.folder.log_tail()
    }

    /// Checks that the server has not ended by itself.
    ///
    /// # Errors
    ///
    /// The server has ended, or was killed or stopped.
    pub fn check(&mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else {
            return Err(Error::Failed(format!("{} does not run", self.kind)));
        };
        match child.try_wait().context(|| "could not look after the server".into())? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Kills it and all its processes at one moment with SIGKILL. The data stays, with all that was
    /// written to the system, synced or not: this is a crash, not a power cut.
    ///
    /// # Errors
    ///
    /// The server had ended before, so that nothing was killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.check()?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        process::kill_with_children(child.id())
            .context(|| format!("could not kill {}", self.kind))?;
        child.wait().context(|| "could not wait for the server".into())?;
        self.folder.ended();
        Ok(())
    }

    /// Starts it again on the same port with its data. Stops it first if it still runs.
    ///
    /// # Errors
    ///
    /// The server does not stop or does not start, or another process has taken the port.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.end()?;
        self.run()
    }

    /// Stops it cleanly and removes the folder.
    ///
    /// # Errors
    ///
    /// The server ends with an error, or not in time; then it is killed. The folder is removed in
    /// any case.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    /// Starts the process and waits until it accepts clients.
    fn run(&mut self) -> Result<(), Error> {
        let mut command = self.kind.command(&self.folder, &self.programs, self.port)?;
        let child = self.folder.start(&mut command)?;
        let pid = child.id();
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.check()?;
            if self.kind.is_ready(&self.folder, pid, self.port) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let late = self.folder.failed(format!("{} does not get ready", self.kind));
                self.kill()?;
                return Err(late);
            }
            thread::sleep(LOOK);
        }
    }

    /// Stops the process cleanly, if there is one.
    fn end(&mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else { return Ok(()) };
        // The process was not waited for yet, so its id cannot have been reused.
        process::send(self.kind.end(), &[child.id()])
            .context(|| "could not stop the server".into())?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().context(|| "could not wait for it".into())? {
                return if status.success() {
                    self.child = None;
                    self.folder.ended();
                    Ok(())
                } else {
                    Err(self.ended(status))
                };
            }
            thread::sleep(LOOK);
        }
        let late = self.folder.failed(format!("{} does not stop", self.kind));
        self.kill()?;
        Err(late)
    }

    /// The error of a server that ended by itself.
    fn ended(&mut self, status: ExitStatus) -> Error {
        self.child = None;
        self.folder.ended();
        self.folder.failed(format!("{} ended with {status}", self.kind))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the end of the log of {}:\n{}", self.kind, self.log_tail());
        }
        // Errors cannot be returned here. The guard kills what does not end.
        let _ = self.end();
    }
}

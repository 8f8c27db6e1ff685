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

/// How long a server may take to begin or to end. Recovery after a kill takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often another port is tried if somebody takes ours between our look and the server's.
const PORTS: usize = 5;

/// A server of one's own, with its data in a folder of its own.
///
/// Dropping it stops it and removes the folder; if the thread panics, the end of the server's log is printed first. If
/// this process is killed, both happen all the same.
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
    /// Makes an empty one, with one user and one database, and waits until it serves clients. Takes some seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Absent`] if there are no programs of this kind, [`Error::Failed`] if it does not start.
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

    /// Where it is and how to log in: `postgres://user:password@127.0.0.1:port/database`. Stays the same for good.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The folder with its data and its `log`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder.folder
    }

    /// The id of its process, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.folder.log_tail()
    }

    /// Fails if it has ended by itself.
    ///
    /// # Errors
    ///
    /// It has, or it was killed or stopped.
    pub fn check(&mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else {
            return Err(Error::Failed(format!("{} does not run", self.kind)));
        };
        match child.try_wait().context(|| "could not look after the server".into())? {
            None => Ok(()),
            Some(status) => Err(self.ended(status)),
        }
    }

    /// Ends it and all its processes at one moment: SIGKILL, nothing is tidied up. The data stays, with all that was
    /// given to the system, synced or not: this is a crash, and no power cut.
    ///
    /// # Errors
    ///
    /// It was gone before, so that nothing was killed.
    pub fn kill(&mut self) -> Result<(), Error> {
        self.check()?;
        let Some(mut child) = self.child.take() else { return Ok(()) };
        process::kill_with_children(child.id())
            .context(|| format!("could not kill {}", self.kind))?;
        child.wait().context(|| "could not wait for the server".into())?;
        self.folder.ended();
        Ok(())
    }

    /// Starts it again on the same port with the data that is there. Stops it first if it still runs.
    ///
    /// # Errors
    ///
    /// It does not stop or does not start, or somebody has taken the port.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.end()?;
        self.run()
    }

    /// Stops it in good order and removes the folder.
    ///
    /// # Errors
    ///
    /// It ends with an error, or not in time; then it is killed. The folder is gone in any case.
    pub fn stop(mut self) -> Result<(), Error> {
        self.end()
    }

    /// Starts the process and waits until it serves clients.
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

    /// Stops the process in good order, if there is one.
    fn end(&mut self) -> Result<(), Error> {
        let Some(child) = &mut self.child else { return Ok(()) };
        // Not waited for yet, so the id is still its own.
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

    /// It ended, and nobody asked it to.
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
        // Nobody is left to tell. What does not end is killed by the guard.
        let _ = self.end();
    }
}

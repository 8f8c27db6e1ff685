//! The kinds of servers, and their differences.

use std::fmt;
use std::process::Command;

use crate::error::Error;
use crate::folder::ServerFolder;
use crate::process::Signal;
use crate::{mariadb, postgres};

/// A kind of database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// PostgreSQL.
    Postgres,
    /// MariaDB, which speaks MySQL's protocol.
    MariaDb,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::MariaDb];

    /// Returns the environment variable with the URL of a running server.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "IM_TEST_POSTGRES_URL",
            Self::MariaDb => "IM_TEST_MYSQL_URL",
        }
    }

    /// Whether the programs of this server are installed.
    #[must_use]
    pub fn is_installed(self) -> bool {
        self.programs().is_ok()
    }

    /// A word for names of folders.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
        }
    }

    /// The signal that stops the server cleanly, without waiting for its clients.
    pub(crate) fn end(self) -> Signal {
        match self {
            Self::Postgres => Signal::Interrupt,
            Self::MariaDb => Signal::Terminate,
        }
    }

    pub(crate) fn programs(self) -> Result<Programs, Error> {
        let (found, packages) = match self {
            Self::Postgres => (postgres::find(), "postgresql"),
            Self::MariaDb => (mariadb::find(), "mariadb-server-core mariadb-client-core"),
        };
        found.ok_or_else(|| {
            Error::Absent(format!(
                "there is no {self}; install it (Debian: `apt-get install {packages}`) or name a running one in {}",
                self.variable()
            ))
        })
    }

    /// Initialises an empty folder.
    pub(crate) fn make(
        self,
        folder: &mut ServerFolder,
        programs: &Programs,
        login: &Login,
    ) -> Result<(), Error> {
        match self {
            Self::Postgres => postgres::make(folder, programs, login),
            Self::MariaDb => mariadb::make(folder, programs, login),
        }
    }

    /// The command that runs the server in the foreground.
    pub(crate) fn command(
        self,
        folder: &ServerFolder,
        programs: &Programs,
        port: u16,
    ) -> Result<Command, Error> {
        match self {
            Self::Postgres => postgres::command(folder, programs, port),
            Self::MariaDb => mariadb::command(folder, programs, port),
        }
    }

    /// Whether the process `pid` accepts clients.
    pub(crate) fn is_ready(self, folder: &ServerFolder, pid: u32, port: u16) -> bool {
        let serves = match self {
            Self::Postgres => postgres::serves,
            Self::MariaDb => mariadb::serves,
        };
        // The port alone could belong to another server that was faster.
        serves(port).unwrap_or(false) && self.holds(folder, pid)
    }

    /// Whether the file that a server writes once it has bound the port contains `pid`.
    fn holds(self, folder: &ServerFolder, pid: u32) -> bool {
        let file = match self {
            Self::Postgres => postgres::pid_file(folder),
            Self::MariaDb => mariadb::pid_file(folder),
        };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().next().is_some_and(|line| line.trim() == pid.to_string())
    }

    /// `postgres://user:password@127.0.0.1:port/database`.
    pub(crate) fn url(self, login: &Login, port: u16) -> String {
        let (scheme, database) = match self {
            Self::Postgres => ("postgres", postgres::DATABASE),
            Self::MariaDb => ("mysql", mariadb::DATABASE),
        };
        format!("{scheme}://{USER}:{}@127.0.0.1:{port}/{database}", login.password)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "PostgreSQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// The user of tests. It has all rights, so that tests can create databases of their own.
pub(crate) const USER: &str = "im";

/// The credentials of tests. The password is hexadecimal, so it needs no quotes anywhere.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) password: String,
}

/// The paths of a server's programs.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// Runs in the foreground.
    pub(crate) server: std::path::PathBuf,
    /// Initialises an empty folder.
    pub(crate) maker: std::path::PathBuf,
}

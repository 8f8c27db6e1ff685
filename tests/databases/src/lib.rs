//! PostgreSQL and MariaDB for tests: created, started, killed and restarted, with nothing left
//! behind.
//!
//! A test that only needs a database uses the shared one; `cargo xtask test` names it in the
//! environment. A test that kills the server starts one of its own:
//!
//! ```no_run
//! use im_test_databases::{Kind, Server, or_skip, url};
//!
//! # fn main() -> Result<(), im_test_databases::Error> {
//! let Some(shared) = or_skip("name of the test", url(Kind::Postgres)) else { return Ok(()) };
//! let Some(mut own) = or_skip("name of the test", Server::start(Kind::MariaDb)) else { return Ok(()) };
//! own.kill()?; // SIGKILL, while clients write
//! own.restart()?; // the same port, the same data
//! own.stop()
//! # }
//! ```
//!
//! Servers listen on 127.0.0.1 only, with a random password, and run as `nobody` where this process
//! is root. Acknowledged writes are on disk: no setting that durability needs is off. The folders
//! are in the folder for temporary files (`TMPDIR`). All calls block.
//!
//! | module | what it holds |
//! |---|---|
//! | `server` | one server: start, kill, restart, stop |
//! | `kind` | the kinds of servers, and their differences |
//! | `postgres`, `mariadb` | how each is found, initialised, started, and checked for readiness |
//! | `folder` | the folder of a server, and the account that runs it |
//! | `guard` | a process that stops the server and removes the folder when this process ends |
//! | `process` | signals, and children of processes |
//! | `port` | a port that no other process will take |
//! | `shared` | one server for all tests of a process, or the one in the environment |
//! | `skip` | reporting that a test cannot run |
//!
//! Linux only: elsewhere set the URLs of running servers in the environment.

mod error;
mod folder;
mod guard;
mod kind;
mod mariadb;
mod port;
mod postgres;
mod process;
mod server;
mod shared;
mod skip;

pub use error::Error;
pub use kind::Kind;
pub use server::Server;
pub use shared::url;
pub use skip::{or_skip, skip};

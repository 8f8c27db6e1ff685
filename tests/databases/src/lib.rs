//! PostgreSQL and MariaDB for tests: made, started, killed and started again, with nothing left behind.
//!
//! A test that only needs a database takes the one that is there; `cargo xtask test` names it in the environment. A test
//! that kills the server takes one of its own:
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
//! Servers listen on 127.0.0.1 only, with a random password, and run with nobody's rights where we are root. What is
//! acknowledged is on disk: nothing that a durable server needs is switched off. Their folders are in the folder for
//! temporary files (`TMPDIR`). All calls block.
//!
//! | module | what it holds |
//! |---|---|
//! | `server` | one server: start, kill, restart, stop |
//! | `kind` | which servers there are, and what differs between them |
//! | `postgres`, `mariadb` | how each is found, made, started, and asked whether it is ready |
//! | `folder` | the folder of a server, and who runs it |
//! | `guard` | a process that ends the server and removes the folder when ours is gone, however it went |
//! | `process` | signals, and who is whose child |
//! | `port` | a port that nobody else will take |
//! | `shared` | one server for all tests of a process, or the one that the environment names |
//! | `skip` | saying that a test cannot run |
//!
//! For Linux: elsewhere name running servers in the environment.

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

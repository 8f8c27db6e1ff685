//! One server for all tests of a process, or the one in the environment.

use std::env;
use std::sync::OnceLock;

use crate::{Error, Kind, Server};

/// Returns the URL of a database of this kind: the one in [`Kind::variable`], otherwise of a server
/// that is started once for this process and ends with it.
///
/// All tests share it: each must create its tables under a name of its own.
///
/// # Errors
///
/// The variable is not set, and there is no such server here, or it does not start.
pub fn url(kind: Kind) -> Result<String, Error> {
    static POSTGRES: OnceLock<Result<Server, Error>> = OnceLock::new();
    static MARIADB: OnceLock<Result<Server, Error>> = OnceLock::new();
    match env::var(kind.variable()) {
        Ok(named) if !named.is_empty() => return Ok(named),
        _ => {}
    }
    let ours = match kind {
        Kind::Postgres => &POSTGRES,
        Kind::MariaDb => &MARIADB,
    };
    // A static is never dropped: the guard stops the server when this process ends.
    ours.get_or_init(|| Server::start(kind)).as_ref().map(Server::url).map_err(Clone::clone)
}

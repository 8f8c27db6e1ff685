//! One server for all tests of a process, or the one that the environment names.

use std::env;
use std::sync::OnceLock;

use crate::{Error, Kind, Server};

/// Where a database of this kind is: the one that [`Kind::variable`] names, otherwise one that is started once for this
/// process and ends with it.
///
/// All tests share it: make what a test needs under a name of its own.
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
    // Nobody drops a static: the guard ends the server when this process is gone.
    ours.get_or_init(|| Server::start(kind)).as_ref().map(Server::url).map_err(Clone::clone)
}

//! Database servers: their packages, and running ones for tests and for manual use.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use im_test_databases::{Kind, Server};

use crate::tools;

/// Starts a server; installs its packages if they are missing and the process may. The server ends
/// when the value is dropped, and when this process ends.
pub(crate) fn start(kind: Kind) -> Result<Server> {
    install_if_missing(kind)?;
    Ok(Server::start(kind)?)
}

/// Installs a server's programs if they are missing and the process may.
pub(crate) fn install_if_missing(kind: Kind) -> Result<()> {
    if !kind.is_installed() && tools::may_install() {
        install(kind)?;
    }
    Ok(())
}

fn install(kind: Kind) -> Result<()> {
    match kind {
        Kind::Postgres => {
            let _quiet = NoCluster::new(Path::new("/etc/postgresql-common/createcluster.d"))?;
            tools::install(&["postgresql"])
        }
        // These packages contain no service and no account; the client is for manual use.
        Kind::MariaDb => tools::install(&["mariadb-server-core", "mariadb-client-core"]),
    }
}

/// Keeps Debian's packages of PostgreSQL, as long as it lives, from creating a cluster and starting
/// a server.
struct NoCluster(PathBuf);

impl NoCluster {
    fn new(folder: &Path) -> Result<Self> {
        let file = folder.join("im-xtask.conf");
        let cannot = || format!("could not write {}", file.display());
        fs::create_dir_all(folder).with_context(cannot)?;
        fs::write(&file, "create_main_cluster = false\n").with_context(cannot)?;
        Ok(Self(file))
    }
}

impl Drop for NoCluster {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            eprintln!("    could not remove {}: {error}", self.0.display());
        }
    }
}

/// How often to check whether a server has ended by itself.
const LOOK: Duration = Duration::from_secs(1);

/// Starts one of each, prints how to use them, and waits for Ctrl-C, which ends them with this
/// process.
pub(crate) fn serve() -> Result<()> {
    let mut servers = Vec::new();
    for kind in Kind::ALL {
        match start(kind) {
            Ok(server) => servers.push(server),
            Err(error) => eprintln!("without {kind}: {error:#}"),
        }
    }
    if servers.is_empty() {
        bail!("no server could be started");
    }
    for server in &servers {
        println!("export {}={}", server.kind().variable(), server.url());
    }
    for server in &servers {
        eprintln!("{} logs to {}", server.kind(), server.folder().join("log").display());
    }
    eprintln!("Ctrl-C ends them and removes their data.");
    loop {
        servers.iter_mut().try_for_each(Server::check)?;
        thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The setting that keeps packages from creating a cluster is removed afterwards.
    #[test]
    fn package_configuration_is_restored() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("createcluster.d");
        let quiet = NoCluster::new(&place).unwrap();
        let text = fs::read_to_string(place.join("im-xtask.conf")).unwrap();
        assert_eq!(text, "create_main_cluster = false\n");
        drop(quiet);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
}

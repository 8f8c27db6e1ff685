//! How MariaDB is found, initialised, started, and checked for readiness.

use std::io::{self, Read as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::error::Error;
use crate::folder::{ServerFolder, find as find_program};
use crate::kind::{Login, Programs, USER};

const FOLDERS: [&str; 5] =
    ["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/sbin", "/usr/local/bin"];

/// The database for tests.
pub(crate) const DATABASE: &str = "im";

/// Settings beyond the server's defaults. The first group is what durability needs; a log of the
/// statements gives `sync-binlog` an effect, and is what replicas read.
const SETTINGS: [&str; 14] = [
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-doublewrite=ON",
    "--log-bin=binlog",
    "--server-id=1",
    "--sync-binlog=1",
    //
    "--character-set-server=utf8mb4",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=200",
    "--innodb-buffer-pool-size=64M",
    "--innodb-log-file-size=32M",
    "--key-buffer-size=1M",
    "--aria-pagecache-buffer-size=8M",
    "--performance-schema=OFF",
];

pub(crate) fn find() -> Option<Programs> {
    let server = find_program("mariadbd", &FOLDERS)?;
    let maker = find_program("mariadb-install-db", &FOLDERS)?;
    Some(Programs { server, maker })
}

/// Creates the system's tables, and writes the statements that create user and database: that needs
/// no client.
pub(crate) fn make(
    folder: &mut ServerFolder,
    programs: &Programs,
    login: &Login,
) -> Result<(), Error> {
    let mut maker = folder.program(&programs.maker)?;
    maker.arg("--no-defaults").arg(argument("--datadir", folder.data()));
    maker.args(["--skip-test-db", "--innodb-log-file-size=32M"]);
    folder.run(&mut maker)?;
    let password = &login.password;
    folder.write(
        FIRST,
        &format!(
            "CREATE DATABASE IF NOT EXISTS {DATABASE};\n\
             CREATE USER IF NOT EXISTS '{USER}'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('{password}');\n\
             GRANT ALL ON *.* TO '{USER}'@'127.0.0.1' WITH GRANT OPTION;\n"
        ),
    )?;
    Ok(())
}

/// The statements that the server runs at each start before it accepts clients. They are
/// idempotent.
const FIRST: &str = "first.sql";

pub(crate) fn command(
    folder: &ServerFolder,
    programs: &Programs,
    port: u16,
) -> Result<Command, Error> {
    let mut server = folder.program(&programs.server)?;
    server.arg("--no-defaults").arg(argument("--datadir", folder.data()));
    server.args(SETTINGS).arg(format!("--port={port}"));
    server.arg(argument("--init-file", folder.folder.join(FIRST)));
    server.arg(argument("--pid-file", pid_file(folder)));
    server.arg(argument("--tmpdir", folder.folder.clone()));
    // The socket is not used, and an empty name means none.
    server.arg("--socket=");
    Ok(server)
}

pub(crate) fn pid_file(folder: &ServerFolder) -> PathBuf {
    folder.folder.join("pid")
}

fn argument(name: &str, path: PathBuf) -> std::ffi::OsString {
    let mut argument = std::ffi::OsString::from(name);
    argument.push("=");
    argument.push(path);
    argument
}

/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for the server's greeting: a packet of protocol 10 (MariaDB's manual, "Connecting"). A
/// server sends it only after it has recovered and has run its first statements.
pub(crate) fn serves(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Three bytes of length, one of sequence, then the protocol's version, or 255 for an error.
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    Ok(head[4] == 10)
}

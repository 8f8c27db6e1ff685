//! How PostgreSQL is found, initialised, started, and checked for readiness.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::error::{Context as _, Error};
use crate::folder::{ServerFolder, find as find_program};
use crate::kind::{Login, Programs, USER};

/// The folder with one folder for each installed version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The database that a new cluster has.
pub(crate) const DATABASE: &str = "postgres";

/// Settings beyond the server's defaults. The first group states what durability needs, though it
/// is the default.
const SETTINGS: &str = "
fsync = on
full_page_writes = on
synchronous_commit = on

listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 32MB
log_line_prefix = '%m [%p] '
";

/// Settings of version 14 and later: after a crash, one call syncs all files, instead of one for
/// each of a thousand. It is as safe, and a restart takes a tenth of the time.
const SINCE_14: &str = "recovery_init_sync_method = syncfs\n";

/// Finds the programs on the path, otherwise those of the newest version.
pub(crate) fn find() -> Option<Programs> {
    let on_path = find_program("postgres", &[])
        .and_then(|server| fs::canonicalize(server).ok())
        .and_then(|server| Some(server.parent()?.to_owned()));
    on_path.into_iter().chain(versions()).find_map(|folder| programs(&folder))
}

fn programs(folder: &Path) -> Option<Programs> {
    let programs = Programs { server: folder.join("postgres"), maker: folder.join("initdb") };
    (programs.server.is_file() && programs.maker.is_file()).then_some(programs)
}

fn versions() -> Vec<PathBuf> {
    let folders = fs::read_dir(VERSIONS).into_iter().flatten();
    let mut versions: Vec<(u32, PathBuf)> = folders
        .filter_map(|folder| {
            let folder = folder.ok()?;
            Some((folder.file_name().to_str()?.parse().ok()?, folder.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// Creates the cluster, which contains a database.
pub(crate) fn make(
    folder: &mut ServerFolder,
    programs: &Programs,
    login: &Login,
) -> Result<(), Error> {
    let password = folder.write("password", &login.password)?;
    let mut maker = folder.program(&programs.maker)?;
    maker.arg("--pgdata").arg(folder.data());
    maker.arg("--pwfile").arg(password);
    maker.args(["--username", USER, "--auth", "scram-sha-256"]);
    maker.args(["--encoding", "UTF8", "--locale", "C.UTF-8"]);
    // Applies to the initialisation only, which is seconds faster: the folder does not outlive the
    // machine.
    maker.arg("--no-sync");
    folder.run(&mut maker)?;

    let version = fs::read_to_string(folder.data().join("PG_VERSION")).unwrap_or_default();
    // Versions before 10 have a dot in them; then the server is old as well.
    let is_new = version.trim().parse::<u32>().is_ok_and(|version| version >= 14);
    let text = format!("{SETTINGS}{}", if is_new { SINCE_14 } else { "" });
    let settings = folder.data().join("postgresql.conf");
    let file = fs::OpenOptions::new().append(true).open(&settings);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .context(|| format!("could not write to {}", settings.display()))
}

pub(crate) fn command(
    folder: &ServerFolder,
    programs: &Programs,
    port: u16,
) -> Result<Command, Error> {
    let mut server = folder.program(&programs.server)?;
    server.arg("-D").arg(folder.data()).args(["-p", &port.to_string()]);
    Ok(server)
}

pub(crate) fn pid_file(folder: &ServerFolder) -> PathBuf {
    folder.data().join("postmaster.pid")
}

/// Time limit of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Starts to log in. A server that is ready asks for the password; one that is recovering answers
/// with an error.
pub(crate) fn serves(port: u16) -> io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&startup())?;
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}

/// StartupMessage of protocol 3.0 (PostgreSQL's manual, "Message Formats").
fn startup() -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for word in ["user", USER, "database", DATABASE, ""] {
        body.extend_from_slice(word.as_bytes());
        body.push(0);
    }
    // The length counts itself. The body has a few words.
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), &body].concat()
}

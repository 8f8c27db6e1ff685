//! Servers are created, killed under load, restarted with what they acknowledged, and leave nothing
//! behind.
//!
//! The clients are their own command lines, `psql` and `mariadb`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use im_test_databases::{Kind, Server, or_skip, skip, url};

/// Starts a server, if its programs and its client are installed.
fn server(test: &str, kind: Kind) -> Option<Server> {
    let probe = Command::new(program(kind)).arg("--version").stdout(Stdio::null()).status();
    if probe.is_err() {
        skip(test, &format!("there is no `{}` on the path", program(kind)));
        return None;
    }
    or_skip(test, Server::start(kind))
}

fn program(kind: Kind) -> &'static str {
    match kind {
        Kind::Postgres => "psql",
        Kind::MariaDb => "mariadb",
    }
}

/// The command of a client that reads statements and prints bare values.
fn client(kind: Kind, url: &str) -> Command {
    let mut client = Command::new(program(kind));
    if kind == Kind::Postgres {
        client.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", url]);
        client.args(["--set", "ON_ERROR_STOP=1"]);
    } else {
        let (login, folder) = url.strip_prefix("mysql://").unwrap().split_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let (address, database) = folder.split_once('/').unwrap();
        let (host, port) = address.split_once(':').unwrap();
        client.args(["--no-defaults", "--batch", "--skip-column-names", "--unbuffered"]);
        client.args(["-h", host, "-P", port, "-u", user, database]).env("MYSQL_PWD", password);
    }
    client
}

/// Returns the results of these statements, a line a row.
fn ask(kind: Kind, url: &str, statements: &str) -> String {
    let output = answer(kind, url, statements);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn answer(kind: Kind, url: &str, statements: &str) -> Output {
    let mut client = client(kind, url);
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A refused client does not read.
    let _ = client.stdin.take().unwrap().write_all(statements.as_bytes());
    client.wait_with_output().unwrap()
}

/// Checks that another password and the database's own administrator are refused.
fn refuses_strangers(kind: Kind, url: &str) {
    let (login, folder) = url.split_once('@').unwrap();
    let administrator =
        if kind == Kind::Postgres { "postgres://postgres:" } else { "mysql://root:" };
    for stranger in [format!("{login}0@{folder}"), format!("{administrator}@{folder}")] {
        let output = answer(kind, &stranger, "SELECT 1;");
        let why = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(!output.status.success() && output.stdout.is_empty());
        let refused = ["authentication failed", "access denied", "no password supplied"];
        assert!(refused.iter().any(|words| why.contains(words)), "{why}");
    }
}

/// Starts a client that writes 1, 2, 3 … and prints each once the server has acknowledged it.
fn writer(kind: Kind, url: &str) -> (Child, thread::JoinHandle<()>) {
    let mut client = client(kind, url);
    let mut client =
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut input = client.stdin.take().unwrap();
    let feeder = thread::spawn(move || {
        // The loop ends when the client does, by an error of the pipe.
        let mut lines =
            (1..).map(|n| writeln!(input, "INSERT INTO kept VALUES ({n}); SELECT {n};"));
        while let Some(Ok(())) = lines.next() {}
    });
    (client, feeder)
}

/// Starts, writes, kills and checks for the acknowledged rows.
fn kills_under_load(test: &str, kind: Kind) {
    let Some(mut server) = server(test, kind) else { return };
    let url = server.url();
    ask(kind, &url, "CREATE TABLE kept (n BIGINT PRIMARY KEY);");
    for _ in 0..2 {
        ask(kind, &url, "DELETE FROM kept;");
        let (mut client, feeder) = writer(kind, &url);
        let mut told = BufReader::new(client.stdout.take().unwrap()).lines();
        let enough = told.by_ref().map(|line| line.unwrap()).find(|line| line == "50");
        assert!(enough.is_some(), "the client ended early");
        server.kill().unwrap();
        assert!(server.kill().is_err(), "the server has ended already");
        assert_eq!(server.pid(), None);
        let last: u64 = told.last().map_or(50, |line| line.unwrap().parse().unwrap());
        client.wait().unwrap();
        feeder.join().unwrap();
        assert!(connect(&url).is_err(), "nothing listens on the port");

        server.restart().unwrap();
        assert_eq!(server.url(), url);
        let counts = ask(kind, &url, "SELECT COUNT(*), MAX(n) FROM kept;").replace('|', "\t");
        let (count, highest) = counts.split_once('\t').unwrap();
        assert_eq!(count, highest, "there is a gap");
        // One more may have been stored without its ack being received.
        assert!(
            (last..=last + 1).contains(&count.parse().unwrap()),
            "{count} stored, {last} acknowledged"
        );
    }
    leaves_nothing(server);
}

fn leaves_nothing(server: Server) {
    let (folder, pid) = (server.folder().to_owned(), server.pid().unwrap());
    let url = server.url();
    assert!(folder.is_dir());
    server.stop().unwrap();
    assert!(!folder.exists());
    assert!(!runs_in(&folder, pid));
    assert!(connect(&url).is_err());
}

fn connect(url: &str) -> std::io::Result<TcpStream> {
    let address = url.split_once('@').unwrap().1.split_once('/').unwrap().0;
    TcpStream::connect(address)
}

/// Whether the process exists and belongs to the folder.
fn runs_in(folder: &Path, pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).contains(folder.to_str().unwrap())
}

#[test]
fn killed_postgres_keeps_acked_rows() {
    kills_under_load("killed_postgres_keeps_acked_rows", Kind::Postgres);
}

#[test]
fn killed_mariadb_keeps_acked_rows() {
    kills_under_load("killed_mariadb_keeps_acked_rows", Kind::MariaDb);
}

#[test]
fn postgres_is_durable_with_password() {
    let test = "postgres_is_durable_with_password";
    let Some(server) = server(test, Kind::Postgres) else { return };
    let asked = "SHOW fsync; SHOW full_page_writes; SHOW synchronous_commit; SHOW server_encoding;";
    assert_eq!(ask(Kind::Postgres, &server.url(), asked), "on\non\non\nUTF8");
    refuses_strangers(Kind::Postgres, &server.url());
    leaves_nothing(server);
}

#[test]
fn mariadb_is_durable_with_password() {
    let test = "mariadb_is_durable_with_password";
    let Some(mut server) = server(test, Kind::MariaDb) else { return };
    // Also after a clean restart.
    server.restart().unwrap();
    let asked = "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@log_bin, @@sync_binlog, \
                 @@character_set_database;";
    assert_eq!(ask(Kind::MariaDb, &server.url(), asked), "1\t1\t1\t1\tutf8mb4");
    refuses_strangers(Kind::MariaDb, &server.url());
    leaves_nothing(server);
}

#[test]
fn tests_in_process_share_server() {
    let test = "tests_in_process_share_server";
    for kind in Kind::ALL {
        let Some(first) = or_skip(test, url(kind)) else { continue };
        assert_eq!(url(kind), Ok(first.clone()));
        assert!(connect(&first).is_ok());
    }
}

/// The variable with the kind of server that this process, a copy of the test, has to start and
/// hold.
const ROLE: &str = "IM_TEST_DATABASES_HOLD";

#[test]
fn killed_process_leaves_nothing() {
    let test = "killed_process_leaves_nothing";
    if let Ok(role) = env::var(ROLE) {
        hold(Kind::ALL.into_iter().find(|kind| kind.variable() == role).unwrap());
    }
    for kind in Kind::ALL {
        if !kind.is_installed() {
            skip(test, &format!("{kind} is not installed"));
            continue;
        }
        let mut holder = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, kind.variable())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.starts_with("held ")).unwrap();
        let words: Vec<&str> = line.split(' ').collect();
        let (pid, folder) = (words[1].parse().unwrap(), Path::new(words[2]));
        assert!(runs_in(folder, pid) && folder.is_dir());
        holder.kill().unwrap();
        holder.wait().unwrap();
        // The guard is no child of this process, so its end cannot be waited for.
        let deadline = Instant::now() + Duration::from_secs(60);
        while folder.exists() || runs_in(folder, pid) {
            assert!(Instant::now() < deadline, "{line}: it still exists");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Starts a server, prints its process and folder, and waits to be killed.
fn hold(kind: Kind) -> ! {
    let server = Server::start(kind).unwrap();
    println!("\nheld {} {}", server.pid().unwrap(), server.folder().display());
    loop {
        thread::park();
    }
}

//! The first log lines of the real binary, and the stores that it is built without.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

fn quickstart(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quickstart"));
    command.args(["--listen", "127.0.0.1:0"]).args(arguments);
    command.env_remove("RUST_LOG").env("NO_COLOR", "1").kill_on_drop(true);
    command
}

/// Returns the log until the server listens.
async fn first_lines(command: &mut Command) -> String {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut all = String::new();
    while !all.contains("open http://") {
        all += &said.next_line().await.unwrap().expect("the server did not log its address");
        all.push('\n');
    }
    process.kill().await.unwrap();
    all
}

#[tokio::test]
async fn startup_lines_name_data_access_limits() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["--store", "sqlite"]] {
        let said = first_lines(quickstart(arguments).current_dir(folder.path())).await;
        let file = folder.path().canonicalize().unwrap().join("im-data").join("im.db");
        assert!(file.is_file(), "{said}");
        assert!(said.contains(&format!("data: sqlite in {}; ", file.display())), "{said}");
        assert!(said.contains("survives a power loss"), "{said}");
        let access =
            "access: anybody, under any user name and without a password; from this machine only";
        assert!(said.contains(access) && said.contains("host: local names (localhost"), "{said}");
        assert!(said.contains("limits: 64 KiB a message") && said.contains("quotas as"), "{said}");
    }
    let named = ["--store", "memory", "--no-quotas", "--origin", "https://chat.example.org"];
    let said = first_lines(&mut quickstart(&named)).await;
    assert!(said.contains("data: memory; all is gone when the server ends"), "{said}");
    assert!(said.contains("host: local names and chat.example.org"), "{said}");
    assert!(said.contains("; no quotas; all messages are kept"), "{said}");
}

/// The refusal of a store that is not compiled in names the command that builds it.
#[cfg(not(any(feature = "sled", feature = "postgres", feature = "mysql")))]
#[tokio::test]
async fn omitted_store_is_refused_with_command() {
    for (store, feature) in [
        ("sled", "sled"),
        ("sled:folder", "sled"),
        ("postgres://ann:secret@127.0.0.1/chat", "postgres"),
        ("mariadb://ann:secret@127.0.0.1/chat", "mysql"),
    ] {
        let done = quickstart(&["--store", store]).output().await.unwrap();
        assert_eq!(done.status.code(), Some(1));
        let words = String::from_utf8(done.stderr).unwrap();
        let command = format!("`cargo run --release -p quickstart --features {feature} ");
        assert!(words.contains(&command) && !words.contains("secret"), "{words}");
    }
}

#[tokio::test]
async fn bad_store_error_hides_password() {
    let store = "redis://ann:secret@127.0.0.1/chat";
    let refused = quickstart(&["--store", store]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let help = quickstart(&["--help"]).env("IM_STORE", store).output().await.unwrap();
    for said in [refused.stderr, help.stdout] {
        let words = String::from_utf8(said).unwrap();
        assert!(words.contains("store") && !words.contains("secret"), "{words}");
    }
}

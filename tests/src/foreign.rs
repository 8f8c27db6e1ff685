//! Runs independent clients, from `tests/foreign`.
//!
//! | variable | meaning | otherwise |
//! |---|---|---|
//! | `IM_TEST_NODE_MODULES_FOREIGN` | the folder that holds `ws` and `eventsource` | `IM_TEST_NODE_MODULES`, then `tests/foreign/node_modules` (`npm ci` there) |
//! | `IM_TEST_PYTHON` | a Python with the packages of `tests/foreign/requirements.txt` | `python3` |
//! | `IM_TEST_REQUIRE` | `all`: fail if something is missing | skip, and report it |
//! | `IM_TEST_SKIPPED` | a file to which a skipped test adds a line | standard error alone |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::skip;

/// Time limit of a run: far longer than any run takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A command for a Node script with its packages; `None` if the test was skipped.
pub fn node(test: &str, name: &str) -> Option<Command> {
    match node_modules() {
        Ok(modules) => {
            let mut command = Command::new("node");
            command.arg(file(name)).env("NODE_PATH", modules);
            Some(command)
        }
        Err(missing) => {
            skip(test, &missing);
            None
        }
    }
}

/// A command for a Python script; `None` if the test was skipped.
pub async fn python(test: &str, name: &str) -> Option<Command> {
    let python = PathBuf::from(env::var_os("IM_TEST_PYTHON").unwrap_or_else(|| "python3".into()));
    let mut probe = Command::new(&python);
    probe.args(["-c", "import msgpack, websockets.asyncio.client"]).stderr(Stdio::null());
    if probe.status().await.is_ok_and(|status| status.success()) {
        let mut command = Command::new(&python);
        command.args(["-X", "utf8"]).arg(file(name));
        return Some(command);
    }
    let install = "`pip install -r tests/foreign/requirements.txt`";
    skip(test, &format!("{} lacks websockets or msgpack: {install}", python.display()));
    None
}

/// Runs a client to its end, and returns its output.
///
/// # Panics
///
/// If it fails or hangs.
pub async fn run(mut client: Command) -> String {
    client.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(PATIENCE, client.output()).await.expect("the client hangs").unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", told[0], told[1]);
    println!("{}", told[0]);
    let [told, _] = told;
    told
}

/// The path of a file of `tests/foreign`.
pub fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name)
}

/// The path of the protocol's specification.
pub fn spec() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/SPEC.md")
}

fn node_modules() -> Result<PathBuf, String> {
    let found = std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if found.is_err() {
        return Err("Node.js is not installed".into());
    }
    let named = ["IM_TEST_NODE_MODULES_FOREIGN", "IM_TEST_NODE_MODULES"]
        .into_iter()
        .filter_map(env::var_os);
    let mut folders = named.map(PathBuf::from).chain([file("node_modules")]);
    let all = ["ws/package.json", "eventsource/package.json"];
    folders
        .find(|folder| all.iter().all(|package| folder.join(package).is_file()))
        .ok_or_else(|| "npm packages are missing: run `npm ci` in tests/foreign".into())
}

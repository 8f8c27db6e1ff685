//! Clients that were not written here hold a conversation with a real server, by following `wire/SPEC.md` alone.
//!
//! What they do is in `tests/foreign`; here is only what it takes to run them.
//!
//! | variable | meaning | otherwise |
//! |---|---|---|
//! | `IM_TEST_NODE_MODULES_FOREIGN` | the folder that holds `ws` | `IM_TEST_NODE_MODULES`, then `tests/foreign/node_modules` (`npm ci` there) |
//! | `IM_TEST_PYTHON` | a Python that has what `tests/foreign/requirements.txt` names | `python3` |
//! | `IM_TEST_REQUIRE` | `all`: fail where something is missing | skip, and say so |
//! | `IM_TEST_SKIPPED` | a file to which a skipped test adds a line | standard error alone |

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use im_core::engine::Engine;
use im_tests::skip;
use im_transport_ws::{WebSocket, WsConfig};
use tokio::net::TcpListener;
use tokio::process::Command;

/// Longer than any run should take; only there so that a fault does not hang.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_with_ws() {
    let modules = match node_modules() {
        Ok(modules) => modules,
        Err(missing) => return skip("node_with_ws", &missing),
    };
    let mut node = Command::new("node");
    node.arg(foreign("chat.cjs")).arg(serve().await).env("NODE_PATH", modules);
    run(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_websockets_in_json() {
    let Some(python) = python("python_with_websockets_in_json").await else { return };
    run(script(&python, "chat.py", &[&serve().await])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_with_websockets_in_messagepack() {
    let Some(python) = python("python_with_websockets_in_messagepack").await else { return };
    run(script(&python, "chat.py", &[&serve().await, "--msgpack"])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lines_of_the_spec_pasted_by_hand() {
    let Some(python) = python("the_lines_of_the_spec_pasted_by_hand").await else { return };
    let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/SPEC.md");
    run(script(&python, "by_hand.py", &[&serve().await, &spec.to_string_lossy()])).await;
}

/// A server of its own for each test; it ends with the test's runtime. Gives its address.
async fn serve() -> String {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let ws = WebSocket::new(engine, WsConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route_service("/ws", ws);
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("ws://{address}/ws")
}

fn script(python: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(python);
    command.args(["-X", "utf8"]).arg(foreign(name)).args(args);
    command
}

/// Runs a client to its end. Its transcript is shown if it fails.
async fn run(mut client: Command) {
    client.stdin(Stdio::null()).kill_on_drop(true);
    let output =
        tokio::time::timeout(PATIENCE, client.output()).await.expect("the client hangs").unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", told[0], told[1]);
    println!("{}", told[0]);
}

fn foreign(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign").join(name)
}

fn node_modules() -> Result<PathBuf, String> {
    let found = std::process::Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if found.is_err() {
        return Err("Node.js is not installed".into());
    }
    let named = ["IM_TEST_NODE_MODULES_FOREIGN", "IM_TEST_NODE_MODULES"]
        .into_iter()
        .filter_map(env::var_os);
    let mut folders = named.map(PathBuf::from).chain([foreign("node_modules")]);
    folders
        .find(|folder| folder.join("ws/package.json").is_file())
        .ok_or_else(|| "the npm package ws is missing: run `npm ci` in tests/foreign".into())
}

/// A Python with the packages; `None` if the test was skipped.
async fn python(test: &str) -> Option<PathBuf> {
    let python = PathBuf::from(env::var_os("IM_TEST_PYTHON").unwrap_or_else(|| "python3".into()));
    let mut probe = Command::new(&python);
    let found = probe
        .args(["-c", "import msgpack, websockets.asyncio.client"])
        .stderr(Stdio::null())
        .status()
        .await;
    if found.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    let shown = python.display();
    skip(
        test,
        &format!(
            "{shown} lacks websockets or msgpack: `pip install -r tests/foreign/requirements.txt`"
        ),
    );
    None
}

//! Runs a script of `tests/browser` against one of the example servers, in headless Chromium.
//!
//! | variable | meaning | otherwise |
//! |---|---|---|
//! | `IM_TEST_CHROMIUM` | the browser's binary | `/usr/bin/chromium` |
//! | `IM_TEST_NODE_MODULES_BROWSER` | the folder that holds `playwright-core` | `tests/browser/node_modules` (`npm ci` in `tests/browser`), then `NODE_PATH` |
//! | `IM_TEST_REQUIRE` | `all`: fail if something is missing | skip, and report it |
//! | `IM_TEST_SKIPPED` | a file that gets a line if the test is skipped | standard error alone |
//!
//! Screenshots are stored in `target/screenshots`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `tests/browser/<script>`, which must write `target/screenshots/<picture>`. Skips the test
/// without a browser.
///
/// `server` is the package and binary of the server, and the variable with the path of a built one;
/// the script reads the path from it in any case. `data` is an empty folder for the server.
///
/// # Panics
///
/// If the script fails, with its output.
pub fn run(script: &str, (server, variable): (&str, &str), picture: &str, data: &Path) {
    let (chromium, modules) = match needs() {
        Ok(needs) => needs,
        Err(missing) => return crate::skip("browser", &missing),
    };
    let screenshots = target_dir().join("screenshots");
    fs::create_dir_all(&screenshots).unwrap();
    let picture = screenshots.join(picture);
    let _ = fs::remove_file(&picture);

    let output = Command::new("node")
        .arg(self::script(script))
        .env(variable, binary(server, variable))
        .env("IM_TEST_CHROMIUM", chromium)
        .env("IM_TEST_NODE_MODULES_BROWSER", modules)
        .env("IM_TEST_DATA", data)
        .env("IM_TEST_SCREENSHOTS", &screenshots)
        .output()
        .unwrap();
    let told =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{}\n{}", told[0], told[1]);
    assert!(fs::metadata(&picture).unwrap().len() > 10_000, "the picture is empty");
}

/// Returns the browser, and the folder with the scripts' one package.
///
/// # Errors
///
/// The missing part, and how to install it.
pub fn needs() -> Result<(PathBuf, PathBuf), String> {
    Ok((chromium()?, node_modules()?))
}

/// The path of a script of `tests/browser`.
pub fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser").join(name)
}

fn chromium() -> Result<PathBuf, String> {
    let path = PathBuf::from(
        env::var_os("IM_TEST_CHROMIUM").unwrap_or_else(|| "/usr/bin/chromium".into()),
    );
    let missing =
        || format!("no browser at {}: install Chromium or set IM_TEST_CHROMIUM", path.display());
    path.is_file().then(|| path.clone()).ok_or_else(missing)
}

/// The folder with the scripts' package. Also checks that Node is installed.
fn node_modules() -> Result<PathBuf, String> {
    if Command::new("node").arg("--version").output().is_err() {
        return Err("Node.js is not installed".into());
    }
    let named = env::var_os("IM_TEST_NODE_MODULES_BROWSER").map(PathBuf::from);
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("browser/node_modules");
    let shared = env::var_os("NODE_PATH").unwrap_or_default();
    let mut folders = named.into_iter().chain([own]).chain(env::split_paths(&shared));
    folders
        .find(|folder| folder.join("playwright-core/package.json").is_file())
        .ok_or_else(|| "playwright-core is missing: run `npm ci` in tests/browser".into())
}

/// The path of the server under test, which is built if the variable is not set.
fn binary(server: &str, variable: &str) -> PathBuf {
    if let Some(named) = env::var_os(variable) {
        return named.into();
    }
    let mut build = Command::new(env!("CARGO"));
    // All features of all crates, as `cargo xtask test` has built them: otherwise much would be
    // built again.
    build.args(["build", "--quiet", "--workspace", "--all-features", "--bin", server]);
    build.arg("--target-dir").arg(target_dir());
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    assert!(
        build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success(),
        "{server} does not build"
    );
    profile_dir().join(format!("{server}{}", env::consts::EXE_SUFFIX))
}

/// `target/debug` or `target/release`: the calling test's binary is in its `deps`.
fn profile_dir() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

fn target_dir() -> PathBuf {
    profile_dir().parent().unwrap().to_owned()
}

//! Tools for checks and tests beyond a Rust toolchain: how they are obtained, and where they are
//! stored.
//!
//! Everything is stored in `target/xtask` and reused, except Chromium, nginx and database servers,
//! which are system packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::{cargo, output, program, root, run, workshop};

/// The version that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// Returns cargo-deny; builds it if it is missing.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    let folder = workshop();
    let binary = folder.join("bin").join("cargo-deny");
    let version = output(&mut program(&binary, ["--version"])).unwrap_or_default();
    if version.split_whitespace().last() != Some(CARGO_DENY) {
        eprintln!("    building cargo-deny {CARGO_DENY} once; this takes some minutes");
        let mut install =
            cargo(["install", "--quiet", "--locked", "--force", "--version", CARGO_DENY, "--root"]);
        run(install.arg(&folder).arg("cargo-deny"))?;
    }
    Ok(binary)
}

/// Returns the system's Chromium; installs its packages if it is missing and the process may.
pub(crate) fn chromium() -> Result<PathBuf> {
    if let Some(found) = find_chromium() {
        return Ok(found);
    }
    if !may_install() {
        bail!(
            "there is no Chromium; install it (Debian: `apt-get install chromium`) or name one in IM_TEST_CHROMIUM"
        );
    }
    install(&["chromium"])?;
    find_chromium().context("apt-get has installed chromium, but it is not on the path")
}

fn find_chromium() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
        .into_iter()
        .find_map(find)
}

/// Returns the system's nginx, in the same way.
pub(crate) fn nginx() -> Result<PathBuf> {
    // /usr/sbin is not on every user's path.
    let sbin = || Some(PathBuf::from("/usr/sbin/nginx")).filter(|file| file.is_file());
    let found = || find("nginx").or_else(sbin);
    if let Some(found) = found() {
        return Ok(found);
    }
    if !may_install() {
        bail!(
            "there is no nginx; install it (Debian: `apt-get install nginx-light`) or name one in IM_TEST_NGINX"
        );
    }
    install(&["nginx-light"])?;
    found().context("apt-get has installed nginx, but it is neither on the path nor in /usr/sbin")
}

/// Whether system packages can be installed: on Debian, as root.
pub(crate) fn may_install() -> bool {
    let user = output(&mut program("id", ["-u"])).unwrap_or_default();
    find("apt-get").is_some() && user.trim() == "0"
}

/// Installs system packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    run(&mut program("apt-get", ["update", "-qq"]))?;
    let mut install = program("apt-get", ["install", "-y", "-qq", "--no-install-recommends"]);
    run(install.args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Finds the program of this name on the path.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Installs the packages of `tests/<folder>/package.json`, exactly by its lock file. Returns the
/// `node_modules`.
pub(crate) fn node_modules(folder: &Path) -> Result<PathBuf> {
    let name = folder.file_name().context("a folder of tests has no name")?;
    let place = workshop().join("npm").join(name);
    let wanted = [folder.join("package.json"), folder.join("package-lock.json")];
    if !is_current(&place, &wanted)? {
        if find("npm").is_none() {
            bail!("npm is missing; install Node.js 18 or newer with npm");
        }
        fs::create_dir_all(&place)?;
        for file in &wanted {
            copy_into(file, &place)?;
        }
        let mut install = program(
            "npm",
            ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"],
        );
        run(install.current_dir(&place))?;
        mark_current(&place, &wanted)?;
    }
    Ok(place.join("node_modules"))
}

/// The same for a package of this repository, whose own `node_modules` is a link to them.
pub(crate) fn node_modules_beside(folder: &Path) -> Result<PathBuf> {
    let modules = node_modules(folder)?;
    let link = folder.join("node_modules");
    if fs::symlink_metadata(&link).is_err() {
        #[cfg(unix)]
        std::os::unix::fs::symlink(&modules, &link)
            .with_context(|| format!("could not link {}", link.display()))?;
        #[cfg(not(unix))]
        bail!("run `npm ci` in {} first", folder.display());
    }
    Ok(modules)
}

/// Returns a virtual environment with the packages of these requirements.
pub(crate) fn python(requirements: &[PathBuf]) -> Result<PathBuf> {
    python_in(&workshop().join("venv"), requirements)
}

/// Returns kosoku, which runs the Autobahn cases. It has its own environment: without a wheel for
/// this machine, only its tests are missing.
pub(crate) fn kosoku() -> Result<PathBuf> {
    let wanted = root().join("im-transport-ws").join("autobahn").join("requirements.txt");
    let python = python_in(&workshop().join("kosoku"), &[wanted]).context(
        "kosoku needs Python 3.10 or newer, and a wheel for this machine among those listed",
    )?;
    Ok(python.with_file_name("kosoku"))
}

fn python_in(place: &Path, requirements: &[PathBuf]) -> Result<PathBuf> {
    let python = place.join("bin").join("python");
    if !is_current(place, requirements)? {
        if find("python3").is_none() {
            bail!("python3 is missing; install Python 3.10 or newer");
        }
        run(program("python3", ["-m", "venv", "--clear"]).arg(place)).context(
            "python3 cannot make a virtual environment (Debian: `apt-get install python3-venv`)",
        )?;
        let mut install =
            program(&python, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        for file in requirements {
            install.arg("--requirement").arg(file);
        }
        run(&mut install)?;
        mark_current(place, requirements)?;
    }
    Ok(python)
}

/// Returns the folders below `tests/` that contain a file of this name, in order.
pub(crate) fn test_folders_with(file: &str) -> Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(root().join("tests")).context("could not read tests/")? {
        let folder = entry?.path();
        if folder.join(file).is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Whether `place` was made from files with the same content as these.
fn is_current(place: &Path, files: &[PathBuf]) -> Result<bool> {
    Ok(fs::read(place.join(MARK)).ok() == Some(contents(files)?))
}

fn mark_current(place: &Path, files: &[PathBuf]) -> Result<()> {
    fs::write(place.join(MARK), contents(files)?)
        .with_context(|| format!("could not write to {}", place.display()))
}

/// The file with the content of the files that a folder was made from; written last.
const MARK: &str = ".made-from";

fn contents(files: &[PathBuf]) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(fs::read(file).with_context(|| format!("could not read {}", file.display()))?);
    }
    Ok(all)
}

fn copy_into(file: &Path, folder: &Path) -> Result<()> {
    let to = folder.join(file.file_name().unwrap_or_default());
    fs::copy(file, &to)
        .with_context(|| format!("could not copy {} to {}", file.display(), to.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_input_rebuilds_the_tool() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("wanted");
        fs::write(&file, "one").unwrap();
        let files = [file.clone()];
        assert!(!is_current(folder.path(), &files).unwrap());
        mark_current(folder.path(), &files).unwrap();
        assert!(is_current(folder.path(), &files).unwrap());
        fs::write(&file, "two").unwrap();
        assert!(!is_current(folder.path(), &files).unwrap());
    }

    #[test]
    fn program_is_found_on_path() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-anywhere").is_none());
    }
}

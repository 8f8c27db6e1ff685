//! `cargo xtask test`: gets what the tests need, builds, and runs all of them.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use im_test_databases::{Kind, Server};

use crate::outside::OUTSIDE;
use crate::run::{Steps, cargo, program, root, run, workshop};
use crate::tools;
use crate::{autobahn, databases};

/// Environment variables for the tests, and what is missing.
struct Needs {
    env: Vec<(String, OsString)>,
    missing: Vec<String>,
    /// Servers; they end when this is dropped, or with the process.
    servers: Vec<Server>,
}

/// Runs every test, or those whose names contain `filter`.
pub(crate) fn all(filter: Option<&str>) -> Result<()> {
    let mut steps = Steps::new();
    let mut needs = Needs::new();
    steps.step(
        "requirements of the tests",
        "install what is named, or leave IM_TEST_REQUIRE unset to skip the tests that need it",
        || {
            needs.gather()?;
            needs.check()
        },
    )?;
    let skipped = workshop().join("skipped.txt");
    fs::create_dir_all(workshop())?;
    fs::write(&skipped, "").with_context(|| format!("could not write {}", skipped.display()))?;
    needs.print("IM_TEST_SKIPPED", skipped.clone());

    let advice = "the output above names the test; run it alone with `cargo xtask test NAME`";
    steps.step("build", "fix the compiler's errors", || {
        run(&mut cargo(["build", "--workspace", "--all-targets", "--all-features"]))
    })?;
    steps.step("tests", advice, || {
        let mut tests = cargo(["test", "--workspace", "--all-features", "--no-fail-fast", "--"]);
        run(tests.args(filter).envs(needs.env.iter().cloned()))
            .inspect_err(|_| needs.servers.iter().for_each(print_log_tail))
    })?;
    for outside in &OUTSIDE {
        steps.step(&format!("{} from outside the workspace", outside.what), advice, || {
            run(outside.test(filter).envs(needs.env.iter().cloned()))
        })?;
    }
    // A filter applies to tests in Rust only.
    if filter.is_none() && needs.has(JS_MODULES) {
        let advice = "`npm test` in clients/js runs them alone; see its README for what they need";
        steps.step("JavaScript client", advice, || needs.test_javascript())?;
    }
    if filter.is_none()
        && let Some(kosoku) = needs.get(KOSOKU)
    {
        steps
            .step("Autobahn's core cases", autobahn::ADVICE, || autobahn::core(kosoku.as_ref()))?;
    }
    for server in needs.servers.drain(..) {
        server.stop()?;
    }
    // Last of all steps that use the server with all features: this build replaces its binary.
    steps.step("quickstart as newcomers build it", advice, || {
        let mut tests = cargo(["test", "--package", "quickstart", "--test", "start", "--"]);
        run(tests.args(filter))
    })?;
    steps.summary();
    needs.report(&skipped)
}

/// The variable of the program that runs the Autobahn cases.
const KOSOKU: &str = "IM_TEST_KOSOKU";

/// The variable of the JavaScript client's development packages.
const JS_MODULES: &str = "IM_TEST_NODE_MODULES_JS";

impl Needs {
    fn new() -> Self {
        Self { env: Vec::new(), missing: Vec::new(), servers: Vec::new() }
    }

    /// Checks the types of the JavaScript client, and runs its tests against the server that was
    /// just built.
    fn test_javascript(&self) -> Result<()> {
        let folder = root().join("clients").join("js");
        let server = workshop().with_file_name("debug").join("quickstart");
        if !server.is_file() {
            bail!("{} is missing although everything was built", server.display());
        }
        run(program("npm", ["run", "--silent", "check"]).current_dir(&folder))?;
        run(program("npm", ["test", "--silent"])
            .current_dir(&folder)
            .envs(self.env.iter().cloned())
            .env("IM_TEST_SERVER", server))
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&OsString> {
        self.env.iter().find_map(|(set, value)| (set == name).then_some(value))
    }

    /// Gets all requirements; failures are recorded with the reason.
    fn gather(&mut self) -> Result<()> {
        self.need("IM_TEST_CHROMIUM", "tests in a browser", tools::chromium);
        self.need("IM_TEST_NGINX", "tests behind nginx", tools::nginx);
        for folder in tools::test_folders_with("package.json")? {
            let what = format!("tests with the packages of {}", shown(&folder));
            self.need(&variable(&folder), &what, || tools::node_modules(&folder));
        }
        let js = root().join("clients").join("js");
        self.need(JS_MODULES, "tests of the JavaScript client", || tools::node_modules_beside(&js));
        let requirements: Vec<_> = tools::test_folders_with("requirements.txt")?
            .into_iter()
            .map(|folder| folder.join("requirements.txt"))
            .collect();
        if !requirements.is_empty() {
            self.need("IM_TEST_PYTHON", "tests with Python clients", || {
                tools::python(&requirements)
            });
        }
        self.need(KOSOKU, "the Autobahn cases", tools::kosoku);
        for kind in Kind::ALL {
            self.need_server(kind);
        }
        Ok(())
    }

    /// Gets one requirement, unless its variable is set.
    fn need<V: Into<OsString>>(&mut self, name: &str, what: &str, get: impl FnOnce() -> Result<V>) {
        if let Some(set) = std::env::var_os(name) {
            eprintln!("    {name}={} (as it was set)", public(&set.to_string_lossy()));
            self.env.push((name.to_owned(), set));
            return;
        }
        match get() {
            Ok(value) => self.print(name, value),
            Err(error) => self.missing.push(format!("{what}: {error:#}")),
        }
    }

    fn need_server(&mut self, kind: Kind) {
        let mut ours = None;
        self.need(kind.variable(), &format!("tests with {kind}"), || {
            let server = databases::start(kind)?;
            let url = server.url();
            ours = Some(server);
            Ok(url)
        });
        self.servers.extend(ours);
    }

    fn print(&mut self, name: &str, value: impl Into<OsString>) {
        let value = value.into();
        eprintln!("    {name}={}", public(&value.to_string_lossy()));
        self.env.push((name.to_owned(), value));
    }

    fn check(&self) -> Result<()> {
        for missing in &self.missing {
            eprintln!("    missing, for {missing}");
        }
        if !self.missing.is_empty() && must_have_all() {
            bail!(
                "IM_TEST_REQUIRE=all, and something is missing:\n  {}",
                self.missing.join("\n  ")
            );
        }
        Ok(())
    }

    /// Prints the skipped tests with their reasons.
    fn report(&self, skipped: &Path) -> Result<()> {
        let told = fs::read_to_string(skipped).unwrap_or_default();
        let mut all: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        all.extend(told.lines().filter(|line| !line.trim().is_empty()));
        if all.is_empty() {
            eprintln!("\nNothing was skipped.");
            return Ok(());
        }
        eprintln!("\nSkipped:");
        all.iter().for_each(|line| eprintln!("  - {line}"));
        if must_have_all() {
            bail!("IM_TEST_REQUIRE=all, and {} of the tests were skipped", all.len());
        }
        Ok(())
    }
}

fn print_log_tail(server: &Server) {
    eprintln!("\nthe end of the log of {}:\n{}", server.kind(), server.log_tail());
}

/// The text; if it is a URL, without its password.
fn public(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let (login, place) = rest.rsplit_once('@')?;
        let (user, _) = login.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{place}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

fn must_have_all() -> bool {
    std::env::var("IM_TEST_REQUIRE").is_ok_and(|value| value == "all")
}

/// The name of the variable: `IM_TEST_NODE_MODULES_BROWSER` for `tests/browser`.
fn variable(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let word: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
        .collect();
    format!("IM_TEST_NODE_MODULES_{word}")
}

fn shown(folder: &Path) -> String {
    format!("tests/{}", folder.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_folder_has_its_variable() {
        assert_eq!(variable(Path::new("/x/tests/browser")), "IM_TEST_NODE_MODULES_BROWSER");
        assert_eq!(
            variable(Path::new("tests/foreign-clients")),
            "IM_TEST_NODE_MODULES_FOREIGN_CLIENTS"
        );
    }

    #[test]
    fn passwords_are_not_printed() {
        assert_eq!(public("mysql://im:a:b@c@[::1]:1/im"), "mysql://im:…@[::1]:1/im");
        assert_eq!(public("mysql://im@here/im"), "mysql://im@here/im");
        assert_eq!(public("/a:b@c"), "/a:b@c");
    }

    #[test]
    fn missing_tool_is_noted_with_reason() {
        let mut needs = Needs::new();
        needs.need("IM_TEST_NO_SUCH_THING", "tests of nothing", || -> Result<OsString> {
            bail!("there is none")
        });
        assert_eq!(needs.missing, ["tests of nothing: there is none"]);
        needs.need("IM_TEST_NO_SUCH_THING", "tests of nothing", || Ok("/here"));
        assert_eq!(needs.env, [("IM_TEST_NO_SUCH_THING".to_owned(), OsString::from("/here"))]);
    }
}

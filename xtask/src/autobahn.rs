//! `cargo xtask autobahn`: the Autobahn cases against an echo on the WebSocket transport's own
//! codec.
//!
//! The cases are those of the Autobahn test suite, run by the PyPI package `kosoku`. They test RFC
//! 6455 and do not use our protocol, so the server is the example `echo` of im-transport-ws, which
//! has the transport's handshake, codec, writes and closing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::run::{Steps, cargo, program, run, target, workshop};
use crate::tools;

/// Cases that are run together.
struct Group {
    name: &'static str,
    cases: &'static [&'static str],
    /// The number of cases: fewer mean a failure.
    count: usize,
    /// Time limit; the runner prints nothing before its end. At least ten times what the cases take
    /// on an idle machine.
    within: Duration,
}

/// Requirements for every WebSocket server: frames, pings, reserved bits, opcodes, fragments,
/// UTF-8, closing.
const CORE: Group = Group {
    name: "core",
    cases: &["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"],
    count: 247,
    within: Duration::from_secs(300),
};

/// Messages of up to 16 MiB, in frames of down to 64 bytes.
const LIMITS: Group =
    Group { name: "limits", cases: &["9.*"], count: 54, within: Duration::from_secs(1800) };

/// The excluded cases, and why.
const LEFT_OUT: &str = "12.* and 13.* (216 cases) are left out: permessage-deflate is not offered";

/// Runs the cases that match these patterns, such as `6.*`; without one all groups.
pub(crate) fn all(patterns: &[&str]) -> Result<()> {
    let mut steps = Steps::new();
    let mut kosoku = PathBuf::new();
    steps.step(
        "the runner",
        "install Python 3.10 or newer with venv, or set IM_TEST_KOSOKU",
        || {
            kosoku = match std::env::var_os("IM_TEST_KOSOKU") {
                Some(set) => set.into(),
                None => tools::kosoku()?,
            };
            Ok(())
        },
    )?;
    if patterns.is_empty() {
        steps.step("core cases", ADVICE, || core(&kosoku))?;
        steps.step("limits", ADVICE, || run_group(&kosoku, &LIMITS))?;
        eprintln!("\n{LEFT_OUT}");
    } else {
        steps.step("cases", ADVICE, || {
            let passed = cases(&kosoku, "chosen", patterns, LIMITS.within)?;
            eprintln!("    {passed} cases passed");
            Ok(())
        })?;
    }
    steps.summary();
    Ok(())
}

/// Advice for a failing case.
pub(crate) const ADVICE: &str = "target/xtask/autobahn/*/index.html shows each case; `cargo xtask autobahn CASE` runs one alone";

/// Runs the core cases; all must pass.
pub(crate) fn core(kosoku: &Path) -> Result<()> {
    run_group(kosoku, &CORE)
}

fn run_group(kosoku: &Path, group: &Group) -> Result<()> {
    let passed = cases(kosoku, group.name, group.cases, group.within)?;
    ensure!(
        passed == group.count,
        "{passed} cases were run, but {} has {}",
        group.name,
        group.count
    );
    eprintln!("    all {passed} cases passed");
    Ok(())
}

/// Runs these cases against a new echo. Returns their number; fails if a case failed.
fn cases(kosoku: &Path, name: &str, patterns: &[&str], within: Duration) -> Result<usize> {
    let report = workshop().join("autobahn").join(name);
    // An old report must not be mistaken for the new one.
    if report.exists() {
        fs::remove_dir_all(&report)?;
    }
    let mut echo = Echo::start()?;
    let mut command = program(kosoku, ["--parallelism", "2", "--outdir"]);
    command.arg(&report);
    command.args(patterns.iter().flat_map(|pattern| ["--include", pattern]));
    command.arg(&echo.address);
    let ended = run_within(&mut command, within);
    ensure!(echo.is_alive()?, "the echo server ended early");
    let read = fs::read_to_string(report.join("index.json"));
    let Ok(read) = read else {
        ended?;
        bail!("kosoku wrote no report");
    };
    let verdicts = verdicts(&read)?;
    let bad: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.is_good()).collect();
    bad.iter().for_each(|verdict| eprintln!("    {verdict:?}"));
    ensure!(bad.is_empty(), "{} of {} cases failed", bad.len(), verdicts.len());
    ended?;
    for lenient in verdicts.iter().filter(|verdict| verdict.behavior == "NON-STRICT") {
        eprintln!("    {}: passed, but not as early as possible", lenient.case);
    }
    Ok(verdicts.len())
}

/// The result of a case, in Autobahn's words.
#[derive(Debug, PartialEq, Eq)]
struct Verdict {
    case: String,
    behavior: String,
    close: String,
}

impl Verdict {
    /// Autobahn counts what RFC 6455 leaves open, and what breaks only a SHOULD, as passed.
    /// `UNIMPLEMENTED` is not.
    fn is_good(&self) -> bool {
        let good = ["OK", "NON-STRICT", "INFORMATIONAL"];
        good.contains(&self.behavior.as_str()) && good.contains(&self.close.as_str())
    }
}

/// Parses the index of a report: agents, their cases, and the results.
fn verdicts(index: &str) -> Result<Vec<Verdict>> {
    let index: Value = serde_json::from_str(index).context("the report is not JSON")?;
    let agents = index.as_object().context("the report has no agents")?;
    let cases = agents.values().filter_map(Value::as_object).flatten();
    let verdicts = cases.map(|(case, said)| {
        let word = |key: &str| {
            let word = said[key].as_str().with_context(|| format!("case {case} has no {key}"))?;
            Ok::<_, anyhow::Error>(word.to_owned())
        };
        Ok(Verdict {
            case: case.clone(),
            behavior: word("behavior")?,
            close: word("behaviorClose")?,
        })
    });
    verdicts.collect()
}

/// Runs the command to its end, or fails after `within`.
fn run_within(command: &mut Command, within: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut child = command.spawn().context("could not start kosoku")?;
    loop {
        if let Some(status) = child.try_wait()? {
            ensure!(status.success(), "kosoku ended with {status}");
            return Ok(());
        }
        if begin.elapsed() > within {
            child.kill()?;
            child.wait()?;
            bail!("kosoku had not ended after {} s", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The echo server; it ends when this is dropped or this process ends.
struct Echo {
    process: Child,
    address: String,
}

impl Echo {
    fn start() -> Result<Self> {
        // With all features, as for the tests, so that nothing is built twice.
        let echo = ["--workspace", "--all-features", "--example", "echo"];
        run(cargo(["build", "--quiet"]).args(echo))?;
        let binary = target().join("debug").join("examples").join("echo");
        let mut process = Command::new(&binary)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("could not start {}", binary.display()))?;
        let mut address = String::new();
        let said = process.stdout.take().context("the echo has no output")?;
        BufReader::new(said).read_line(&mut address)?;
        let address = address.trim().to_owned();
        ensure!(!address.is_empty(), "the echo server did not print its address");
        Ok(Self { process, address })
    }

    fn is_alive(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Both fail harmlessly if the process has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_read_case_by_case() {
        let index = r#"{"im": {"1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
            "6.4.1": {"behavior": "NON-STRICT", "behaviorClose": "OK"},
            "7.1.5": {"behavior": "OK", "behaviorClose": "WRONG CODE"},
            "9.3.1": {"behavior": "FAILED", "behaviorClose": "OK"},
            "12.1.1": {"behavior": "UNIMPLEMENTED", "behaviorClose": "OK"}}}"#;
        let bad: Vec<String> = verdicts(index)
            .unwrap()
            .into_iter()
            .filter(|verdict| !verdict.is_good())
            .map(|verdict| verdict.case)
            .collect();
        assert_eq!(bad, ["12.1.1", "7.1.5", "9.3.1"]);
    }

    #[test]
    fn report_without_verdict_is_refused() {
        assert!(verdicts(r#"{"im": {"1.1.1": {"behavior": "OK"}}}"#).is_err());
        assert!(verdicts("[]").is_err());
    }

    #[test]
    fn unfinished_run_is_ended() {
        let mut endless = program("sleep", ["1000"]);
        let error = run_within(&mut endless, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("had not ended"), "{error}");
    }
}

//! I/O errors: each disk call fails once or permanently; the store reports it, loses nothing and
//! recovers.
//!
//! A worker runs the same steps each time: it opens the store, sends, reads, closes it, and does so
//! again. The first run has no fault and counts the calls. Then one call fails in each run: with no
//! space, with an I/O error, or by writing half; once, or until the worker has seen some errors and
//! marks the disk as healed.
//!
//! The conditions: no call hangs; senders get `Full`, `Unavailable` or `Unknown`; after the first
//! two, a message is not stored unless it was retried; acked messages are stored once; the store
//! accepts writes again, as it is or, at worst, reopened. Both the folder as it was left and the
//! images of a power cut at the end are checked. In those images, data of a failed sync is lost: so
//! a store that retries a sync and trusts it is detected.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};

use super::log::{Act, Record};
use super::seen::try_out;
use super::worker::{Done, Stage, remove, said, tail};
use super::{Arrived, Disk, Fault, FaultError};
use crate::crash::{Line, NEEDS_RESTART, Random, Task, Verdict, Violation};

/// The faults of a run, and its workers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FaultPlan {
    /// The maximum number of faults, spread over all possible ones; `None` for all.
    pub faults: Option<u32>,
    /// The seed of the choice, if not all.
    pub seed: u64,
    /// Number of concurrent workers. 6 by default: mostly they wait for the store to retry its
    /// disk.
    pub workers: usize,
}

impl FaultPlan {
    /// Returns a plan of so many faults, or all, with this seed.
    pub fn new(faults: Option<u32>, seed: u64) -> Self {
        Self { faults, seed, workers: 6 }
    }
}

/// The counts of a run, and its violations.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FaultReport {
    /// Number of calls of the script without a fault.
    pub calls: u64,
    /// Number of runs with a fault.
    pub runs: u32,
    /// Of these, the ones that never reached that call.
    pub missed: u32,
    /// Number of faults met, by the kind of the call and the error.
    pub met: BTreeMap<(String, FaultError), u32>,
    /// Number of runs in which no error was reported.
    pub unnoticed: u32,
    /// Number of errors of sends, by kind.
    pub reported: BTreeMap<String, u32>,
    /// Number of errors of opening, closing and reading, by operation and kind.
    pub away: BTreeMap<String, u32>,
    /// How the store recovered: `in-place`, `opened`, `reopened`, `restart`.
    pub again: BTreeMap<String, u32>,
    /// Number of acked sends, each counted in its run.
    pub acknowledged: u64,
    /// Duration of the run.
    pub took: Duration,
    /// The violations, each with its fault.
    pub violations: Vec<(String, Violation)>,
}

impl fmt::Display for FaultReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |is: fn(&Violation) -> bool| {
            self.violations.iter().filter(|(_, violation)| is(violation)).count()
        };
        writeln!(
            f,
            "{} runs with a fault at one of {} calls, {:.1?}: {} acknowledged, {} lost, {} duplicated, {} reordered, {} \
             otherwise wrong; \
             {} faults not met, {} not noticed",
            self.runs,
            self.calls,
            self.took,
            self.acknowledged,
            count(|v| matches!(v, Violation::Lost(_))),
            count(|v| matches!(v, Violation::Duplicated(_))),
            count(|v| matches!(v, Violation::Reordered(_))),
            count(Violation::is_other),
            self.missed,
            self.unnoticed,
        )?;
        let met = self.met.iter().map(|((kind, error), count)| format!("{kind} {error} {count}"));
        writeln!(f, "  met: {}", met.collect::<Vec<_>>().join(", "))?;
        for (name, counts) in [
            ("errors of sends", &self.reported),
            ("other errors", &self.away),
            ("recovered", &self.again),
        ] {
            let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
            writeln!(f, "  {name}: {}", counts.collect::<Vec<_>>().join(", "))?;
        }
        Ok(())
    }
}

/// Makes calls fail and checks the store after each.
///
/// The arguments are those of [`power::run`](super::power::run).
///
/// # Errors
///
/// If a process cannot be started, a file access fails, the script fails without a fault, or the
/// worker writes in ways that the shim does not see.
pub async fn run(
    plan: &FaultPlan,
    library: &Path,
    work: &Path,
    command: impl Fn(&Path, &Task) -> Command,
) -> io::Result<FaultReport> {
    let started = Instant::now();
    let stage = Stage { library, work, command };
    try_out(&stage).await?;
    let (calls, faults) = faults(plan, &stage).await?;
    let mut report = FaultReport { calls, ..FaultReport::default() };
    let mut runs = stream::iter(faults.into_iter().enumerate())
        .map(|(number, fault)| one(&stage, number, fault))
        .buffer_unordered(plan.workers);
    while let Some(ran) = runs.next().await {
        report.add(ran?);
        if report.runs.is_multiple_of(100) {
            eprintln!("  {} runs, {} violations", report.runs, report.violations.len());
        }
    }
    report.took = started.elapsed();
    Ok(report)
}

/// The seed of the script's messages, the same in each run.
const SCRIPT: Task = Task::Script { seed: 7 };

/// Runs the script without a fault. Returns the number of its calls and all sensible faults.
async fn faults<C: Fn(&Path, &Task) -> Command>(
    plan: &FaultPlan,
    stage: &Stage<'_, C>,
) -> io::Result<(u64, Vec<Fault>)> {
    let folder = stage.folder("well")?;
    let done = stage.record(&folder, &SCRIPT, "well", "", |shim| shim).await?;
    remove(&folder)?;
    if !done.status.is_some_and(|status| status.success()) || said(&done.records).contains("away") {
        let why =
            format!("the script failed without a fault: {:?} {}", done.status, tail(&done.stderr));
        return Err(io::Error::other(why));
    }
    let mut faults = Vec::new();
    for record in done.records.iter().filter(|record| record.call > 0) {
        for error in FaultError::ALL {
            let kind = record.act.kind();
            // Half a write applies to writes only; removals and reads need no space.
            let sensible = match error {
                FaultError::Io => true,
                FaultError::Short => kind == "write",
                FaultError::NoSpace => !matches!(kind, "read" | "unlink"),
            };
            for on in [false, true] {
                let kind = "any".to_owned();
                let fault = Fault { kind, number: record.call, error, on };
                faults.extend(sensible.then_some(fault));
            }
        }
    }
    let calls = done.records.iter().map(|record| record.call).max().unwrap_or(0);
    if let Some(most) = plan.faults {
        pick(&mut faults, most as usize, plan.seed);
    }
    Ok((calls, faults))
}

/// Keeps at most `most` faults, spread evenly.
fn pick(faults: &mut Vec<Fault>, most: usize, seed: u64) {
    let mut random = Random::new(seed);
    let all = std::mem::take(faults);
    let parts = most.min(all.len());
    for part in 0..parts {
        let (from, until) = (part * all.len() / parts, (part + 1) * all.len() / parts);
        let one = from + (random.next() % (until - from) as u64) as usize;
        faults.push(all[one].clone());
    }
}

struct Ran {
    fault: Fault,
    /// The kind of the call that failed.
    met: Option<String>,
    lines: Vec<Line>,
    restart: bool,
    /// The image that was checked last.
    place: String,
    violations: Vec<Violation>,
}

async fn one<C: Fn(&Path, &Task) -> Command>(
    stage: &Stage<'_, C>,
    number: usize,
    fault: Fault,
) -> io::Result<Ran> {
    let folder = stage.folder(&format!("fault-{number}"))?;
    let mut disk = Disk::load(&folder)?;
    let with = fault.clone();
    let done = stage.record(&folder, &SCRIPT, "well", "", |shim| shim.fault(with)).await?;
    let reported = said(&done.records);
    let mut violations = ended_well(&done);
    done.records.iter().for_each(|record| disk.apply(record));
    if let Some(wrong) = disk.not_followed().first() {
        return Err(io::Error::other(format!("{fault}: the log cannot be followed: {wrong}")));
    }
    let mut place = "as it was left".to_owned();
    if violations.is_empty() {
        violations.extend(stage.judge(&folder, "well", &reported, false).await?.violations);
    }
    // The images of a power cut: without any unsynced data, or with some of it.
    for arrived in [Arrived::Nothing, Arrived::Torn] {
        if violations.is_empty() {
            place = format!("after a power cut, {arrived:?}");
            remove(&folder)?;
            disk.cut(arrived, number as u64).write(&folder)?;
            let boot = format!("cut-{number}");
            let Verdict { violations: found, abandoned, .. } =
                stage.judge(&folder, &boot, &reported, false).await?;
            let lost = abandoned.into_iter().map(Violation::Lost);
            violations.extend(found.into_iter().chain(lost));
            remove(&stage.work.join(format!("boot-{boot}")))?;
        }
    }
    if violations.is_empty() {
        remove(&folder)?;
    } else {
        fs::write(folder.join("told"), &reported)?;
        fs::write(folder.join("stderr"), &done.stderr)?;
    }
    Ok(Ran {
        met: met(&done.records),
        lines: reported.lines().filter_map(Line::parse).collect(),
        restart: done.status.and_then(|status| status.code()) == Some(i32::from(NEEDS_RESTART)),
        fault,
        place,
        violations,
    })
}

fn ended_well(done: &Done) -> Vec<Violation> {
    let well = |code: i32| code == 0 || code == i32::from(NEEDS_RESTART);
    match done.status {
        None => vec![Violation::Wrong("a call hangs".into())],
        Some(status) if !status.code().is_some_and(well) => {
            let why = format!("the process ended with {status}: {}", tail(&done.stderr));
            vec![Violation::Wrong(why)]
        }
        Some(_) => Vec::new(),
    }
}

fn met(records: &[Record]) -> Option<String> {
    records.iter().find_map(|record| match &record.act {
        Act::Fault { kind, .. } => Some(kind.clone()),
        _ => None,
    })
}

impl FaultReport {
    fn add(&mut self, ran: Ran) {
        self.runs += 1;
        let Ran { fault, met, lines, restart, place, violations } = ran;
        match &met {
            Some(kind) => *self.met.entry((kind.clone(), fault.error)).or_default() += 1,
            None => self.missed += 1,
        }
        let mut noticed = restart;
        for line in lines {
            let (counts, what) = match line {
                Line::Failed(_, kind) => (&mut self.reported, kind),
                Line::Away(what, kind) => (&mut self.away, format!("{what} {kind}")),
                Line::Again(how) => (&mut self.again, how),
                Line::Ack(..) => {
                    self.acknowledged += 1;
                    continue;
                }
                _ => continue,
            };
            noticed = true;
            *counts.entry(what).or_default() += 1;
        }
        if restart {
            *self.again.entry("restart".into()).or_default() += 1;
        }
        self.unnoticed += u32::from(!noticed && met.is_some());
        let met = met.as_deref().unwrap_or("nothing");
        let place = format!("{fault} (a call of {met}), {place}");
        if let Some(first) = violations.first() {
            eprintln!("  {place}: {} violations, the first {first:?}", violations.len());
        }
        self.violations.extend(violations.into_iter().map(|violation| (place.clone(), violation)));
    }
}

//! Power cuts: the state of a store after its disk dropped unsynced writes.
//!
//! A worker writes to a store while its calls are recorded. At many points of the record an image
//! of the disk is built, as a cut at that point may leave it. A judge, a process of its own, opens
//! the image with the store, as after a reboot, and compares it with the acks before the cut. The
//! next worker continues from one of the images, so that cuts meet recoveries, too.
//!
//! The conditions: acked messages are stored at their seq, once, with their record, and each room
//! has seqs 1, 2, 3 … without a gap; no event is stored that was not sent, or with other content; a
//! retry under the same id is stored once. A store whose [`Durability`](im_core::ports::Durability)
//! is less than `PowerLoss` may lose acked messages if it begins a new generation: those are
//! counted as given up. A store that was closed may do neither.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};

use super::log::{Act, Record};
use super::seen::{all_seen, try_out};
use super::worker::{Stage, remove, said, tail};
use super::{Arrived, Disk, Image, Syncs};
use crate::crash::{Ends, Line, Model, Random, Task, Verdict, Violation, WriterPlan};

/// The cuts of a run, and its workers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PowerPlan {
    /// Number of cuts.
    pub cuts: u32,
    /// The seed of all choices, except those of the worker's threads.
    pub seed: u64,
    /// Number of cuts tried on the record of one worker. 20 by default.
    pub each: u32,
    /// Number of workers that continue from each other's images before a new store begins. 6 by
    /// default.
    pub chain: u32,
    /// The maximum number of acks before a worker ends. 320 by default; in every third chain ten
    /// times as many, with many large messages, so that stores reuse freed space.
    pub most: u64,
    /// Number of concurrent judges. 2 by default.
    pub judges: usize,
    /// The handling of the store's syncs. Lies show that the test finds missing syncs.
    pub syncs: Syncs,
}

impl PowerPlan {
    /// Returns a plan of so many cuts, with this seed.
    pub fn new(cuts: u32, seed: u64) -> Self {
        Self { cuts, seed, each: 20, chain: 6, most: 320, judges: 2, syncs: Syncs::Recorded }
    }
}

/// The counts of a run, and its violations.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PowerReport {
    /// Number of cuts tried.
    pub cuts: u32,
    /// Of these, by what had arrived.
    pub by_arrived: BTreeMap<Arrived, u32>,
    /// Number of workers that were recorded.
    pub workers: u32,
    /// Number of calls recorded.
    pub records: u64,
    /// Number of acked sends, each counted at each cut after it.
    pub acknowledged: u64,
    /// Number of cuts after which a new generation had begun.
    pub new_generations: u32,
    /// Number of cuts after which acked sends were missing and the store reported it by a new
    /// generation.
    pub abandoned: u32,
    /// Duration of the run.
    pub took: Duration,
    /// The violations, each with its cut.
    pub violations: Vec<(String, Violation)>,
    /// The first abandoned send, with its cut.
    pub first_abandoned: Option<String>,
}

impl PowerReport {
    fn count(&self, is: fn(&Violation) -> bool) -> usize {
        self.violations.iter().filter(|(_, violation)| is(violation)).count()
    }

    /// Returns the number of cuts that lost an acked send, whether the store reported it or not.
    pub fn losing(&self) -> usize {
        self.abandoned as usize + self.count(|violation| matches!(violation, Violation::Lost(_)))
    }
}

impl fmt::Display for PowerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} power cuts in {} calls of {} workers, {:.1?}: {} lookups of acknowledged sends, {} lost, {} \
             duplicated, {} reordered, {} otherwise wrong; {} cuts after which sends were given up under a new generation; \
             {} new generations",
            self.cuts,
            self.records,
            self.workers,
            self.took,
            self.acknowledged,
            self.count(|v| matches!(v, Violation::Lost(_))),
            self.count(|v| matches!(v, Violation::Duplicated(_))),
            self.count(|v| matches!(v, Violation::Reordered(_))),
            self.count(Violation::is_other),
            self.abandoned,
            self.new_generations,
        )?;
        let kinds = self.by_arrived.iter().map(|(arrived, count)| format!("{arrived:?} {count}"));
        write!(f, " ({})", kinds.collect::<Vec<_>>().join(", "))
    }
}

/// One cut: its index in the record, and what had arrived.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    arrived: Arrived,
    seed: u64,
}

/// Cuts the power of workers and checks the store after each cut.
///
/// `library` is the shim. `work` is a folder for all files; images with violations stay there.
/// `command` returns the command of a worker that runs a task by [`work`](crate::crash::work) on
/// the store in a folder.
///
/// # Errors
///
/// If a process cannot be started, a file access fails, or a log cannot be followed; with
/// instructions, if the worker writes in ways that the shim does not see: a first worker is checked
/// for that before any cut.
pub async fn run(
    plan: &PowerPlan,
    library: &Path,
    work: &Path,
    command: impl Fn(&Path, &Task) -> Command,
) -> io::Result<PowerReport> {
    let started = Instant::now();
    let stage = Stage { library, work, command };
    try_out(&stage).await?;
    let mut run = Run {
        plan,
        stage,
        random: Random::new(plan.seed),
        report: PowerReport::default(),
        reported: String::new(),
        chains: 0,
        most: plan.most,
        large: 0,
        kept: 0,
    };
    while run.report.cuts < plan.cuts {
        run.chain().await?;
    }
    run.report.took = started.elapsed();
    Ok(run.report)
}

struct Run<'a, C> {
    plan: &'a PowerPlan,
    stage: Stage<'a, C>,
    random: Random,
    report: PowerReport,
    /// The lines of all workers that wrote to the folder.
    reported: String,
    /// The maximum number of acks of a worker.
    most: u64,
    /// One in so many messages is large.
    large: u32,
    chains: u32,
    /// Number of images with violations that were left in place.
    kept: u32,
}

/// More images would fill the disk.
const IMAGES_KEPT: u32 = 3;

impl<C: Fn(&Path, &Task) -> Command> Run<'_, C> {
    /// Runs workers one after the other, from an empty folder on.
    async fn chain(&mut self) -> io::Result<()> {
        let folder = self.stage.folder("live")?;
        self.reported.clear();
        self.chains += 1;
        let heavy = self.chains.is_multiple_of(3);
        self.most = if heavy { self.plan.most * 10 } else { self.plan.most };
        self.large = if heavy { 4 } else { 0 };
        let workers = if heavy { self.plan.chain / 2 } else { self.plan.chain };
        for _ in 0..workers.max(1) {
            if self.report.cuts >= self.plan.cuts {
                break;
            }
            let Some((image, reported)) = self.worker(&folder).await? else { break };
            remove(&folder)?;
            image.write(&folder)?;
            self.reported = reported;
        }
        Ok(())
    }

    fn writes(&mut self) -> Task {
        let mut plan = WriterPlan::new(self.random.next());
        let enough = self.most / 16 + self.random.next() % self.most.max(1);
        plan.ends = if self.random.next().is_multiple_of(4) {
            Ends::Closed(enough)
        } else {
            Ends::Abruptly(enough)
        };
        // With one sender, every send is a commit; concurrent ones share a commit.
        plan.large = self.large;
        plan.senders = [1, 4, 32][(self.random.next() % 3) as usize];
        Task::Write(plan)
    }

    /// Runs one worker and cuts its record. Returns the image from which the next one continues,
    /// with the lines before it; `None` after a violation.
    async fn worker(&mut self, folder: &Path) -> io::Result<Option<(Image, String)>> {
        // From here on the store does not count as closed.
        self.reported.push_str(&format!("{}\n", Line::Ready));
        let mut disk = Disk::load(folder)?;
        let (task, boot) = (self.writes(), self.random.next());
        let mut model = Model::default();
        self.reported.lines().for_each(|line| model.on_line(line));
        let (unanswered, syncs) = (model.unanswered(), self.plan.syncs);
        let boot = format!("{boot:016x}");
        let done =
            self.stage.record(folder, &task, &boot, &unanswered, |shim| shim.syncs(syncs)).await?;
        remove(&self.stage.work.join(format!("boot-{boot}")))?;
        self.report.workers += 1;
        self.report.records += done.records.len() as u64;
        if !done.status.is_some_and(|status| status.success()) {
            let why = format!("the worker ended with {:?}: {}", done.status, tail(&done.stderr));
            self.report.violations.push((format!("{task:?}"), Violation::Wrong(why)));
            // Check what it wrote until then, too.
        }
        if matches!(&task, Task::Write(WriterPlan { ends: Ends::Closed(_), .. })) {
            all_seen(disk.clone(), &done.records, folder)?;
        }
        let cuts = self.cuts(&done.records);
        let next = (self.random.next() % cuts.len().max(1) as u64) as usize;
        let mut goes_on = None;
        let (stage, reported) = (&self.stage, &self.reported);
        let verdicts: Vec<_> = stream::iter(cuts.iter().enumerate())
            .map(|(number, cut)| {
                done.records[disk.len()..cut.at].iter().for_each(|record| disk.apply(record));
                let reported = format!("{reported}{}", said(&done.records[..cut.at]));
                let image = disk.cut(cut.arrived, cut.seed);
                if number == next {
                    goes_on = Some((image.clone(), reported.clone()));
                }
                look(stage, number, *cut, image, reported)
            })
            .buffered(self.plan.judges)
            .collect()
            .await;
        if let Some(wrong) = disk.not_followed().first() {
            return Err(io::Error::other(format!("the log cannot be followed: {wrong}")));
        }
        let mut clean = true;
        for (number, (cut, verdict)) in cuts.iter().zip(verdicts).enumerate() {
            let (verdict, acknowledged) = verdict?;
            clean &= self.note(number, *cut, verdict, acknowledged)?;
        }
        Ok(goes_on.filter(|_| clean))
    }

    /// Returns the cuts: random ones, right after acks, and right before syncs.
    fn cuts(&mut self, records: &[Record]) -> Vec<Cut> {
        let places = |is: fn(&Act) -> bool, after: usize| -> Vec<usize> {
            let found = records.iter().enumerate().filter(|(_, record)| is(&record.act));
            found.map(|(index, _)| index + after).collect()
        };
        let marks = places(|act| matches!(act, Act::Mark(_)), 1);
        let syncs = places(|act| matches!(act, Act::Sync { .. }), 0);
        let names = places(|act| matches!(act, Act::Rename { .. } | Act::Remove { .. }), 1);
        let left = self.plan.cuts - self.report.cuts;
        let mut cuts = Vec::new();
        for _ in 0..self.plan.each.min(left) {
            let from = match self.random.next() % 8 {
                0 | 1 => &marks,
                2 => &syncs,
                3 => &names,
                _ => &Vec::new(),
            };
            let pick = self.random.next();
            let at = match from.len() {
                0 => (pick % (records.len() as u64 + 1)) as usize,
                len => from[(pick % len as u64) as usize],
            };
            let arrived = Arrived::ALL[(self.random.next() % Arrived::ALL.len() as u64) as usize];
            cuts.push(Cut { at, arrived, seed: self.random.next() });
        }
        cuts.sort_by_key(|cut| cut.at);
        cuts
    }

    /// Records a verdict. Returns whether no acked send was missing.
    fn note(
        &mut self,
        number: usize,
        cut: Cut,
        verdict: Verdict,
        acknowledged: u64,
    ) -> io::Result<bool> {
        let report = &mut self.report;
        report.cuts += 1;
        if report.cuts.is_multiple_of(100) {
            eprintln!("  {} cuts, {} violations", report.cuts, report.violations.len());
        }
        *report.by_arrived.entry(cut.arrived).or_default() += 1;
        report.acknowledged += acknowledged;
        report.new_generations += u32::from(verdict.new_generation);
        let clean = verdict.violations.is_empty() && verdict.abandoned.is_empty();
        let image = self.stage.work.join(format!("image-{number}"));
        if clean {
            return Ok(true);
        }
        let mut place = format!("{cut:?}");
        if self.kept < IMAGES_KEPT {
            self.kept += 1;
            let kept = self
                .stage
                .work
                .join(format!("kept-{}", self.report.workers * 1000 + number as u32));
            std::fs::rename(&image, &kept)?;
            place = format!("{place} in {}", kept.display());
        } else {
            remove(&image)?;
        }
        if let Some(first) = verdict.abandoned.first() {
            self.report.abandoned += 1;
            let count = verdict.abandoned.len();
            let first = format!("{place}: {count} of {acknowledged}, the first {first}");
            self.report.first_abandoned.get_or_insert(first);
        }
        let violations = verdict.violations.into_iter();
        self.report.violations.extend(violations.map(|violation| (place.clone(), violation)));
        Ok(false)
    }
}

/// Runs a judge on an image. The image stays if there are violations.
async fn look<C: Fn(&Path, &Task) -> Command>(
    stage: &Stage<'_, C>,
    number: usize,
    cut: Cut,
    image: Image,
    reported: String,
) -> io::Result<(Verdict, u64)> {
    let folder = stage.folder(&format!("image-{number}"))?;
    image.write(&folder)?;
    let boot = format!("{:016x}", !cut.seed);
    let verdict = stage.judge(&folder, &boot, &reported, cut.seed.is_multiple_of(4)).await?;
    let acknowledged = reported.lines().filter(|line| line.starts_with("ack ")).count() as u64;
    if verdict.violations.is_empty() && verdict.abandoned.is_empty() {
        remove(&folder)?;
    } else {
        // Keep the image as it was before the store opened it.
        remove(&folder)?;
        image.write(&folder)?;
        std::fs::write(folder.join("told"), reported)?;
    }
    remove(&stage.work.join(format!("boot-{boot}")))?;
    Ok((verdict, acknowledged))
}

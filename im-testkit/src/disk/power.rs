//! Power cuts: what a store shows after the worst that its disk may do with what was not synced.
//!
//! A worker writes to a store while its calls are recorded. At many points of the record an image of the disk is built, as
//! a cut at that point could have left it; a judge, a process of its own, opens it with the store, as after a start of
//! the machine, and compares it with what had been acknowledged by then. Then the next worker goes on from one of the
//! images, so that cuts meet recoveries too.
//!
//! What must be true: what was acknowledged stands where it was acknowledged, once, with its record, and each room has seqs
//! 1, 2, 3 … without a gap; no event is there that nobody sent, or with other content; what is sent again under its id is
//! there once. A store whose [`Durability`](im_core::ports::Durability) is less than `PowerLoss` may have lost what was
//! acknowledged if it has begun a new generation: that is counted as given up. A store that was closed may do neither.

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

/// What to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PowerPlan {
    /// How many cuts.
    pub cuts: u32,
    /// Where all choices come from, but for what the worker's threads add.
    pub seed: u64,
    /// How many cuts are tried of what one worker did. 20 by default.
    pub each: u32,
    /// How many workers go on from one another's images before a new store is begun. 6 by default.
    pub chain: u32,
    /// How much a worker has acknowledged at most before it ends. 320 by default; in every third chain it is ten times as
    /// much, much of it large, so that stores come to use again what they had written before.
    pub most: u64,
    /// How many judges look at once. 2 by default.
    pub judges: usize,
    /// What becomes of the store's syncs. Lies show that the test finds something.
    pub syncs: Syncs,
}

impl PowerPlan {
    /// So many cuts, from this seed.
    pub fn new(cuts: u32, seed: u64) -> Self {
        Self { cuts, seed, each: 20, chain: 6, most: 320, judges: 2, syncs: Syncs::Recorded }
    }
}

/// What was found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PowerReport {
    /// Cuts tried.
    pub cuts: u32,
    /// Of these, by what had arrived.
    pub by_arrived: BTreeMap<Arrived, u32>,
    /// Workers that were recorded.
    pub workers: u32,
    /// Calls recorded.
    pub records: u64,
    /// Acknowledged sends, each counted at each cut that came after it.
    pub acknowledged: u64,
    /// Cuts after which a new generation had begun.
    pub new_generations: u32,
    /// Cuts after which acknowledged sends were gone, and the store said so by a new generation.
    pub abandoned: u32,
    /// How long it took.
    pub took: Duration,
    /// What must not be, and after which cut.
    pub violations: Vec<(String, Violation)>,
    /// The first of what was given up, and after which cut.
    pub first_abandoned: Option<String>,
}

impl PowerReport {
    fn count(&self, is: fn(&Violation) -> bool) -> usize {
        self.violations.iter().filter(|(_, violation)| is(violation)).count()
    }

    /// Cuts that lost something acknowledged, whether the store said so or not.
    pub fn losing(&self) -> usize {
        self.abandoned as usize + self.count(|violation| matches!(violation, Violation::Lost(_)))
    }
}

impl fmt::Display for PowerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} power cuts in {} calls of {} workers, {:.1?}: {} times an acknowledged send looked for, {} lost, {} \
             repeated, {} reordered, {} otherwise wrong; {} cuts after which sends were given up under a new generation; \
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

/// One cut: where, and what arrived.
#[derive(Debug, Clone, Copy)]
struct Cut {
    at: usize,
    arrived: Arrived,
    seed: u64,
}

/// Cuts the power of workers, and checks the store after each.
///
/// `library` is the shim. `work` is a folder for everything; images in which something is wrong stay there. `command`
/// gives the command of a worker that does a task by [`work`](crate::crash::work) on the store in a folder.
///
/// # Errors
///
/// If a process cannot be started, or a file not be handled; if a log cannot be followed. In words that say what to do, if
/// the worker writes in ways that the shim does not see: a first one is tried out before anything is cut.
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
    /// What the workers said whose work is in the folder.
    reported: String,
    /// How much a worker has acknowledged at most.
    most: u64,
    /// One in so many messages is large.
    large: u32,
    chains: u32,
    /// Images kept because something is wrong in them.
    kept: u32,
}

/// More would fill the disk.
const IMAGES_KEPT: u32 = 3;

impl<C: Fn(&Path, &Task) -> Command> Run<'_, C> {
    /// Workers one after the other, from an empty folder on.
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
        // Alone, every send is a commit; together they share one.
        plan.large = self.large;
        plan.senders = [1, 4, 32][(self.random.next() % 3) as usize];
        Task::Write(plan)
    }

    /// One worker, and cuts of what it did. Gives the image that the next one goes on from, and what had been said by then;
    /// none after something went wrong.
    async fn worker(&mut self, folder: &Path) -> io::Result<Option<(Image, String)>> {
        // What was closed is open again from here on.
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
            // What it did until then is looked at as well.
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

    /// Where to cut: anywhere, right after something was acknowledged, and right before a sync.
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

    /// Notes a verdict. Says whether all was there.
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

/// Has an image judged. It stays if something is wrong.
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
        // As it was found, before it was opened.
        remove(&folder)?;
        image.write(&folder)?;
        std::fs::write(folder.join("told"), reported)?;
    }
    remove(&stage.work.join(format!("boot-{boot}")))?;
    Ok((verdict, acknowledged))
}

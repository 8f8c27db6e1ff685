//! One round: a worker's life, and the kills in it.

use std::collections::HashSet;
use std::future::Future;
use std::process::{Command, Stdio};
use std::time::Duration;

use im_core::ports::Store;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::{sleep, timeout};

use super::CrashPlan;
use super::database::{Database, DatabaseError};
use super::message::Line;
use super::model::Model;
use super::random::Random;
use super::report::CrashReport;
use super::worker::{Away, WriterPlan};

/// The time within which a worker must get an ack after the database is back.
const PATIENCE: Duration = Duration::from_secs(60);

/// The process that is killed in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// The worker.
    Process,
    /// The database, and finally the worker.
    Both,
}

/// All rounds of a run.
pub(super) struct Rounds<'a> {
    plan: &'a CrashPlan,
    database: Option<&'a mut dyn Database>,
    random: Random,
    model: Model,
    report: CrashReport,
}

impl<'a> Rounds<'a> {
    pub(super) fn new(plan: &'a CrashPlan, database: Option<&'a mut dyn Database>) -> Self {
        let random = Random::new(plan.seed);
        Self { plan, database, random, model: Model::default(), report: CrashReport::default() }
    }

    /// Returns the next round, or `None` after enough rounds or a violation.
    pub(super) fn next(&self) -> Option<Round> {
        let goes_on = self.report.violations.is_empty();
        goes_on.then(|| next(self.plan, &self.report, self.database.is_some())).flatten()
    }

    /// Returns the plan of the round's worker.
    pub(super) fn writer(&mut self) -> WriterPlan {
        let mut plan = WriterPlan::new(self.random.next());
        if self.database.is_some() {
            plan.away = Away::AtTimes;
        }
        plan
    }

    /// Runs one round. Returns whether the next check reads everything.
    pub(super) async fn one(&mut self, round: Round, command: Command) -> bool {
        let before = self.report.all_kills();
        let mut worker = Worker::start(command, self.model.unanswered()).await;
        match round {
            Round::Process => self.kill_process(&mut worker).await,
            Round::Both => self.kill_both(&mut worker).await,
        }
        self.report.kills += 1;
        self.report.kills_while_opening += u32::from(!worker.wrote);
        let (kills, every) = (self.report.all_kills(), self.plan.whole_every.max(1));
        before / every < kills / every || kills >= self.plan.kills
    }

    async fn kill_process(&mut self, worker: &mut Worker) {
        if self.random.next().is_multiple_of(10) {
            // Kill some workers while they open the store.
            sleep(part(&mut self.random, self.plan.longest / 4)).await;
        } else {
            self.write_a_while(worker).await;
        }
        worker.kill(&mut self.model).await;
    }

    async fn kill_both(&mut self, worker: &mut Worker) {
        let Some(database) = self.database.take() else { return };
        self.write_a_while(worker).await;
        self.report.pending += self.model.pending();
        self.report.database_kills += 1;
        done(worker.listen_while(&mut self.model, database.kill()).await);
        let away = part(&mut self.random, self.plan.longest_away);
        worker.listen_while(&mut self.model, sleep(away)).await;
        if self.random.next().is_multiple_of(4) {
            self.report.both_at_once += 1;
            worker.kill(&mut self.model).await;
            done(database.restart().await);
        } else {
            done(worker.listen_while(&mut self.model, database.restart()).await);
            worker.go_on(&mut self.model).await;
            self.write_a_while(worker).await;
            worker.kill(&mut self.model).await;
        }
        self.database = Some(database);
    }

    /// Reads a worker's lines until it has written for some time.
    async fn write_a_while(&mut self, worker: &mut Worker) {
        worker.ready(&mut self.model).await;
        let time = part(&mut self.random, self.plan.longest);
        worker.listen_while(&mut self.model, sleep(time)).await;
    }

    /// Checks the store and closes it.
    pub(super) async fn check(&mut self, store: &dyn Store, whole: bool) {
        self.model.check(store, whole).await;
        if let Err(error) = store.close().await {
            self.model.wrong(format!("closing the store failed: {error}"));
        }
        self.report.violations = self.model.take_violations();
        if whole {
            let (kills, seed) = (self.report.all_kills(), self.plan.seed);
            eprintln!("  {kills} kills, {} acknowledged, seed {seed}", self.model.acknowledged);
        }
    }

    pub(super) fn report(self, took: Duration) -> CrashReport {
        let Self { model, report, .. } = self;
        CrashReport {
            acknowledged: model.acknowledged,
            retried: model.retried,
            retried_and_there: model.retried_and_there,
            refused: model.refusals,
            unknown: model.unknowns,
            events: model.events(),
            took,
            ..report
        }
    }
}

/// Returns the next round, if there were too few. With a database, the last kill of every group
/// hits it.
fn next(plan: &CrashPlan, report: &CrashReport, database: bool) -> Option<Round> {
    let left = plan.kills.saturating_sub(report.all_kills());
    let every = plan.database_every.max(2);
    match left {
        0 => None,
        1 => Some(Round::Process),
        _ if database && report.kills % (every - 1) == every - 2 => Some(Round::Both),
        _ => Some(Round::Process),
    }
}

/// Returns a random part of a time.
fn part(random: &mut Random, longest: Duration) -> Duration {
    // No run takes years.
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(random.next() % (micros + 1))
}

fn done(outcome: Result<(), DatabaseError>) {
    outcome.unwrap_or_else(|error| panic!("the database: {error}"));
}

/// A worker process.
struct Worker {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Whether it started to write.
    wrote: bool,
    /// Set when its output has ended.
    ended: bool,
}

impl Worker {
    /// Starts a worker with the unanswered sends of its predecessor.
    async fn start(command: Command, unanswered: String) -> Self {
        let mut command = tokio::process::Command::from(command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child =
            command.spawn().unwrap_or_else(|e| panic!("starting the worker failed: {e}"));
        let Some(stdout) = child.stdout.take() else { panic!("the worker has no output") };
        if let Some(mut stdin) = child.stdin.take() {
            // A worker that has died already is noticed by the next read.
            let _ = stdin.write_all(unanswered.as_bytes()).await;
        }
        Self { child, lines: BufReader::new(stdout).lines(), wrote: false, ended: false }
    }

    /// Reads the next line; `None` at the end of the output.
    async fn read_line(&mut self, model: &mut Model) -> Option<String> {
        let Ok(Some(line)) = self.lines.next_line().await else {
            self.ended = true;
            return None;
        };
        model.on_line(&line);
        self.wrote |= Line::parse(&line) == Some(Line::Ready);
        Some(line)
    }

    /// Reads lines until the store is open.
    async fn ready(&mut self, model: &mut Model) {
        while !self.wrote && self.read_line(model).await.is_some() {}
    }

    /// Reads lines until `other` is done.
    async fn listen_while<T>(&mut self, model: &mut Model, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            let ended = self.ended;
            tokio::select! {
                given = &mut other => return given,
                _ = self.read_line(model), if !ended => {}
            }
        }
    }

    /// Reads lines until a send that was written from now on is acked: the store has reconnected to
    /// the database.
    async fn go_on(&mut self, model: &mut Model) {
        let mut sent = HashSet::new();
        let acknowledged = async {
            while let Some(line) = self.read_line(model).await {
                match Line::parse(&line) {
                    Some(Line::Try(message)) => {
                        sent.insert(message.id);
                    }
                    Some(Line::Ack(message, ..)) if sent.contains(&message.id) => return,
                    _ => {}
                }
            }
        };
        if timeout(PATIENCE, acknowledged).await.is_err() {
            let time = PATIENCE.as_secs();
            model.wrong(format!("no ack for {time} s although the database is back"));
        }
    }

    /// Kills it and reads the rest of its output.
    async fn kill(&mut self, model: &mut Model) {
        let is_over = self.ended || matches!(self.child.try_wait(), Ok(Some(_)));
        if !is_over {
            self.child.start_kill().unwrap_or_else(|e| panic!("killing the worker failed: {e}"));
        }
        // The pipe still has what it wrote. A line without its end mark is dropped.
        while self.read_line(model).await.is_some() {}
        let end = self.child.wait().await;
        if is_over {
            // Its own messages are on standard error.
            model.wrong(format!("the worker ended by itself: {end:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kills of a whole run: `p` of the process, `d` of the database.
    fn kills(plan: &CrashPlan, database: bool) -> String {
        let (mut report, mut all) = (CrashReport::default(), String::new());
        while let Some(round) = next(plan, &report, database) {
            if round == Round::Both {
                report.database_kills += 1;
                all.push('d');
            }
            report.kills += 1;
            all.push('p');
        }
        all
    }

    /// The planned number of database kills is reached, one for each five kills.
    #[test]
    fn every_fifth_kill_hits_the_database() {
        assert_eq!(kills(&CrashPlan::new(12, 1), true), "pppdppppdppp".to_owned());
        assert_eq!(kills(&CrashPlan::new(4, 1), true), "pppp");
        assert_eq!(kills(&CrashPlan::new(3, 1), false), "ppp");
        let all = kills(&CrashPlan::new(1000, 1), true);
        assert_eq!((all.len(), all.matches('d').count()), (1000, 200));
        let mut plan = CrashPlan::new(6, 1);
        plan.database_every = 0;
        assert_eq!(kills(&plan, true), "dpdpdp", "at most one database kill in a round");
    }

    /// A random share of a duration is no longer than the whole.
    #[test]
    fn shares_never_exceed_the_whole() {
        let mut random = Random::new(1);
        let longest = Duration::from_micros(3);
        let parts: HashSet<_> = (0..100).map(|_| part(&mut random, longest)).collect();
        assert_eq!(parts.len(), 4);
        assert_eq!(part(&mut random, Duration::ZERO), Duration::ZERO);
    }
}

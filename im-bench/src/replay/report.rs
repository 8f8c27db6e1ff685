//! The report of a replay.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use im_testkit::history::{Rule, Verdict};
use serde::Serialize;

use super::delivery_check::Missing;
use super::fault::{Fault, Struck};
use super::ledger::{Tally, tenth};
use super::server_host::StoreTarget;
use super::transport::{Choice, Transport};
use crate::report::thousands;

/// The report of a whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) data: String,
    pub(super) store: StoreTarget,
    pub(super) transport: Choice,
    /// The shares of a mix.
    pub(super) mix: Option<String>,
    pub(super) seed: u64,
    /// Cores with other work.
    pub(super) busy: u16,
    pub(super) clients: usize,
    pub(super) rooms: usize,
    /// Subscriptions of all clients together.
    pub(super) subscriptions: usize,
    pub(super) lines: u64,
    pub(super) acknowledged: u64,
    pub(super) deliveries: u64,
    pub(super) stored: u64,
    /// Established connections over each transport.
    pub(super) connections: BTreeMap<Transport, u64>,
    /// Those over another transport than the connection of their client before.
    pub(super) switches: u64,
    /// Polls and event streams that were resumed over another socket within their connection.
    pub(super) streams_resumed: u64,
    /// Retryable refusals of sends, by code.
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) cuts: usize,
    pub(super) kills: usize,
    pub(super) database_kills: usize,
    /// Faults that were due and did not strike.
    pub(super) missed: usize,
    /// Clients, the service included, that were in sync at the end.
    pub(super) in_sync: usize,
    /// Clients that were not: they lack events or a subscription.
    pub(super) behind: usize,
    /// The rooms that those lack.
    pub(super) missing: Vec<Missing>,
    /// The cause of an early end, if any.
    pub(super) ended: Option<String>,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    pub(super) silent_gaps: u64,
    /// All violations, those above included.
    pub(super) violations: u64,
    /// From the first send to the last ack.
    pub(super) seconds: f64,
    pub(super) sends_per_second: f64,
    /// Acked sends a second in each tenth of them, up to the end of the run.
    pub(super) sends_per_second_by_tenth: Vec<f64>,
    /// From the first send until every subscriber was in sync.
    pub(super) seconds_to_all: f64,
    pub(super) faults: Vec<Struck>,
    pub(super) verdict: Verdict,
}

/// Facts that only the run knows.
pub(super) struct Facts {
    pub(super) data: String,
    pub(super) store: StoreTarget,
    pub(super) transport: Choice,
    pub(super) mix: Option<String>,
    pub(super) tally: Tally,
    pub(super) seed: u64,
    pub(super) busy: u16,
    pub(super) clients: usize,
    pub(super) rooms: usize,
    pub(super) subscriptions: usize,
    pub(super) lines: u64,
    pub(super) missed: usize,
    pub(super) missing: Vec<Vec<Missing>>,
    pub(super) ended: Option<String>,
    pub(super) tenths: Vec<Duration>,
    pub(super) faults: Vec<Struck>,
    pub(super) spoken: Duration,
    pub(super) heard: Duration,
}

impl Report {
    pub(super) fn new(facts: Facts, verdict: Verdict) -> Self {
        let Facts { data, store, transport, mix, tally, seed, busy, clients, .. } = facts;
        let Facts { rooms, subscriptions, lines, missed, missing, ended, tenths, .. } = facts;
        let Facts { faults, spoken, heard, .. } = facts;
        let struck = |fault| faults.iter().filter(|struck| struck.fault == fault).count();
        let seconds = spoken.as_secs_f64();
        Self {
            data,
            store,
            transport,
            mix,
            seed,
            busy,
            clients,
            rooms,
            subscriptions,
            lines,
            acknowledged: verdict.acked,
            deliveries: verdict.deliveries,
            stored: verdict.stored,
            connections: tally.connections,
            switches: tally.switches,
            streams_resumed: tally.resumed,
            refused: tally.refused,
            cuts: struck(Fault::Cut),
            kills: struck(Fault::Kill),
            database_kills: struck(Fault::DatabaseKill),
            missed,
            // The service is one more client.
            in_sync: clients + 1 - missing.len(),
            behind: missing.len(),
            missing: missing.into_iter().flatten().collect(),
            ended,
            lost: verdict.count(Rule::Lost),
            duplicated: verdict.count(Rule::Duplicated),
            out_of_order: verdict.count(Rule::OutOfOrder),
            silent_gaps: verdict.count(Rule::SilentGap),
            violations: verdict.violations(),
            seconds,
            sends_per_second: verdict.acked as f64 / seconds,
            sends_per_second_by_tenth: rates(lines, &tenths),
            seconds_to_all: heard.as_secs_f64(),
            faults,
            verdict,
        }
    }

    /// Returns the faults of the run; none after a clean run.
    pub(super) fn faults_found(&self) -> Vec<String> {
        let count = |n: u64, what: &str| (n > 0).then(|| format!("{} {what}", thousands(n)));
        let unacknowledged = self.lines.saturating_sub(self.acknowledged);
        [
            self.ended.as_ref().map(|why| format!("the run was ended early: {why}")),
            count(self.verdict.violations(), "violations"),
            count(unacknowledged, "sends without acknowledgement"),
            count(self.missed as u64, "faults missed"),
            count(self.behind as u64, "clients behind"),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Returns the sends a second in each completed tenth.
fn rates(sends: u64, tenths: &[Duration]) -> Vec<f64> {
    let begins = std::iter::once(&Duration::ZERO).chain(tenths);
    let parts = tenths.iter().zip(begins).enumerate();
    parts
        .map(|(nth, (end, begin))| {
            let sent = tenth(sends, nth + 1) - tenth(sends, nth);
            sent as f64 / end.saturating_sub(*begin).as_secs_f64().max(1e-6)
        })
        .collect()
}

/// Number of missing rooms that are shown.
const SHOWN_MISSING: usize = 20;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acknowledged, lines) = (thousands(self.acknowledged), thousands(self.lines));
        writeln!(
            f,
            "{acknowledged} of {lines} sends acked in {:.1} s: {:.0} a second",
            self.seconds, self.sends_per_second
        )?;
        let rates = self.sends_per_second_by_tenth.iter().map(|rate| format!("{rate:.0}"));
        writeln!(f, "sends a second by tenths: {}", rates.collect::<Vec<_>>().join(" "))?;
        let mix = self.mix.as_ref().map(|mix| format!(" ({mix})")).unwrap_or_default();
        writeln!(
            f,
            "seed {}, {} over {}{mix}, {} cores busy with other work",
            self.seed, self.store, self.transport, self.busy
        )?;
        writeln!(
            f,
            "{} clients in {} rooms, {} subscriptions: {} deliveries in {:.1} s; {} events in the reopened store",
            self.clients,
            self.rooms,
            thousands(self.subscriptions as u64),
            thousands(self.deliveries),
            self.seconds_to_all,
            thousands(self.stored),
        )?;
        writeln!(
            f,
            "{} of {} clients in sync at the end, the service among them",
            self.in_sync,
            self.in_sync + self.behind
        )?;
        let all = self.connections.values().sum::<u64>().max(1);
        let connections = |(transport, count): (&Transport, &u64)| {
            format!("{} over {transport} ({} %)", thousands(*count), 100 * count / all)
        };
        let connections: Vec<_> = self.connections.iter().map(connections).collect();
        let (switches, resumed) = (thousands(self.switches), thousands(self.streams_resumed));
        writeln!(
            f,
            "connections: {}; {switches} switches from one transport to another, {resumed} stream halves resumed",
            connections.join(", ")
        )?;
        let pending = |fault| {
            self.faults
                .iter()
                .filter(|struck| struck.fault == fault)
                .map(|struck| struck.pending)
                .min()
                .unwrap_or(0)
        };
        let database = match self.database_kills {
            0 => String::new(),
            kills => format!(
                "{kills} kills of the database (at least {} pending), ",
                pending(Fault::DatabaseKill)
            ),
        };
        writeln!(
            f,
            "{} connections cut (at least {} sends pending on each), {} kills (at least {} pending), {database}{} faults \
             missed",
            self.cuts,
            pending(Fault::Cut),
            self.kills,
            pending(Fault::Kill),
            self.missed,
        )?;
        if !self.refused.is_empty() {
            let refused: Vec<_> =
                self.refused.iter().map(|(code, n)| format!("{n} with {code}")).collect();
            writeln!(f, "retryable refusals of sends: {}", refused.join(", "))?;
        }
        if self.behind > 0 {
            writeln!(f, "{} clients were not in sync at the end:", self.behind)?;
        }
        for missing in self.missing.iter().take(SHOWN_MISSING) {
            writeln!(f, "  - {missing}")?;
        }
        let more = self.missing.len().saturating_sub(SHOWN_MISSING);
        if more > 0 {
            writeln!(f, "  - and {} more", thousands(more as u64))?;
        }
        writeln!(
            f,
            "{} lost, {} duplicated, {} out of order, {} silent gaps; {} violations in all",
            self.lost, self.duplicated, self.out_of_order, self.silent_gaps, self.violations,
        )?;
        self.verdict.examples.iter().try_for_each(|violation| writeln!(f, "  - {violation}"))?;
        match self.faults_found().as_slice() {
            [] => writeln!(f, "the run is clean"),
            found => writeln!(f, "the run is not clean: {}", found.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_testkit::history::Checker;

    fn report(missed: usize, verdict: Verdict) -> Report {
        Report::new(facts(missed), verdict)
    }

    fn facts(missed: usize) -> Facts {
        Facts {
            data: "test".into(),
            store: "sled".parse().unwrap(),
            transport: Choice::Mix,
            tally: Tally {
                connections: [(Transport::Ws, 1200), (Transport::Long, 3)].into(),
                switches: 1190,
                resumed: 0,
                refused: [(4100, 2), (4202, 3)].into(),
            },
            mix: Some("ws=1,sse=1,long=1,short=1".into()),
            seed: 1,
            busy: 2,
            clients: 1,
            rooms: 1,
            subscriptions: 2,
            lines: 0,
            missed,
            missing: Vec::new(),
            ended: None,
            tenths: Vec::new(),
            faults: vec![
                Struck { fault: Fault::DatabaseKill, at: 1, pending: 9 },
                Struck { fault: Fault::DatabaseKill, at: 2, pending: 4 },
            ],
            spoken: Duration::from_secs(1),
            heard: Duration::from_secs(1),
        }
    }

    #[test]
    fn violation_or_missed_fault_fails_report() {
        assert_eq!(report(0, Checker::new().finish()).faults_found(), [""; 0]);
        assert_eq!(report(1, Checker::new().finish()).faults_found(), ["1 faults missed"]);
        let mut verdict = Checker::new().finish();
        verdict.broken.insert(Rule::SilentGap, 1);
        let report = report(0, verdict);
        assert_eq!(report.faults_found(), ["1 violations"]);
        assert!(report.to_string().contains("1 silent gaps; 1 violations"), "{report}");
        let connections = "connections: 1,200 over ws (99 %), 3 over long (0 %); 1,190 switches";
        assert!(report.to_string().contains(connections), "{report}");
        let database =
            "0 kills (at least 0 pending), 2 kills of the database (at least 4 pending), 0 faults";
        assert!(report.to_string().contains(database), "{report}");
        assert!(report.to_string().contains("sends: 2 with 4100, 3 with 4202"), "{report}");
    }

    #[test]
    fn missing_delivery_or_ack_fails_run() {
        let head = im_core::Cursor {
            epoch: im_core::Epoch { generation: 1, incarnation: 1 },
            seq: im_core::Seq::FIRST,
        };
        let room = (im_core::RoomId::new("r").unwrap(), head);
        let (ledger, _corpses) =
            super::super::ledger::Ledger::new(1, 1, super::super::fault::Faults::default(), 1)
                .unwrap();
        let checker = Checker::new();
        let check = super::super::delivery_check::DeliveryCheck::new(
            0,
            "bob",
            &checker,
            std::sync::Arc::new(ledger),
        );
        let missing = vec![check.missing([&room])];
        let behind = Report::new(Facts { missing, ..facts(0) }, Checker::new().finish());
        assert_eq!(behind.faults_found(), ["1 clients behind"]);
        let said = behind.to_string();
        assert!(said.contains("1 of 2 clients in sync"), "{said}");
        assert!(said.contains("bob is not subscribed to r, has nothing of 1 in 1.1"), "{said}");

        let ended = Some("nothing moves".to_owned());
        let early = Report::new(Facts { ended, ..facts(0) }, Checker::new().finish());
        assert_eq!(early.faults_found(), ["the run was ended early: nothing moves"]);
        let short = Report::new(Facts { lines: 2, ..facts(0) }, Checker::new().finish());
        assert_eq!(short.faults_found(), ["2 sends without acknowledgement"]);
    }

    #[test]
    fn rates_are_those_of_each_tenth() {
        let tenths = [Duration::from_secs(1), Duration::from_secs(3)];
        assert_eq!(rates(1000, &tenths), [100.0, 50.0]);
    }
}

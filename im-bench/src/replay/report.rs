//! What a replay says at its end.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use im_testkit::history::{Rule, Verdict};
use serde::Serialize;

use super::fault::{Fault, Struck};
use super::ledger::Tally;
use super::place::Keeps;
use super::transport::{Choice, Transport};
use crate::report::thousands;

/// The whole run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) data: String,
    pub(super) store: Keeps,
    pub(super) transport: Choice,
    pub(super) seed: u64,
    pub(super) clients: usize,
    pub(super) rooms: usize,
    pub(super) lines: u64,
    pub(super) acknowledged: u64,
    pub(super) deliveries: u64,
    pub(super) stored: u64,
    /// Connections that came about over each transport.
    pub(super) connections: BTreeMap<Transport, u64>,
    /// Those over another transport than their client's before.
    pub(super) switches: u64,
    /// Polls and event streams that went on over another socket within their connection.
    pub(super) taken_up: u64,
    /// Answers to sends that told a client to try again, by their code.
    pub(super) refused: BTreeMap<u16, u64>,
    pub(super) cuts: usize,
    pub(super) kills: usize,
    pub(super) database_kills: usize,
    /// Faults that were asked for and did not happen.
    pub(super) missed: usize,
    /// Clients that did not have everything in the end.
    pub(super) behind: usize,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    pub(super) silent_gaps: u64,
    /// All violations, those above included.
    pub(super) violations: u64,
    /// From the first send to the last acknowledgement.
    pub(super) seconds: f64,
    pub(super) sends_per_second: f64,
    /// Until every follower had everything, from the first send.
    pub(super) seconds_to_all: f64,
    pub(super) faults: Vec<Struck>,
    pub(super) verdict: Verdict,
}

/// What only the run knows.
pub(super) struct Facts {
    pub(super) data: String,
    pub(super) store: Keeps,
    pub(super) transport: Choice,
    pub(super) tally: Tally,
    pub(super) seed: u64,
    pub(super) clients: usize,
    pub(super) rooms: usize,
    pub(super) lines: u64,
    pub(super) missed: usize,
    pub(super) behind: usize,
    pub(super) faults: Vec<Struck>,
    pub(super) spoken: Duration,
    pub(super) heard: Duration,
}

impl Report {
    pub(super) fn new(facts: Facts, verdict: Verdict) -> Self {
        let Facts { data, store, transport, tally, seed, clients, .. } = facts;
        let Facts { rooms, lines, missed, behind, faults, spoken, heard, .. } = facts;
        let struck = |fault| faults.iter().filter(|struck| struck.fault == fault).count();
        let seconds = spoken.as_secs_f64();
        Self {
            data,
            store,
            transport,
            seed,
            clients,
            rooms,
            lines,
            acknowledged: verdict.acked,
            deliveries: verdict.deliveries,
            stored: verdict.stored,
            connections: tally.connections,
            switches: tally.switches,
            taken_up: tally.taken_up,
            refused: tally.refused,
            cuts: struck(Fault::Cut),
            kills: struck(Fault::Kill),
            database_kills: struck(Fault::DatabaseKill),
            missed,
            behind,
            lost: verdict.count(Rule::Lost),
            repeated: verdict.count(Rule::Repeated),
            out_of_order: verdict.count(Rule::OutOfOrder),
            silent_gaps: verdict.count(Rule::SilentGap),
            violations: verdict.violations(),
            seconds,
            sends_per_second: verdict.acked as f64 / seconds,
            seconds_to_all: heard.as_secs_f64(),
            faults,
            verdict,
        }
    }

    /// Whether everything was as it should be.
    pub(super) fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.acknowledged == self.lines && self.missed + self.behind == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (acknowledged, lines) = (thousands(self.acknowledged), thousands(self.lines));
        writeln!(
            f,
            "{acknowledged} of {lines} sends acknowledged in {:.1} s: {:.0} a second",
            self.seconds, self.sends_per_second
        )?;
        writeln!(
            f,
            "{} clients in {} rooms: {} deliveries, all arrived after {:.1} s; {} events in the reopened store",
            self.clients,
            self.rooms,
            thousands(self.deliveries),
            self.seconds_to_all,
            thousands(self.stored),
        )?;
        let connections = |(transport, count): (&Transport, &u64)| {
            format!("{} over {transport}", thousands(*count))
        };
        let connections: Vec<_> = self.connections.iter().map(connections).collect();
        let (switches, taken_up) = (thousands(self.switches), thousands(self.taken_up));
        writeln!(
            f,
            "connections: {}; {switches} switches from one transport to another, {taken_up} downlinks taken up again",
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
            writeln!(f, "sends refused for the time being: {}", refused.join(", "))?;
        }
        if self.behind > 0 {
            writeln!(f, "{} clients did not get everything in the end", self.behind)?;
        }
        writeln!(
            f,
            "{} lost, {} repeated, {} out of order, {} silent gaps; {} violations in all",
            self.lost, self.repeated, self.out_of_order, self.silent_gaps, self.violations,
        )?;
        self.verdict.examples.iter().try_for_each(|violation| writeln!(f, "  - {violation}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_testkit::history::Checker;

    fn report(missed: usize, verdict: Verdict) -> Report {
        let facts = Facts {
            data: "test".into(),
            store: "sled".parse().unwrap(),
            transport: Choice::Mix,
            tally: Tally {
                connections: [(Transport::Ws, 1200), (Transport::Long, 3)].into(),
                switches: 1190,
                taken_up: 0,
                refused: [(4100, 2), (4202, 3)].into(),
            },
            seed: 1,
            clients: 1,
            rooms: 1,
            lines: 0,
            missed,
            behind: 0,
            faults: vec![
                Struck { fault: Fault::DatabaseKill, at: 1, pending: 9 },
                Struck { fault: Fault::DatabaseKill, at: 2, pending: 4 },
            ],
            spoken: Duration::from_secs(1),
            heard: Duration::from_secs(1),
        };
        Report::new(facts, verdict)
    }

    #[test]
    fn one_violation_or_one_missed_fault_is_too_many() {
        assert!(report(0, Checker::new().finish()).is_clean());
        assert!(!report(1, Checker::new().finish()).is_clean());
        let mut verdict = Checker::new().finish();
        verdict.broken.insert(Rule::SilentGap, 1);
        let report = report(0, verdict);
        assert!(!report.is_clean());
        assert!(report.to_string().contains("1 silent gaps; 1 violations"), "{report}");
        let connections = "connections: 1,200 over ws, 3 over long; 1,190 switches";
        assert!(report.to_string().contains(connections), "{report}");
        let database =
            "0 kills (at least 0 pending), 2 kills of the database (at least 4 pending), 0 faults";
        assert!(report.to_string().contains(database), "{report}");
        assert!(report.to_string().contains("being: 2 with 4100, 3 with 4202"), "{report}");
    }
}

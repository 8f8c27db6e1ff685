//! The faults of a run, and when they are due.

use std::collections::VecDeque;

use serde::Serialize;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fault {
    /// All TCP connections of one client end without a close message: one, or over HTTP those of
    /// both halves.
    Cut,
    /// The server process is killed by SIGKILL.
    Kill,
    /// The database of the store is killed, with all its processes.
    DatabaseKill,
}

/// The number of faults of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) cuts: u64,
    pub(super) kills: u64,
    pub(super) database_kills: u64,
}

/// A fault that struck.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Struck {
    pub(super) fault: Fault,
    /// Number of acked sends at that time.
    pub(super) at: u64,
    /// Number of sends that were written and not answered: on the cut connection, or anywhere.
    pub(super) pending: u64,
}

/// Returns the faults of a run in the order in which they are due: (acks, fault).
pub(super) fn schedule(sends: u64, faults: Faults) -> VecDeque<(u64, Fault)> {
    let Faults { cuts, kills, database_kills } = faults;
    let part = |of: u128, n: u128| u64::try_from(u128::from(sends) * of / n).unwrap_or(sends);
    let at = |k: u64, n: u64| part(k.into(), u128::from(n) + 1);
    let between = |k: u64, n: u64| part(2 * u128::from(k) - 1, 2 * u128::from(n));
    let mut due: Vec<_> = (1..=cuts).map(|k| (at(k, cuts), Fault::Cut)).collect();
    // Before a kill of the server, after which nothing is pending: two faults due together strike
    // together.
    due.extend((1..=database_kills).map(|k| (between(k, database_kills), Fault::DatabaseKill)));
    due.extend((1..=kills).map(|k| (at(k, kills), Fault::Kill)));
    due.sort_by_key(|(at, _)| *at);
    due.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Faults = Faults { cuts: 0, kills: 0, database_kills: 0 };

    /// Faults are scheduled at even fractions of the acks.
    #[test]
    fn faults_are_spread_over_acks_evenly() {
        let due = schedule(100, Faults { cuts: 3, kills: 1, ..NONE });
        assert_eq!(
            Vec::from(due),
            [(25, Fault::Cut), (50, Fault::Cut), (50, Fault::Kill), (75, Fault::Cut)]
        );
        let many = Faults { cuts: 500, kills: 20, database_kills: 20 };
        assert_eq!(schedule(123_590, many).len(), 540);
        assert!(schedule(123_590, many).iter().all(|(at, _)| (1..123_590).contains(at)));
    }

    /// Database kills are scheduled between server kills and together with one of them.
    #[test]
    fn database_kills_interleave_with_server_kills() {
        let due = schedule(120, Faults { kills: 3, database_kills: 3, ..NONE });
        let (kill, database) = (Fault::Kill, Fault::DatabaseKill);
        let all =
            [(20, database), (30, kill), (60, database), (60, kill), (90, kill), (100, database)];
        assert_eq!(Vec::from(due), all);
    }
}

//! How many sends are acknowledged, what is pending where, and the faults that fall due by that count.
//!
//! Kill k of n falls at k/(n+1) of the acknowledgements, cuts likewise. A fault strikes in the very step in which the
//! count reaches its number, if a send is pending for it then; otherwise counting waits until one is. So a fault is
//! exact, or the run ends with it still due, which fails the run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use super::link::Wire;
use super::log::mix;
use super::transport::Transport;
use crate::child::Server;

/// What is done to the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Fault {
    /// All TCP connections of one client end without a word: one, or over HTTP that of its POSTs and its downlink's.
    Cut,
    /// The server process is killed by SIGKILL.
    Kill,
}

/// A fault that struck.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Struck {
    pub(super) fault: Fault,
    /// How many sends were acknowledged then.
    pub(super) at: u64,
    /// How many sends were written and not answered: on the connection that was cut, or anywhere.
    pub(super) pending: u64,
}

/// Connections that came about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// By transport.
    pub(super) connections: BTreeMap<Transport, u64>,
    /// Those over another transport than their client's connection before.
    pub(super) switches: u64,
    /// Downlinks that were taken up again within their connection.
    pub(super) taken_up: u64,
}

/// What there is at the end of a run.
pub(super) struct Closed {
    /// The server, if it is up.
    pub(super) server: Option<Server>,
    pub(super) struck: Vec<Struck>,
    /// Faults that did not strike.
    pub(super) missed: usize,
    pub(super) tally: Tally,
}

/// The faults of a run in the order in which they fall due: (acknowledgements, what).
fn schedule(sends: u64, cuts: u64, kills: u64) -> VecDeque<(u64, Fault)> {
    let at = |k: u64, n: u64| {
        u64::try_from(u128::from(sends) * u128::from(k) / u128::from(n + 1)).unwrap_or(sends)
    };
    let mut due: Vec<_> = (1..=cuts).map(|k| (at(k, cuts), Fault::Cut)).collect();
    due.extend((1..=kills).map(|k| (at(k, kills), Fault::Kill)));
    due.sort_by_key(|(at, _)| *at);
    due.into()
}

/// The count, shared by all clients.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    moved: Notify,
    /// How often each client's downlink was taken up again.
    taken_up: Vec<AtomicU64>,
}

#[derive(Debug)]
struct State {
    acknowledged: u64,
    due: VecDeque<(u64, Fault)>,
    struck: Vec<Struck>,
    /// The open connection of each client.
    wires: Vec<Option<Arc<Wire>>>,
    /// Over what each client's last connection was that came about.
    over: Vec<Option<Transport>>,
    tally: Tally,
    kills: u64,
    /// The server, while it is up.
    server: Option<Server>,
    /// Where a server goes that was killed.
    killed: mpsc::UnboundedSender<Server>,
    draws: u64,
}

impl Ledger {
    /// A ledger for `clients` clients and `sends` sends in all. A server that is killed goes into `killed`.
    ///
    /// # Errors
    ///
    /// There are more faults than sends.
    pub(super) fn new(
        clients: usize,
        sends: u64,
        (cuts, kills): (u64, u64),
        seed: u64,
        killed: mpsc::UnboundedSender<Server>,
    ) -> Result<Self> {
        ensure!(
            cuts.max(kills) < sends,
            "{sends} sends leave no room for {cuts} cuts and {kills} kills"
        );
        let state = State {
            acknowledged: 0,
            due: schedule(sends, cuts, kills),
            struck: Vec::new(),
            wires: vec![None; clients],
            over: vec![None; clients],
            tally: Tally::default(),
            kills: 0,
            server: None,
            killed,
            draws: mix(seed),
        };
        let taken_up = (0..clients).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { state: state.into(), moved: Notify::new(), taken_up })
    }

    /// A client has a connection.
    pub(super) fn opened(&self, client: usize, wire: Arc<Wire>) {
        self.state.lock().wires[client] = Some(wire);
    }

    /// The server has answered on a client's new connection.
    pub(super) fn came_about(&self, client: usize, transport: Transport) {
        let mut state = self.state.lock();
        *state.tally.connections.entry(transport).or_default() += 1;
        let before = state.over[client].replace(transport);
        state.tally.switches += u64::from(before.is_some_and(|before| before != transport));
    }

    /// A client's downlink is taken up again, by the same connection and over another socket.
    pub(super) fn takes_up(&self, client: usize) {
        self.taken_up[client].fetch_add(1, Ordering::AcqRel);
    }

    /// How often it was.
    pub(super) fn taken_up(&self, client: usize) -> u64 {
        self.taken_up[client].load(Ordering::Acquire)
    }

    /// Whether the client's connection has a way of its own for each direction.
    pub(super) fn is_halves(&self, client: usize) -> bool {
        self.state.lock().over[client].is_some_and(|over| over != Transport::Ws)
    }

    /// How often the server was killed so far.
    pub(super) fn kills(&self) -> u64 {
        self.state.lock().kills
    }

    /// Sends were written on a client's connection, over a socket that was opened after so many kills.
    pub(super) fn wrote(&self, client: usize, wire: &Arc<Wire>, sends: u64, kills: u64) {
        let mut state = self.state.lock();
        wire.wrote(sends);
        if kills == state.kills && !wire.is_cut() {
            // A client that polls may have outlived a kill without noticing.
            state.wires[client] = Some(wire.clone());
        }
        state.strike(&self.moved);
    }

    /// A send was answered on the client's connection.
    pub(super) fn answered(&self, client: usize) {
        if let Some(wire) = &self.state.lock().wires[client] {
            wire.answered();
        }
    }

    /// The server is up.
    pub(super) fn up(&self, server: Server) {
        let mut state = self.state.lock();
        state.server = Some(server);
        state.strike(&self.moved);
    }

    /// Counts one acknowledgement. Waits while a fault is due that cannot strike yet; the caller must have sent what it
    /// may send before, so that there is something to strike.
    pub(super) async fn count(&self) {
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.state.lock();
                if !state.is_due() {
                    state.acknowledged += 1;
                    state.strike(&self.moved);
                    return;
                }
            }
            moved.await;
        }
    }

    /// How many sends are acknowledged, and how many faults have struck.
    pub(super) fn progress(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.acknowledged, state.struck.len())
    }

    /// Ends the run.
    pub(super) fn close(&self) -> Closed {
        let mut state = self.state.lock();
        Closed {
            server: state.server.take(),
            struck: std::mem::take(&mut state.struck),
            missed: state.due.len(),
            tally: Tally {
                taken_up: (0..self.taken_up.len()).map(|client| self.taken_up(client)).sum(),
                ..std::mem::take(&mut state.tally)
            },
        }
    }
}

impl State {
    fn is_due(&self) -> bool {
        self.due.front().is_some_and(|(at, _)| *at <= self.acknowledged)
    }

    /// Does all that is due and possible.
    fn strike(&mut self, moved: &Notify) {
        while let Some((at, fault)) =
            self.due.front().copied().filter(|(at, _)| *at <= self.acknowledged)
        {
            let pending = match fault {
                Fault::Cut => self.cut(),
                Fault::Kill => self.kill(),
            };
            let Some(pending) = pending else { return };
            self.struck.push(Struck { fault, at, pending });
            self.due.pop_front();
            moved.notify_waiters();
        }
    }

    /// Cuts a connection on which a send is pending, chosen at random.
    fn cut(&mut self) -> Option<u64> {
        let pending = |wire: &Option<Arc<Wire>>| wire.as_ref().map_or(0, |wire| wire.pending());
        let victims: Vec<usize> =
            (0..self.wires.len()).filter(|nth| pending(&self.wires[*nth]) > 0).collect();
        // While the server is down no connection is alive, whatever the clients know.
        if victims.is_empty() || self.server.is_none() {
            return None;
        }
        self.draws = mix(self.draws);
        let wire = self.wires[victims[(self.draws % victims.len() as u64) as usize]].take()?;
        let pending = wire.pending();
        wire.cut();
        Some(pending)
    }

    /// Kills the server, if a send is pending anywhere.
    fn kill(&mut self) -> Option<u64> {
        let pending = self.wires.iter().flatten().map(|wire| wire.pending()).sum();
        if pending == 0 {
            return None;
        }
        let mut server = self.server.take()?;
        if let Err(error) = server.strike() {
            // Whoever waits for its end finds out the same.
            tracing::error!(%error, "the kill failed");
        }
        self.wires.fill(None);
        self.kills += 1;
        // The receiver lives as long as the run.
        let _ = self.killed.send(server);
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_fall_at_even_parts_of_the_acknowledgements() {
        let due = schedule(100, 3, 1);
        assert_eq!(
            Vec::from(due),
            [(25, Fault::Cut), (50, Fault::Cut), (50, Fault::Kill), (75, Fault::Cut)]
        );
        assert_eq!(schedule(123_590, 500, 20).len(), 520);
        assert!(schedule(123_590, 500, 20).iter().all(|(at, _)| (1..123_590).contains(at)));
    }
}

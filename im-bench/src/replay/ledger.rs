//! The count of acks, the pending sends, and the faults that are due at a count.
//!
//! Kill k of n is due at k/(n+1) of the acks, and so are cuts; kill k of n of the database at
//! (2k-1)/2n, so that some coincide with one of the server and others do not. A fault strikes in
//! the same step in which the count reaches its number, if a send is pending for it then; otherwise
//! counting waits until one is. So a fault is exact, or the run ends with it still due, which fails
//! the run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use im_core::CommandId;
use im_test_databases as databases;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::fault::{Fault, Faults, Struck, schedule};
use super::link::Wire;
use super::log::mix;
use super::progress::Counters;
use super::transport::Transport;
use crate::child::Server;

/// The killed processes, to be restarted.
pub(super) struct Corpses {
    pub(super) servers: mpsc::UnboundedReceiver<Server>,
    pub(super) databases: mpsc::UnboundedReceiver<databases::Server>,
}

/// Counts of established connections.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// By transport.
    pub(super) connections: BTreeMap<Transport, u64>,
    /// Those over another transport than the connection of their client before.
    pub(super) switches: u64,
    /// Stream halves that were resumed within their connection.
    pub(super) resumed: u64,
    /// Retryable refusals of sends, by code.
    pub(super) refused: BTreeMap<u16, u64>,
}

/// The state at the end of a run.
pub(super) struct Closed {
    /// The server, if it runs.
    pub(super) server: Option<Server>,
    /// The database, if there is one and it runs.
    pub(super) database: Option<databases::Server>,
    pub(super) struck: Vec<Struck>,
    /// Faults that did not strike.
    pub(super) missed: usize,
    pub(super) tally: Tally,
    /// The time of each tenth of the acks, from the first send.
    pub(super) tenths: Vec<Duration>,
}

/// The count, shared by all clients.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    moved: Notify,
    /// The number of times that each client's stream half was resumed.
    resumed: Vec<AtomicU64>,
    /// First deliveries of events to a client.
    news: AtomicU64,
    /// Rooms created and subscriptions made before the first send.
    steps: AtomicU64,
    /// Sends passed to the clients.
    posted: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// The sends of the run.
    sends: u64,
    acknowledged: u64,
    /// Acks that wait to be counted.
    held: u64,
    /// The time of the first send.
    begun: Instant,
    tenths: Vec<Duration>,
    due: VecDeque<(u64, Fault)>,
    struck: Vec<Struck>,
    /// The open connection of each client.
    wires: Vec<Option<Arc<Wire>>>,
    /// The transport of each client's last established connection.
    over: Vec<Option<Transport>>,
    tally: Tally,
    kills: u64,
    /// The server, while it runs.
    server: Option<Server>,
    /// Receives a killed server.
    killed: mpsc::UnboundedSender<Server>,
    /// The database, if there is one, while it runs.
    database: Option<databases::Server>,
    /// Receives a killed database.
    killed_databases: mpsc::UnboundedSender<databases::Server>,
    draws: u64,
}

impl Ledger {
    /// Creates a ledger for `clients` clients and `sends` sends in all. Killed processes are sent
    /// to the corpses.
    ///
    /// # Errors
    ///
    /// If there are more faults than sends.
    pub(super) fn new(
        clients: usize,
        sends: u64,
        faults: Faults,
        seed: u64,
    ) -> Result<(Self, Corpses)> {
        let Faults { cuts, kills, database_kills } = faults;
        ensure!(
            cuts.max(kills) < sends && database_kills <= sends / 2,
            "{sends} sends leave no room for {cuts} cuts, {kills} kills and {database_kills} of the database"
        );
        let (killed, servers) = mpsc::unbounded_channel();
        let (killed_databases, databases) = mpsc::unbounded_channel();
        let state = State {
            sends,
            acknowledged: 0,
            held: 0,
            begun: Instant::now(),
            tenths: Vec::new(),
            due: schedule(sends, faults),
            struck: Vec::new(),
            wires: vec![None; clients],
            over: vec![None; clients],
            tally: Tally::default(),
            kills: 0,
            server: None,
            killed,
            database: None,
            killed_databases,
            draws: mix(seed),
        };
        let resumed = (0..clients).map(|_| AtomicU64::new(0)).collect();
        let ledger = Self {
            state: state.into(),
            moved: Notify::new(),
            resumed,
            news: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            posted: AtomicU64::new(0),
        };
        Ok((ledger, Corpses { servers, databases }))
    }

    /// Records the start of the first send.
    pub(super) fn begin(&self) {
        self.state.lock().begun = Instant::now();
    }

    /// Records the creation of a room or a subscription.
    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a send that was passed to a client.
    pub(super) fn posted(&self) {
        self.posted.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the first delivery of an event to a client.
    pub(super) fn news(&self) {
        self.news.fetch_add(1, Ordering::Relaxed);
    }

    /// Records the connection of a client.
    pub(super) fn opened(&self, client: usize, wire: Arc<Wire>) {
        self.state.lock().wires[client] = Some(wire);
    }

    /// Records that a new connection of a client is established: the server has answered.
    pub(super) fn came_about(&self, client: usize, transport: Transport) {
        let mut state = self.state.lock();
        *state.tally.connections.entry(transport).or_default() += 1;
        let before = state.over[client].replace(transport);
        state.tally.switches += u64::from(before.is_some_and(|before| before != transport));
    }

    /// Records that a client's stream half is resumed, by the same connection and over another
    /// socket.
    pub(super) fn resumes(&self, client: usize) {
        self.resumed[client].fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how often it was resumed.
    pub(super) fn resumed(&self, client: usize) -> u64 {
        self.resumed[client].load(Ordering::Acquire)
    }

    /// Returns whether the client's connection has separate request and stream halves.
    pub(super) fn is_request_stream(&self, client: usize) -> bool {
        self.state.lock().over[client].is_some_and(|over| over != Transport::Ws)
    }

    /// Returns the number of kills of the server so far.
    pub(super) fn kills(&self) -> u64 {
        self.state.lock().kills
    }

    /// Records sends that were written on a client's connection, over a socket opened after `kills`
    /// kills.
    pub(super) fn wrote(&self, client: usize, wire: &Arc<Wire>, sends: u64, kills: u64) {
        let mut state = self.state.lock();
        wire.wrote(sends);
        if kills == state.kills && !wire.is_cut() {
            // A polling client may survive a kill without noticing.
            state.wires[client] = Some(wire.clone());
        }
        state.strike(&self.moved);
    }

    /// Records the ack of a send on the client's connection.
    pub(super) fn acknowledged(&self, client: usize, command: CommandId) {
        if let Some(wire) = &self.state.lock().wires[client] {
            wire.acknowledged(command);
        }
    }

    /// Records a refusal with this code. A refused send is not pending, and will be written again.
    pub(super) fn refused(&self, client: usize, command: CommandId, code: u16) {
        let mut state = self.state.lock();
        if state.wires[client].as_ref().is_some_and(|wire| wire.refused(command)) {
            *state.tally.refused.entry(code).or_default() += 1;
        }
    }

    /// Records that the server runs.
    pub(super) fn up(&self, server: Server) {
        let mut state = self.state.lock();
        state.server = Some(server);
        state.strike(&self.moved);
        drop(state);
        self.moved.notify_waiters();
    }

    /// Waits until the server runs.
    pub(super) async fn has_server(&self) {
        self.until(|state| state.server.is_some()).await;
    }

    /// Records that the database runs.
    pub(super) fn database_up(&self, database: databases::Server) {
        let mut state = self.state.lock();
        state.database = Some(database);
        state.strike(&self.moved);
        drop(state);
        self.moved.notify_waiters();
    }

    /// Waits until the database runs.
    pub(super) async fn has_database(&self) {
        self.until(|state| state.database.is_some()).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            let moved = self.moved.notified();
            if is_so(&self.state.lock()) {
                return;
            }
            moved.await;
        }
    }

    /// Counts one ack. Waits while a fault is due that cannot strike yet; the caller must have sent
    /// before whatever it may send, so that there is a target. If all remaining acks have arrived
    /// and wait, there never will be one: the fault is missed.
    pub(super) async fn count(&self) {
        self.state.lock().held += 1;
        loop {
            let moved = self.moved.notified();
            {
                let mut state = self.state.lock();
                let all = state.acknowledged + state.held == state.sends;
                if !state.is_due() || all {
                    state.held -= 1;
                    state.acknowledge();
                    state.strike(&self.moved);
                    if all {
                        self.moved.notify_waiters();
                    }
                    return;
                }
            }
            moved.await;
        }
    }

    /// Returns the progress of the run.
    pub(super) fn counters(&self) -> Counters {
        let state = self.state.lock();
        let posted = self.posted.load(Ordering::Relaxed);
        Counters {
            acknowledged: state.acknowledged,
            struck: state.struck.len(),
            news: self.news.load(Ordering::Relaxed),
            steps: self.steps.load(Ordering::Relaxed),
            waiting: posted.saturating_sub(state.acknowledged),
        }
    }

    /// Ends the run.
    pub(super) fn close(&self) -> Closed {
        let mut state = self.state.lock();
        Closed {
            server: state.server.take(),
            database: state.database.take(),
            struck: std::mem::take(&mut state.struck),
            missed: state.due.len(),
            tenths: std::mem::take(&mut state.tenths),
            tally: Tally {
                resumed: (0..self.resumed.len()).map(|client| self.resumed(client)).sum(),
                ..std::mem::take(&mut state.tally)
            },
        }
    }
}

/// Returns the last ack of the `nth` tenth, from 1, of so many sends.
pub(super) fn tenth(sends: u64, nth: usize) -> u64 {
    u64::try_from(u128::from(sends) * nth as u128 / 10).unwrap_or(sends)
}

impl State {
    fn acknowledge(&mut self) {
        self.acknowledged += 1;
        while self.tenths.len() < 10
            && self.acknowledged >= tenth(self.sends, self.tenths.len() + 1)
        {
            self.tenths.push(self.begun.elapsed());
        }
    }

    fn is_due(&self) -> bool {
        self.due.front().is_some_and(|(at, _)| *at <= self.acknowledged)
    }

    /// Strikes every fault that is due and possible.
    fn strike(&mut self, moved: &Notify) {
        while let Some((at, fault)) =
            self.due.front().copied().filter(|(at, _)| *at <= self.acknowledged)
        {
            let pending = match fault {
                Fault::Cut => self.cut(),
                Fault::Kill => self.kill(),
                Fault::DatabaseKill => self.kill_database(),
            };
            let Some(pending) = pending else { return };
            self.struck.push(Struck { fault, at, pending });
            self.due.pop_front();
            moved.notify_waiters();
        }
    }

    /// Cuts a random connection with a pending send.
    fn cut(&mut self) -> Option<u64> {
        let pending = |wire: &Option<Arc<Wire>>| wire.as_ref().map_or(0, |wire| wire.pending());
        let victims: Vec<usize> =
            (0..self.wires.len()).filter(|nth| pending(&self.wires[*nth]) > 0).collect();
        // While the server is down no connection is open, even if the clients have not noticed.
        if victims.is_empty() || self.server.is_none() {
            return None;
        }
        self.draws = mix(self.draws);
        let wire = self.wires[victims[(self.draws % victims.len() as u64) as usize]].take()?;
        let pending = wire.pending();
        wire.cut();
        Some(pending)
    }

    /// Returns the number of pending sends, or `None` if there is none.
    fn pending(&self) -> Option<u64> {
        let pending = self.wires.iter().flatten().map(|wire| wire.pending()).sum();
        (pending > 0).then_some(pending)
    }

    /// Kills the database, if a send is pending anywhere. Blocks for some milliseconds, in which no
    /// ack may be counted.
    fn kill_database(&mut self) -> Option<u64> {
        let pending = self.pending()?;
        let mut database = self.database.take()?;
        if let Err(error) = database.kill() {
            // The restart reports whether it is possible.
            tracing::error!(%error, "the kill of the database failed");
        }
        // The receiver lives as long as the run.
        let _ = self.killed_databases.send(database);
        Some(pending)
    }

    /// Kills the server, if a send is pending anywhere.
    fn kill(&mut self) -> Option<u64> {
        let pending = self.pending()?;
        let mut server = self.server.take()?;
        if let Err(error) = server.strike() {
            // The wait for its end reports the same.
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

    const NONE: Faults = Faults { cuts: 0, kills: 0, database_kills: 0 };

    #[test]
    fn more_faults_than_sends_are_refused() {
        for (faults, fit) in [
            (Faults { cuts: 9, kills: 9, database_kills: 5 }, true),
            (Faults { cuts: 10, ..NONE }, false),
            (Faults { kills: 10, ..NONE }, false),
            (Faults { database_kills: 6, ..NONE }, false),
        ] {
            assert_eq!(Ledger::new(1, 10, faults, 1).is_ok(), fit, "{faults:?}");
        }
    }

    /// A fault that finds no pending send counts as missed, and the run goes on.
    #[tokio::test]
    async fn fault_without_target_counts_as_missed() {
        let (ledger, _corpses) = Ledger::new(1, 4, Faults { kills: 1, ..NONE }, 1).unwrap();
        futures::future::join_all((0..4).map(|_| ledger.count())).await;
        let counters = ledger.counters();
        assert_eq!((counters.acknowledged, counters.struck), (4, 0));
        assert_eq!(ledger.close().missed, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn tenths_are_timed_by_acks() {
        let (ledger, _corpses) = Ledger::new(1, 20, NONE, 1).unwrap();
        ledger.begin();
        for _ in 0..20 {
            ledger.posted();
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(ledger.counters().waiting, 1);
            ledger.count().await;
        }
        let tenths = ledger.close().tenths;
        assert_eq!(tenths, (1..=10).map(|nth| Duration::from_secs(2 * nth)).collect::<Vec<_>>());
    }

    /// A refused send is no longer pending and is counted by its code.
    #[test]
    fn refused_send_is_counted_by_code() {
        let (ledger, _corpses) = Ledger::new(1, 10, NONE, 1).unwrap();
        let wire = Arc::new(Wire::default());
        ledger.opened(0, wire.clone());
        wire.takes(CommandId(7));
        ledger.wrote(0, &wire, 1, 0);
        assert_eq!(wire.pending(), 1);
        ledger.refused(0, CommandId(6), 4202);
        assert_eq!(wire.pending(), 1, "a refused command that is no send");
        ledger.refused(0, CommandId(7), 4202);
        ledger.refused(0, CommandId(7), 4202);
        assert_eq!(wire.pending(), 0);
        assert_eq!(ledger.close().tally.refused, [(4202, 1)].into());
    }
}

//! `im-bench replay`: a chat log through a real server by real clients, with cuts, kills and a
//! proof.
//!
//! Each client is one user; the log's nicknames are mapped to users and are part of the content.
//! Rooms are unchanged, and so is the order of each sender. The history checker records every send,
//! every ack and every frame that any client received, before the client drops redeliveries, and
//! finally the content of the reopened store.
//!
//! | module | contents |
//! |---|---|
//! | `log` | the log, and the mapping of lines to clients |
//! | `clients` | the clients |
//! | `transport` | the transports of the clients, and their rotation |
//! | `server_host` | the location of the store, and restarts of killed processes |
//! | `fault` | the faults of a run, and when they are due |
//! | `link`, `network` | connections that can be cut |
//! | `options` | the command line |
//! | `synthetic` | a generated log |
//! | `progress` | ends runs without progress |
//! | `ledger` | the count of acks, and the faults that are due at a count |
//! | `delivery_check` | reports the frames of a client to the checker |
//! | `trace` | the same as lines of text |
//! | `report` | the report of a run |

mod clients;
mod delivery_check;
mod fault;
mod ledger;
mod link;
pub(crate) mod log;
mod network;
mod options;
mod progress;
mod report;
mod server_host;
mod synthetic;
mod trace;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use im_core::wire::PageFrom;
use im_core::{Cursor, RoomId, Seq};
use im_testkit::history::{Checker, read_back};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::clients::{Clients, Stage};
use self::delivery_check::Missing;
use self::ledger::{Closed, Corpses, Ledger};
use self::log::Log;
pub(crate) use self::options::Options;
use self::progress::{Counters, Rate, StallTimeout};
use self::report::{Facts, Report};
use self::server_host::ServerHost;
pub(crate) use self::server_host::fixed_address;
use crate::busy::Busy;
use crate::host;
use crate::report::{Progress, write_json};

/// The interval in which progress is checked.
const LOOK: Duration = Duration::from_millis(50);

/// Replays, checks and reports. Fails unless the run is clean.
pub(crate) async fn run(options: Options) -> Result<()> {
    options.check()?;
    // Over HTTP a client has two sockets, and for a moment their predecessors.
    host::allow_open_files(4 * u64::from(options.clients) + 100)?;
    let log = Arc::new(options.log()?);
    eprintln!("{}", opening(&options, &log));
    let busy = Busy::start(options.busy)?;
    let report = replay(&options, log).await?;
    drop(busy);
    print!("{report}");
    options.json.as_deref().map_or(Ok(()), |path| write_json(path, &report))?;
    match report.faults_found().as_slice() {
        [] => Ok(()),
        found => bail!("the run is not clean: {}", found.join("; ")),
    }
}

/// Describes the run, so that it can be repeated.
fn opening(options: &Options, log: &Log) -> String {
    let shares = options.shares().map(|shares| format!(" ({shares})")).unwrap_or_default();
    format!(
        "seed {}: {} lines in {} rooms of {}, {} clients over {}{shares} on {}, {} cuts, {} kills, {} cores busy",
        options.seed,
        log.lines.len(),
        log.rooms.len(),
        options.source(),
        options.clients,
        options.transport,
        options.store,
        options.cuts,
        options.kills,
        options.busy,
    )
}

async fn replay(options: &Options, log: Arc<Log>) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let database = options.store.start_database().await?;
    let host = ServerHost::new(&options.store, folder.path(), database.as_ref(), options.seed)?;
    let host = Arc::new(host);
    let (sends, clients) = (log.lines.len() as u64, options.clients as usize);
    let (ledger, corpses) = Ledger::new(clients + 1, sends, options.faults(), options.seed)?;
    let ledger = Arc::new(ledger);
    if let Some(database) = database {
        ledger.database_up(database);
    }
    let checker = Checker::new();
    ledger.up(host.start().await?);
    let mut keepers = keep_up(&host, &ledger, corpses);

    let run = Run { options, log: &log, ledger: &ledger, checker: &checker };
    let mut clients = run.gather(&host).await?;
    ledger.begin();
    let begin = Instant::now();
    let ended = run.speak(&mut clients, &mut keepers).await?;
    let spoken = begin.elapsed();
    let missing = run.all_heard(&clients).await?;
    let heard = begin.elapsed();

    tokio::select! {
        () = ledger.has_server() => {}
        gone = keepers.join_next() => return Err(why_gone(gone)),
    }
    if host.has_database {
        tokio::select! {
            () = ledger.has_database() => {}
            gone = keepers.join_next() => return Err(why_gone(gone)),
        }
    }
    keepers.shutdown().await;
    let closed = ledger.close();
    let subscriptions = clients.members.iter().map(|member| member.rooms.len()).sum();
    let traces = clients.traces();
    let Closed { struck: faults, missed, tally, tenths, .. } =
        run.close(&host, clients, closed, ended.is_none()).await?;
    let facts = Facts {
        data: options.source(),
        store: options.store.clone(),
        transport: options.transport,
        mix: options.shares(),
        tally,
        seed: options.seed,
        busy: options.busy,
        clients: options.clients as usize,
        rooms: log.rooms.len(),
        subscriptions,
        lines: sends,
        missed,
        missing,
        ended,
        tenths,
        faults,
        spoken,
        heard,
    };
    let report = Report::new(facts, checker.finish());
    if let Some(folder) = options.trace.as_ref().filter(|_| !report.faults_found().is_empty()) {
        traces.iter().try_for_each(|(client, trace)| trace.write(folder, client.as_str()))?;
        eprintln!("commands and frames of each client: {}", folder.display());
    }
    Ok(report)
}

/// Restarts killed processes, in tasks of their own, since a started restart must complete in any
/// case. The tasks end only with an error.
fn keep_up(host: &Arc<ServerHost>, ledger: &Arc<Ledger>, corpses: Corpses) -> JoinSet<Result<()>> {
    let Corpses { servers, databases } = corpses;
    let mut keepers = JoinSet::new();
    keepers.spawn(host.clone().keep_running(ledger.clone(), servers));
    keepers.spawn(server_host::keep_database_running(ledger.clone(), databases));
    keepers
}

fn why_gone(gone: Option<Result<Result<()>, tokio::task::JoinError>>) -> anyhow::Error {
    match gone {
        Some(Ok(Err(error))) => error,
        Some(Err(error)) => error.into(),
        Some(Ok(Ok(()))) | None => anyhow!("the task that restarts killed processes has ended"),
    }
}

/// A run in progress.
struct Run<'a> {
    options: &'a Options,
    log: &'a Arc<Log>,
    ledger: &'a Arc<Ledger>,
    checker: &'a Checker,
}

impl Run<'_> {
    /// Connects the clients, creates the rooms and makes all subscriptions.
    async fn gather(&self, host: &ServerHost) -> Result<Clients> {
        let stage = Stage {
            log: self.log.clone(),
            ledger: self.ledger.clone(),
            checker: self.checker.clone(),
            seed: self.options.seed,
            speed: self.options.speed,
            window: self.options.window,
            traced: self.options.trace.is_some(),
        };
        let (clients, route) = (self.options.clients as usize, self.options.route());
        let over = (route, self.options.encoding());
        let mut clients = Clients::connect(stage, clients, host.address, over).await?;
        clients.widen(self.options.rooms_per_client);
        tokio::select! {
            settled = clients.settle() => settled.context("creating the rooms and subscribing").map(drop)?,
            stuck = self.watch(None) => bail!("creating the rooms and subscribing: {stuck}"),
        }
        if self.options.drop_a_subscription {
            clients.drop_a_subscription().await?;
        }
        Ok(clients)
    }

    /// Sends all lines. Returns the cause of an early end, if any: what was sent until then is
    /// judged all the same.
    async fn speak(
        &self,
        clients: &mut Clients,
        keepers: &mut JoinSet<Result<()>>,
    ) -> Result<Option<String>> {
        tokio::select! {
            spoken = clients.speak() => Ok(spoken.err().map(|error| format!("{error:#}"))),
            gone = keepers.join_next() => Err(why_gone(gone)),
            abandoned = self.watch(Some(self.options.least_rate())) => Ok(Some(abandoned)),
        }
    }

    /// Shows the progress. Ends only without progress or, with a least rate, at a lower rate.
    async fn watch(&self, least: Option<u32>) -> String {
        let sends = self.log.lines.len() as u64;
        let mut progress = Progress::new("acknowledged", sends);
        let may_idle = least.is_some() && self.options.speed.is_some();
        let most = self.options.stall_timeout();
        let mut stall = StallTimeout::new(Instant::now(), most, may_idle);
        let mut rate = Rate::new(Instant::now(), most, least.unwrap_or(0));
        loop {
            tokio::time::sleep(LOOK).await;
            let (now, counters) = (Instant::now(), self.ledger.counters());
            progress.at(counters.acknowledged);
            if stall.is_over(now, counters) {
                let Counters { acknowledged, struck, news, .. } = counters;
                return format!(
                    "no progress for {} s: {acknowledged} acknowledged, {struck} faults, {news} delivered",
                    most.as_secs()
                );
            }
            if let Some(low) = rate.too_low(now, counters.acknowledged) {
                return format!("{low:.1} sends a second over {} s", most.as_secs());
            }
        }
    }

    /// Waits until every client is in sync, as long as events are delivered. Returns what is
    /// missing, for each client that lacks something.
    async fn all_heard(&self, clients: &Clients) -> Result<Vec<Vec<Missing>>> {
        let mut progress = Progress::new("clients have everything", clients.members.len() as u64);
        let mut stall = StallTimeout::new(Instant::now(), self.options.stall_timeout(), false);
        loop {
            let heads = self.heads()?;
            let rooms = |member: &clients::Member| {
                member.rooms.iter().map(|room| &heads[*room]).collect::<Vec<_>>()
            };
            let is_in_sync = |member: &&clients::Member| member.check.is_in_sync(rooms(member));
            let in_sync = clients.members.iter().filter(is_in_sync).count();
            progress.at(in_sync as u64);
            let over = stall.is_over(Instant::now(), self.ledger.counters());
            if over || in_sync == clients.members.len() {
                if over {
                    progress.say("no more progress, and some clients are behind");
                }
                progress.done();
                let missing =
                    clients.members.iter().map(|member| member.check.missing(rooms(member)));
                return Ok(missing.filter(|missing| !missing.is_empty()).collect());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Returns the head of each room, as far as it is known.
    fn heads(&self) -> Result<Vec<(RoomId, Cursor)>> {
        let head = |room: &RoomId| {
            let head = self.checker.head(room);
            Ok((room.clone(), head.with_context(|| format!("the head of {room} is unknown"))?))
        };
        self.log.rooms.iter().map(head).collect()
    }

    /// Ends clients and server, and passes the content of the store to the checker. In a run that
    /// ended early, undelivered events are not lost.
    async fn close(
        &self,
        host: &ServerHost,
        clients: Clients,
        mut closed: Closed,
        to_the_end: bool,
    ) -> Result<Closed> {
        let is_durable = self.options.store.is_durable();
        if !is_durable {
            read_from_server(&clients, self.log, self.checker).await?;
        }
        clients.leave();
        let readers: Vec<_> =
            clients.members.iter().filter_map(|member| member.check.close()).collect();
        closed.server.take().context("the server is not running at the end")?.stop().await?;
        if is_durable {
            let store = host.store.open().await.context("reopen the store")?;
            read_back(self.checker, &*store).await?;
            store.close().await?;
        }
        if let Some(database) = closed.database.take() {
            server_host::blocking(move || database.stop()).await?;
        }
        if to_the_end {
            readers.into_iter().for_each(im_testkit::history::Subscriber::finish);
        }
        Ok(closed)
    }
}

/// Passes the content of the server to the checker, for a store that cannot be reopened.
async fn read_from_server(clients: &Clients, log: &Log, checker: &Checker) -> Result<()> {
    let service = clients.service().context("there is no service")?;
    for room in &log.rooms {
        let mut after = Seq::ZERO;
        loop {
            let page = service.history(room.clone(), None, PageFrom::After(after), 200).await?;
            let head = Cursor { epoch: page.epoch, seq: page.head };
            after = page.events.last().map_or(after, |event| event.seq);
            checker.stored(room, head, page.first, page.events);
            if !page.more {
                break;
            }
        }
    }
    Ok(())
}

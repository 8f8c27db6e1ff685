//! `im-bench frames`: checks every raw frame with peers that share no code with the clients and
//! repair nothing.
//!
//! Each peer is a session with many subscriptions. It speaks im.v1 in JSON over raw HTTP or
//! WebSocket, uses everything that the protocol allows, and checks each push against one rule.
//! Together the peers know the log of each room. The server is killed and restarted meanwhile. At
//! the end every peer must be in sync.
//!
//! | module | contents |
//! |---|---|
//! | `judge` | the rules, and a peer's state in each room |
//! | `room_log` | the events that all peers have received of each room |
//! | `peer`, `socket` | the actions of a peer |
//! | `wire` | requests, streams and sockets |

mod judge;
mod peer;
mod room_log;
mod socket;
mod wire;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::peer::Peer;
use self::room_log::RoomLogs;
use self::wire::Requests;
use crate::busy::Busy;
use crate::child::Server;
use crate::replay::fixed_address;
use crate::replay::log::mix;
use crate::report::{Progress, thousands};
use crate::subject::StoreChoice;
use crate::{host, serve};

/// Options of `im-bench frames`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Transport of the peers; by default a quarter of them over each.
    #[arg(long, value_enum)]
    transport: Option<Over>,
    /// Subscriptions of all sessions together.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    subscriptions: u32,
    /// Rooms that each session subscribes to.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    rooms_per_session: u32,
    /// Rooms in all.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    rooms: u32,
    /// Number of messages that all sessions send together.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..))]
    sends: u64,
    /// Number of kills of the server by SIGKILL, each with a restart.
    #[arg(long, default_value_t = 5)]
    kills: u64,
    /// Store: sled or sqlite, in a temporary folder, or an address.
    #[arg(long, default_value = "sqlite")]
    store: StoreChoice,
    /// Keep so many cores busy with other work during the whole run.
    #[arg(long, value_name = "CORES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=256))]
    busy: u16,
    /// Seconds without any progress after which the run fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout: u64,
    /// Seed of the subscriptions and of each peer's actions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The transport of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Over {
    /// WebSocket.
    Ws,
    /// Server-Sent Events.
    Sse,
    /// Long polling.
    Long,
    /// Short polling.
    Short,
}

impl Over {
    const ALL: [Self; 4] = [Self::Ws, Self::Sse, Self::Long, Self::Short];
}

/// The state that all peers share.
#[derive(Debug)]
struct Shared {
    logs: RoomLogs,
    /// Sends that are not started.
    left: AtomicU64,
    /// Sends that are acked, and their total.
    acked: AtomicU64,
    sends: u64,
    moves: AtomicU64,
    judged: AtomicU64,
    findings: AtomicU64,
    quiet: AtomicBool,
}

/// Number of findings that are shown in full. The others are counted.
const SHOWN: u64 = 10;

impl Shared {
    fn new(rooms: usize, sends: u64) -> Self {
        Self {
            logs: RoomLogs::new(rooms),
            left: sends.into(),
            acked: AtomicU64::new(0),
            sends,
            moves: AtomicU64::new(0),
            judged: AtomicU64::new(0),
            findings: AtomicU64::new(0),
            quiet: AtomicBool::new(false),
        }
    }

    /// Takes up to `wished` of the remaining sends.
    fn take_sends(&self, wished: u64) -> u64 {
        let take = |left: u64| Some(left.saturating_sub(wished));
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        left.unwrap_or(0).min(wished)
    }

    fn acknowledged(&self) {
        if self.acked.fetch_add(1, Ordering::AcqRel) + 1 == self.sends {
            self.quiet.store(true, Ordering::Release);
        }
    }

    /// Returns whether everything is sent and acked: only reads are left.
    fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Acquire)
    }

    /// Records progress of a peer in a room.
    fn moved(&self) {
        self.moves.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a checked push.
    fn judged(&self) {
        self.judged.fetch_add(1, Ordering::Relaxed);
    }

    /// Records a finding.
    fn found(&self, what: String) {
        if self.findings.fetch_add(1, Ordering::AcqRel) < SHOWN {
            eprintln!("VIOLATION: {what}");
        }
    }

    fn findings(&self) -> u64 {
        self.findings.load(Ordering::Acquire)
    }
}

/// Runs the peers. Fails unless each of them is in sync without a finding.
pub(crate) async fn run(options: Options) -> Result<()> {
    ensure!(
        options.kills == 0 || options.store.is_durable(),
        "--kills needs another --store: a store in memory loses everything in a kill"
    );
    let (rooms, each) = (options.rooms as usize, options.rooms_per_session as usize);
    ensure!(each <= rooms, "--rooms-per-session {each}: there are {rooms} rooms");
    let sessions = options.subscriptions.div_ceil(options.rooms_per_session) as usize;
    host::allow_open_files(6 * sessions as u64 + 100)?;
    let over = options.transport.map_or("all transports".to_owned(), |over| format!("{over:?}"));
    let what = format!(
        "seed {}: {sessions} sessions of {each} of {rooms} rooms over {over} on {}, {} sends, {} kills, {} cores busy",
        options.seed, options.store, options.sends, options.kills, options.busy
    );
    eprintln!("{what}");
    let _busy = Busy::start(options.busy)?;
    let begin = Instant::now();
    let shared = Arc::new(Shared::new(rooms, options.sends));
    let left_behind = peers(&options, sessions, &shared).await?;
    println!("{what}");
    let (judged, findings) = (shared.judged.load(Ordering::Relaxed), shared.findings());
    let acked = shared.acked.load(Ordering::Relaxed);
    println!(
        "{} of {} sends acknowledged, {} pushes looked at in {:.1} s; {findings} violations; {left_behind} peers not in sync",
        thousands(acked),
        thousands(options.sends),
        thousands(judged),
        begin.elapsed().as_secs_f64()
    );
    ensure!(findings == 0, "{findings} violations");
    ensure!(left_behind == 0, "{left_behind} peers are not in sync");
    ensure!(acked == options.sends, "{acked} of {} sends were acked", options.sends);
    Ok(())
}

/// Runs all peers. Returns the number of peers that were not in sync when progress stopped.
async fn peers(options: &Options, sessions: usize, shared: &Arc<Shared>) -> Result<usize> {
    let folder = tempfile::tempdir()?;
    let address = fixed_address(options.seed)?;
    let mut arguments = serve::arguments(&options.store.address(folder.path()));
    arguments.extend(["--listen".to_owned(), address.to_string()]);
    let mut server = Some(Server::start(&arguments).await?);

    let chosen = choose(options, sessions);
    let rooms = make_rooms(address, options.rooms as usize, &chosen).await?;
    let mut running = JoinSet::new();
    for (nth, chosen) in chosen.iter().enumerate() {
        let subscribed = chosen.iter().map(|room| (*room, name(*room), rooms[*room].clone()));
        let over = options.transport.unwrap_or(Over::ALL[nth % 4]);
        let setting = (address, over, options.seed);
        running.spawn(Peer::new(nth, setting, subscribed, shared).run());
    }
    let mut due = (1..=options.kills)
        .map(|kill| options.sends * kill / (options.kills + 1))
        .collect::<Vec<_>>()
        .into_iter()
        .peekable();
    let mut progress = Progress::new("acknowledged", options.sends);
    let mut last = ((0, 0), Instant::now());
    while !running.is_empty() {
        tokio::time::sleep(LOOK).await;
        while let Some(ended) = running.try_join_next() {
            ended.context("a peer failed")?;
        }
        let acked = shared.acked.load(Ordering::Acquire);
        progress.at(acked);
        if due.next_if(|due| *due <= acked).is_some() {
            let mut struck = server.take().context("the server is not running")?;
            struck.strike()?;
            struck.gone().await?;
            server = Some(Server::start(&arguments).await?);
        }
        let moves = (acked, shared.moves.load(Ordering::Relaxed));
        if moves != last.0 {
            last = (moves, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(options.stall_timeout) {
            progress.say("no more progress");
            break;
        }
    }
    let left_behind = running.len();
    running.shutdown().await;
    if left_behind == 0 {
        let subscribed: Vec<_> = (0..options.rooms as usize).map(|_| AtomicU64::new(0)).collect();
        chosen.iter().flatten().for_each(|room| {
            subscribed[*room].fetch_add(1, Ordering::Relaxed);
        });
        shared.logs.close(&subscribed).into_iter().for_each(|wrong| shared.found(wrong));
    }
    server.context("the server is not running at the end")?.stop().await?;
    Ok(left_behind)
}

/// The interval in which progress is checked.
const LOOK: Duration = Duration::from_millis(20);

/// Chooses the subscriptions of each session.
fn choose(options: &Options, sessions: usize) -> Vec<BTreeSet<usize>> {
    let mut draws = mix(options.seed);
    let mut set = |_| {
        let mut rooms = BTreeSet::new();
        while rooms.len() < options.rooms_per_session as usize {
            draws = mix(draws);
            rooms.insert((draws % u64::from(options.rooms)) as usize);
        }
        rooms
    };
    (0..sessions).map(&mut set).collect()
}

fn name(room: usize) -> String {
    format!("room-{room}")
}

/// Members in the `create` of a room. The others join.
const FIRST_MEMBERS: usize = 200;

/// Creates the rooms with their members. Returns the epoch of each.
async fn make_rooms(
    server: SocketAddr,
    rooms: usize,
    chosen: &[BTreeSet<usize>],
) -> Result<Vec<String>> {
    let mut maker = Requests::new(server, None);
    let hello = json!([{"t": "hello", "id": 1, "v": 1, "user": "maker"}]);
    let welcome = ask(&mut maker, &hello).await?;
    let text = |name: &str| welcome[name].as_str().map(str::to_owned);
    let (session, secret) = (text("session"), text("secret"));
    maker.session = Some(format!(
        "{} {}",
        session.context("the reply has no session")?,
        secret.context("the reply has no secret")?
    ));
    let mut epochs = Vec::with_capacity(rooms);
    for room in 0..rooms {
        let members: Vec<_> = chosen
            .iter()
            .enumerate()
            .filter(|(_, rooms)| rooms.contains(&room))
            .map(|(nth, _)| format!("peer-{nth}"))
            .collect();
        let (first, late) = members.split_at(members.len().min(FIRST_MEMBERS));
        let create =
            json!([{"t": "create", "id": 2, "room": name(room), "open": true, "members": first}]);
        let made = ask(&mut maker, &create).await?;
        epochs.push(made["epoch"].as_str().context("the reply has no epoch")?.to_owned());
        for member in late {
            let add =
                json!([{"t": "member", "id": 3, "room": name(room), "user": member, "act": "add"}]);
            ask(&mut maker, &add).await?;
        }
    }
    Ok(epochs)
}

async fn ask(requests: &mut Requests, frames: &Value) -> Result<Value> {
    match requests.post(frames).await {
        Ok(replies) if replies.iter().all(|reply| reply["t"] == "ok") => {
            Ok(replies.into_iter().next().unwrap_or_default())
        }
        answer => bail!("{frames} was answered by {answer:?}"),
    }
}

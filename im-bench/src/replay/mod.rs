//! `im-bench replay`: a chat log through a real server by real clients, with cuts and kills, and the proof at the end.
//!
//! Each client is one user; the log's nicknames are mapped onto them and travel as content. Rooms are kept, and so is
//! the order of each sender. The history checker is told of every send, of every acknowledgement, of every frame that
//! any client received, before the client drops repeats, and at the end of all that the reopened store holds.
//!
//! | module | what it holds |
//! |---|---|
//! | `log` | the log, and which client sends which line |
//! | `crew` | the clients |
//! | `transport` | over what each of them connects, and over what next |
//! | `place` | where the server keeps things, and starting again what was killed |
//! | `fault` | what is done to a run, and when |
//! | `link`, `network` | their connections, which can be cut |
//! | `ledger` | the count of acknowledgements, and the faults that fall due by it |
//! | `witness` | what a client sees, told to the checker |
//! | `report` | what comes out |

mod crew;
mod fault;
mod ledger;
mod link;
pub(crate) mod log;
mod network;
mod place;
mod report;
mod transport;
mod witness;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use im_core::wire::{Encoding, PageFrom};
use im_core::{Cursor, RoomId, Seq};
use im_testkit::history::{Checker, read_back};
use tokio::time::Instant;

use self::crew::{Crew, Stage};
use self::fault::Faults;
use self::ledger::{Closed, Ledger};
use self::log::Log;
use self::place::{Keeps, Place};
use self::report::{Facts, Report};
use self::transport::Choice;
use crate::host;
use crate::report::{Progress, thousands, write_json};

/// What `im-bench replay` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The chat log: a JSON object a line, gzipped or not. By default a sample of 400 lines that is built in.
    #[arg(long)]
    data: Option<PathBuf>,
    /// How many users the senders of the log are mapped onto, a client each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    clients: u32,
    /// Over what the clients connect. With `mix` they are spread over all four transports, and whoever comes back after a
    /// cut or a kill goes on over the next one.
    #[arg(long, value_enum, default_value_t = Choice::Ws)]
    transport: Choice,
    /// How many connections to cut, without a word, while sends are pending on them.
    #[arg(long, default_value_t = 0)]
    cuts: u64,
    /// How often to kill the server by SIGKILL, and start it again, while sends are pending. Needs a durable store.
    #[arg(long, default_value_t = 0)]
    kills: u64,
    /// How often to kill the database, with all its processes, and start it again, while sends are pending. Needs --store
    /// postgres or mariadb.
    #[arg(long, default_value_t = 0)]
    database_kills: u64,
    /// Where the server keeps things: memory; sled or sqlite, in a temporary folder; postgres or mariadb, on a database server
    /// that is started for the run; sled:PATH, sqlite:PATH, postgres://… or mysql://…, where nothing may be yet.
    #[arg(long, default_value = "sqlite")]
    store: Keeps,
    /// Replay at this many times the log's own pace, instead of as fast as sends are acknowledged. Breaks of more than an
    /// hour are left out.
    #[arg(long, value_parser = pace)]
    speed: Option<f64>,
    /// Sends of one client that may be unacknowledged. Each sender's order is kept however many there are, also when a
    /// database refuses some for the time being.
    #[arg(long, default_value_t = 16)]
    window: usize,
    /// How the clients write their frames.
    #[arg(long, value_enum, default_value_t = Words::Msgpack)]
    encoding: Words,
    /// Chooses message ids and who is cut.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Also write the report as JSON, to this file; `-` for standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Words {
    Json,
    Msgpack,
}

fn pace(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "a number was expected")?;
    if speed.is_finite() && speed > 0.0 {
        Ok(speed)
    } else {
        Err("a number above 0 was expected".into())
    }
}

/// How long nothing may move before the run is given up: a restart of the server takes far less.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the run looks how far it is.
const LOOK: Duration = Duration::from_millis(50);

/// Replays, checks, reports; fails unless everything was as it should be.
pub(crate) async fn run(options: Options) -> Result<()> {
    ensure!(
        options.kills == 0 || options.store.is_durable(),
        "a kill takes everything from a store in memory: --kills needs another --store"
    );
    ensure!(
        options.database_kills == 0 || options.store.database().is_some(),
        "--database-kills needs a database of the run's own: --store postgres or --store mariadb"
    );
    // Over HTTP a client has two sockets, and for a moment those before them.
    host::allow_open_files(4 * u64::from(options.clients) + 100)?;
    let log = Arc::new(match &options.data {
        Some(path) => Log::open(path)?,
        None => Log::sample()?,
    });
    let report = replay(&options, log).await?;
    print!("{report}");
    options.json.as_deref().map_or(Ok(()), |path| write_json(path, &report))?;
    ensure!(report.is_clean(), "the run is not clean");
    Ok(())
}

async fn replay(options: &Options, log: Arc<Log>) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let database = options.store.start_database().await?;
    let place = Place::new(&options.store, folder.path(), database.as_ref(), options.seed)?;
    let (sends, clients) = (log.lines.len() as u64, options.clients as usize);
    let Options { cuts, kills, database_kills, .. } = *options;
    let faults = Faults { cuts, kills, database_kills };
    let (ledger, corpses) = Ledger::new(clients + 1, sends, faults, options.seed)?;
    let ledger = Arc::new(ledger);
    if let Some(database) = database {
        ledger.database_up(database);
    }
    let checker = Checker::new();
    let stage = Stage {
        log: log.clone(),
        ledger: ledger.clone(),
        checker: checker.clone(),
        seed: options.seed,
        speed: options.speed,
        window: options.window,
    };
    ledger.up(place.start().await?);
    let encoding = match options.encoding {
        Words::Json => Encoding::Json,
        Words::Msgpack => Encoding::MsgPack,
    };
    let mut crew =
        Crew::connect(stage, clients, place.address, (options.transport, encoding)).await?;
    crew.settle().await.context("making and following the rooms")?;

    let ledger::Corpses { servers, databases } = corpses;
    // A task of its own, since what it has under way must be done in any case.
    let mut keeper = tokio::spawn(place::keep_database_up(ledger.clone(), databases));
    let begin = Instant::now();
    let mut progress = Progress::new("acknowledged", sends);
    tokio::select! {
        spoken = crew.speak() => spoken?,
        restarted = place.keep_up(&ledger, servers) => restarted?,
        restarted = &mut keeper => restarted??,
        stuck = watch(&ledger, &mut progress) => stuck?,
    }
    let spoken = begin.elapsed();
    progress.done();
    let behind = all_heard(&crew, &log, &checker).await?;
    let heard = begin.elapsed();

    if place.has_database {
        tokio::select! {
            () = ledger.has_database() => {}
            restarted = &mut keeper => restarted??,
        }
    }
    keeper.abort();
    let Closed { server, database, struck: faults, missed, tally } = ledger.close();
    if !options.store.is_durable() {
        read_from_server(&crew, &log, &checker).await?;
    }
    crew.leave();
    let readers: Vec<_> = crew.members.iter().filter_map(|member| member.witness.close()).collect();
    server.context("the server is not up at the end")?.stop().await?;
    if options.store.is_durable() {
        let store = place.store.open().await.context("reopen the store")?;
        read_back(&checker, &*store).await?;
        store.close().await?;
    }
    if let Some(database) = database {
        place::blocking(move || database.stop()).await?;
    }
    readers.into_iter().for_each(im_testkit::history::Reader::finish);
    let facts = Facts {
        data: options
            .data
            .as_deref()
            .map_or("the sample".into(), |path| path.display().to_string()),
        store: options.store.clone(),
        transport: options.transport,
        tally,
        seed: options.seed,
        clients,
        rooms: log.rooms.len(),
        lines: sends,
        missed,
        behind,
        faults,
        spoken,
        heard,
    };
    Ok(Report::new(facts, checker.finish()))
}

/// Shows how far the run is. Ends only with an error: if nothing moves any more.
async fn watch(ledger: &Ledger, progress: &mut Progress) -> Result<()> {
    let mut last = (ledger.progress(), Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let (acknowledged, struck) = ledger.progress();
        progress.at(acknowledged);
        if last.0 != (acknowledged, struck) {
            last = ((acknowledged, struck), Instant::now());
        }
        ensure!(
            last.1.elapsed() < PATIENCE,
            "nothing moves: {acknowledged} acknowledged, {struck} faults"
        );
    }
}

/// Waits until every client has everything of the rooms that it follows; gives up when they no longer come nearer, and
/// leaves it to the checker to say what is missing. Says how many clients are behind.
async fn all_heard(crew: &Crew, log: &Log, checker: &Checker) -> Result<usize> {
    let end =
        |room: &RoomId| checker.head(room).with_context(|| format!("nothing is known of {room}"));
    let ends: Vec<(RoomId, Cursor)> =
        log.rooms.iter().map(|room| Ok((room.clone(), end(room)?))).collect::<Result<_>>()?;
    let mut progress = Progress::new("clients have everything", crew.members.len() as u64);
    let (mut most, mut moved) = (0, Instant::now());
    loop {
        let has_all = |member: &&crew::Member| {
            let rooms: Vec<_> = member.rooms.iter().map(|room| &ends[*room]).collect();
            member.witness.has_all(rooms.into_iter())
        };
        let done = crew.members.iter().filter(has_all).count();
        progress.at(done as u64);
        if done == crew.members.len() {
            progress.done();
            return Ok(0);
        }
        if done > most {
            (most, moved) = (done, Instant::now());
        }
        if moved.elapsed() > PATIENCE {
            progress.say(&format!("only {} clients have everything", thousands(done as u64)));
            return Ok(crew.members.len() - done);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Tells the checker what the server holds: for a store that cannot be reopened.
async fn read_from_server(crew: &Crew, log: &Log, checker: &Checker) -> Result<()> {
    let service = crew.service().context("there is no service")?;
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

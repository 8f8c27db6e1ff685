//! What `im-bench replay` is told.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use im_core::wire::Encoding;

use super::fault::Faults;
use super::log::Log;
use super::server_host::StoreTarget;
use super::transport::{Choice, Route, Shares};

/// What `im-bench replay` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The chat log: a JSON object a line, gzipped or not. By default a sample of 400 lines that is built in.
    #[arg(long, conflicts_with = "synthetic")]
    pub(super) data: Option<PathBuf>,
    /// Make up a log of so many lines instead, by the seed.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) synthetic: Option<u64>,
    /// Rooms of the log that is made up.
    #[arg(long, default_value_t = 200, requires = "synthetic")]
    pub(super) rooms: u64,
    /// Replay the first so many lines of the log only.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) lines: Option<u64>,
    /// How many users the senders of the log are mapped onto, a client each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: u32,
    /// Have each client follow at least so many rooms: those in which it speaks, and others by the seed.
    #[arg(long, default_value_t = 0)]
    pub(super) rooms_per_client: usize,
    /// Over what the clients connect. With `mix` they are spread over all four transports, and whoever comes back after a
    /// cut or a kill goes on over the next one.
    #[arg(long, value_enum, default_value_t = Choice::Ws)]
    pub(super) transport: Choice,
    /// The shares of the transports in `--transport mix`; those that are not named have none.
    #[arg(long, value_name = "ws=1,sse=1,long=1,short=1")]
    pub(super) mix: Option<Shares>,
    /// Keep so many cores busy with other work from the beginning to the end.
    #[arg(long, value_name = "CORES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=256))]
    pub(super) busy: u16,
    /// How many connections to cut, without a word, while sends are pending on them.
    #[arg(long, default_value_t = 0)]
    pub(super) cuts: u64,
    /// How often to kill the server by SIGKILL, and start it again, while sends are pending. Needs a durable store.
    #[arg(long, default_value_t = 0)]
    pub(super) kills: u64,
    /// How often to kill the database, with all its processes, and start it again, while sends are pending. Needs --store
    /// postgres or mariadb.
    #[arg(long, default_value_t = 0)]
    pub(super) database_kills: u64,
    /// Where the server keeps things: memory; sled or sqlite, in a temporary folder; postgres or mariadb, on a database server
    /// that is started for the run; sled:PATH, sqlite:PATH, postgres://… or mysql://…, where nothing may be yet.
    #[arg(long, default_value = "sqlite")]
    pub(super) store: StoreTarget,
    /// Replay at this many times the log's own pace, instead of as fast as sends are acknowledged. Breaks of more than an
    /// hour are left out. Switches --least-rate off.
    #[arg(long, value_parser = pace)]
    pub(super) speed: Option<f64>,
    /// How many seconds nothing may move, no acknowledgement, no fault and no delivery, before the run is ended and fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout: u64,
    /// Sends a second, over that time, below which the run is ended and fails; 0 for none.
    #[arg(long, value_name = "SENDS", default_value_t = 50)]
    pub(super) least_rate: u32,
    /// Sends of one client that may be unacknowledged. Each sender's order is kept however many there are, also when a
    /// database refuses some for the time being.
    #[arg(long, default_value_t = 16)]
    pub(super) window: usize,
    /// How the clients write their frames.
    #[arg(long, value_enum, default_value_t = WireEncoding::Msgpack)]
    encoding: WireEncoding,
    /// Chooses message ids, who is cut, rooms beyond those spoken in, and the log that is made up.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Write what each client asked and was sent, but for sends and their acks, to a file for each in this folder; the newest
    /// 20,000 lines, if the run is not clean.
    #[arg(long, value_name = "FOLDER")]
    pub(super) trace: Option<PathBuf>,
    /// Have one client leave one room before the first send: a run that then passes proves nothing.
    #[arg(long, hide = true)]
    pub(super) drop_a_subscription: bool,
    /// Also write the report as JSON, to this file; `-` for standard output.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum WireEncoding {
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

impl Options {
    /// Refuses what makes no sense together.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.kills == 0 || self.store.is_durable(),
            "a kill takes everything from a store in memory: --kills needs another --store"
        );
        ensure!(
            self.database_kills == 0 || self.store.database().is_some(),
            "--database-kills needs a database of the run's own: --store postgres or --store mariadb"
        );
        ensure!(
            self.mix.is_none() || self.transport == Choice::Mix,
            "--mix gives the shares of --transport mix, not of --transport {}",
            self.transport
        );
        Ok(())
    }

    /// The log to replay.
    ///
    /// # Errors
    ///
    /// It cannot be read or made up, or has fewer rooms than each client is to follow.
    pub(super) fn log(&self) -> Result<Log> {
        let mut log = match (&self.data, self.synthetic) {
            (Some(path), _) => Log::open(path)?,
            (None, Some(lines)) => Log::synthetic(lines, self.rooms, self.seed)?,
            (None, None) => Log::sample()?,
        };
        if let Some(lines) = self.lines {
            log.keep_first(lines);
        }
        let (rooms, wished) = (log.rooms.len(), self.rooms_per_client);
        ensure!(wished <= rooms, "--rooms-per-client {wished}: the log has {rooms} rooms");
        Ok(log)
    }

    /// Where the log comes from, for the report.
    pub(super) fn source(&self) -> String {
        match (&self.data, self.synthetic) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(lines)) => format!("{lines} made up lines"),
            (None, None) => "the sample".into(),
        }
    }

    pub(super) fn faults(&self) -> Faults {
        let Self { cuts, kills, database_kills, .. } = *self;
        Faults { cuts, kills, database_kills }
    }

    pub(super) fn route(&self) -> Route {
        self.transport.route(&self.mix.unwrap_or_default())
    }

    /// The shares of a mix, as a person names them.
    pub(super) fn shares(&self) -> Option<String> {
        (self.transport == Choice::Mix).then(|| self.mix.unwrap_or_default().to_string())
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self.encoding {
            WireEncoding::Json => Encoding::Json,
            WireEncoding::Msgpack => Encoding::MsgPack,
        }
    }

    /// How long nothing may move, and over how long the rate is judged.
    pub(super) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout)
    }

    /// The lowest rate that passes; 0 if there is none.
    pub(super) fn least_rate(&self) -> u32 {
        if self.speed.is_some() { 0 } else { self.least_rate }
    }
}

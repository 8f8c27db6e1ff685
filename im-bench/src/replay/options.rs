//! Options of `im-bench replay`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use im_core::wire::Encoding;

use super::fault::Faults;
use super::log::Log;
use super::server_host::StoreTarget;
use super::transport::{Choice, Route, Shares};

/// Options of `im-bench replay`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The chat log: a JSON object a line, gzipped or not. By default a sample of 400 lines that is
    /// built in.
    #[arg(long, conflicts_with = "synthetic")]
    pub(super) data: Option<PathBuf>,
    /// Generate a log of so many lines by the seed instead.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) synthetic: Option<u64>,
    /// Rooms of the generated log.
    #[arg(long, default_value_t = 200, requires = "synthetic")]
    pub(super) rooms: u64,
    /// Replay only the first so many lines of the log.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) lines: Option<u64>,
    /// Number of users to which the senders of the log are mapped, a client each.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) clients: u32,
    /// Subscribe each client to at least so many rooms: its own, and others chosen by the seed.
    #[arg(long, default_value_t = 0)]
    pub(super) rooms_per_client: usize,
    /// Transport of the clients. With `mix` they are spread over all four transports, and a client
    /// reconnects over the next one after a cut or a kill.
    #[arg(long, value_enum, default_value_t = Choice::Ws)]
    pub(super) transport: Choice,
    /// Shares of the transports in `--transport mix`; transports that are not named have none.
    #[arg(long, value_name = "ws=1,sse=1,long=1,short=1")]
    pub(super) mix: Option<Shares>,
    /// Keep so many cores busy with other work during the whole run.
    #[arg(long, value_name = "CORES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=256))]
    pub(super) busy: u16,
    /// Number of connections to cut, without a close message, while sends are pending on them.
    #[arg(long, default_value_t = 0)]
    pub(super) cuts: u64,
    /// Number of kills of the server by SIGKILL, each with a restart, while sends are pending.
    /// Needs a durable store.
    #[arg(long, default_value_t = 0)]
    pub(super) kills: u64,
    /// Number of kills of the database with all its processes, each with a restart, while sends are
    /// pending. Needs --store postgres or mariadb.
    #[arg(long, default_value_t = 0)]
    pub(super) database_kills: u64,
    /// Store: memory; sled or sqlite, in a temporary folder; postgres or mariadb, on a database
    /// server that is started for the run; sled:PATH, sqlite:PATH, postgres://… or mysql://…, which
    /// must be empty or new.
    #[arg(long, default_value = "sqlite")]
    pub(super) store: StoreTarget,
    /// Replay at this many times the log's own pace, instead of as fast as sends are acked. Breaks
    /// of more than an hour are cut. Disables --least-rate.
    #[arg(long, value_parser = pace)]
    pub(super) speed: Option<f64>,
    /// Seconds without an ack, a fault or a delivery after which the run fails.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
    stall_timeout: u64,
    /// Sends a second, over that time, below which the run fails; 0 for none.
    #[arg(long, value_name = "SENDS", default_value_t = 50)]
    pub(super) least_rate: u32,
    /// Maximum number of unacked sends of one client. Sender order holds for any number, also when
    /// a database causes retryable refusals.
    #[arg(long, default_value_t = 16)]
    pub(super) window: usize,
    /// Encoding of the clients' frames.
    #[arg(long, value_enum, default_value_t = WireEncoding::Msgpack)]
    encoding: WireEncoding,
    /// Seed of message ids, cuts, additional subscriptions and the generated log.
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Write the commands and frames of each client, without sends and their acks, to a file in
    /// this folder if the run is not clean; the newest 20,000 lines.
    #[arg(long, value_name = "FOLDER")]
    pub(super) trace: Option<PathBuf>,
    /// Unsubscribe one client from one room before the first send: the run must then fail.
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
    let speed: f64 = text.parse().map_err(|_| "expected a number")?;
    if speed.is_finite() && speed > 0.0 {
        Ok(speed)
    } else {
        Err("expected a number above 0".into())
    }
}

impl Options {
    /// Checks that the options can be combined.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(
            self.kills == 0 || self.store.is_durable(),
            "--kills needs another --store: a store in memory loses everything in a kill"
        );
        ensure!(
            self.database_kills == 0 || self.store.database().is_some(),
            "--database-kills needs a database of the run's own: --store postgres or --store mariadb"
        );
        ensure!(
            self.mix.is_none() || self.transport == Choice::Mix,
            "--mix sets the shares of --transport mix, not of --transport {}",
            self.transport
        );
        Ok(())
    }

    /// Returns the log to replay.
    ///
    /// # Errors
    ///
    /// If it cannot be read or generated, or has fewer rooms than each client has subscriptions.
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

    /// Returns the source of the log for the report.
    pub(super) fn source(&self) -> String {
        match (&self.data, self.synthetic) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(lines)) => format!("{lines} generated lines"),
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

    /// Returns the shares of a mix for the report.
    pub(super) fn shares(&self) -> Option<String> {
        (self.transport == Choice::Mix).then(|| self.mix.unwrap_or_default().to_string())
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self.encoding {
            WireEncoding::Json => Encoding::Json,
            WireEncoding::Msgpack => Encoding::MsgPack,
        }
    }

    /// Returns the longest time without progress, which is also the window of the rate.
    pub(super) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout)
    }

    /// Returns the lowest rate that passes; 0 if there is none.
    pub(super) fn least_rate(&self) -> u32 {
        if self.speed.is_some() { 0 } else { self.least_rate }
    }
}

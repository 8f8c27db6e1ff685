//! The load of one measurement: readers that only count, and one sender with a fixed rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::SinkExt;
use futures::stream::{SplitSink, StreamExt, TryStreamExt};
use hdrhistogram::Histogram;
use im_core::wire::{
    self, Command, CommandBody, Encoding, Limits, Map, RoomKind, ServerFrame, Target,
};
use im_core::{CommandId, EventKind, MessageId, RoomId, UserId};
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{Options, Sample};
use crate::child::Server;
use crate::host;
use crate::socket::{Socket, Talker, connect};
use crate::subject::Subject;

/// Precedes the due time of a message, 20 digits of nanoseconds.
const MARK: &str = "@t=";
const DIGITS: usize = 20;

/// The name of the room on either server.
const ROOM: &str = "fanout";

/// Connections that are opened concurrently.
const OPENING: usize = 32;

/// The longest time without a delivery before a measurement fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The deliveries to all readers.
struct Tally {
    begin: Instant,
    arrived: AtomicU64,
    acknowledged: AtomicU64,
    /// Nanoseconds from the due time of a message to its delivery.
    late: Mutex<Histogram<u64>>,
}

impl Tally {
    fn new() -> Result<Self> {
        let late = Histogram::new_with_bounds(1_000, 120_000_000_000, 3)?;
        Ok(Self {
            begin: Instant::now(),
            arrived: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            late: late.into(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Counts the messages in one read: one, or several that were batched.
    fn take(&self, text: &str) {
        let now = self.now();
        let mut late = self.late.lock();
        for (at, _) in text.match_indices(MARK) {
            let due = text
                .get(at + MARK.len()..at + MARK.len() + DIGITS)
                .and_then(|digits| digits.parse::<u64>().ok());
            if let Some(due) = due {
                late.saturating_record(now.saturating_sub(due));
                self.arrived.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until `wanted` messages have arrived since the beginning.
    async fn until(&self, wanted: u64) -> Result<()> {
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let arrived = self.arrived.load(Ordering::Relaxed);
            if arrived >= wanted {
                ensure!(
                    arrived == wanted,
                    "{arrived} messages arrived, but only {wanted} were due"
                );
                return Ok(());
            }
            if arrived != last {
                (last, moved) = (arrived, Instant::now());
            }
            ensure!(moved.elapsed() < PATIENCE, "only {arrived} of {wanted} messages arrived");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// Measures a running server.
pub(super) async fn run(subject: Subject, server: &Server, options: &Options) -> Result<Sample> {
    let tally = Arc::new(Tally::new()?);
    let mut tasks = JoinSet::new();
    let sender = open_sender(subject, server).await?;
    for reader in open_subscribers(subject, server, options.subscribers as usize).await? {
        tasks.spawn(read(reader, tally.clone()));
    }
    let (sink, answers) = sender.split();
    let mut sender = Sender { subject, sink, sent: 0, size: options.size as usize };
    tasks.spawn(drain_sender(subject, answers, tally.clone()));
    let measured = async {
        let subscribers = u64::from(options.subscribers);
        let warm = sender.beat(&tally, options.rate, options.rate).await?;
        tally.until(warm * subscribers).await?;
        tally.late.lock().reset();
        let before = (host::cpu_time(server.pid())?, host::cpu_time(std::process::id())?);
        let sent = sender.beat(&tally, options.rate, options.rate * options.seconds).await?;
        tally.until((warm + sent) * subscribers).await?;
        let after = (host::cpu_time(server.pid())?, host::cpu_time(std::process::id())?);
        if matches!(subject, Subject::Engine(_)) {
            let acknowledged = tally.acknowledged.load(Ordering::Relaxed);
            ensure!(
                acknowledged == warm + sent,
                "{acknowledged} of {} sends were acked",
                warm + sent
            );
        }
        Ok(sample(
            subject,
            sent * subscribers,
            after.0 - before.0,
            after.1 - before.1,
            &tally.late.lock(),
        ))
    };
    tokio::select! {
        sample = measured => sample,
        Some(ended) = tasks.join_next() => {
            ended??;
            bail!("a connection ended during the measurement")
        }
    }
}

fn sample(
    subject: Subject,
    deliveries: u64,
    server: Duration,
    generator: Duration,
    late: &Histogram<u64>,
) -> Sample {
    let each = |time: Duration| time.as_secs_f64() * 1e6 / deliveries as f64;
    let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    Sample {
        server: subject.name(),
        deliveries,
        cpu_us_per_delivery: each(server),
        generator_us_per_delivery: each(generator),
        p50_ms: ms(late.value_at_quantile(0.50)),
        p99_ms: ms(late.value_at_quantile(0.99)),
        max_ms: ms(late.max()),
    }
}

async fn open_sender(subject: Subject, server: &Server) -> Result<Socket> {
    if subject == Subject::Naive {
        return connect(server.address, &format!("/{ROOM}"), None, 0).await;
    }
    let mut owner = Talker::open(server.address, &UserId::new("owner")?, 0).await?;
    let create = CommandBody::Create {
        room: RoomId::new(ROOM)?,
        kind: RoomKind::Channel,
        open: true,
        members: Vec::new(),
    };
    owner.call(create).await?;
    Ok(owner.into_socket())
}

async fn open_subscribers(
    subject: Subject,
    server: &Server,
    subscribers: usize,
) -> Result<Vec<Socket>> {
    let address = server.address;
    let open = |nth: usize| async move {
        if subject == Subject::Naive {
            return connect(address, &format!("/{ROOM}"), None, nth).await;
        }
        let mut reader = Talker::open(address, &UserId::new(format!("reader-{nth}"))?, nth).await?;
        reader.call(CommandBody::Subscribe { room: RoomId::new(ROOM)?, since: None }).await?;
        Ok(reader.into_socket())
    };
    futures::stream::iter(1..=subscribers).map(open).buffer_unordered(OPENING).try_collect().await
}

async fn read(mut socket: Socket, tally: Arc<Tally>) -> Result<()> {
    while let Some(message) = socket.next().await {
        if let Message::Text(text) = message? {
            tally.take(&text);
        }
    }
    bail!("the server closed a reader's connection")
}

/// Reads the sender's connection: the engine's acks; the naive server's echo, which is no delivery.
async fn drain_sender(
    subject: Subject,
    mut answers: futures::stream::SplitStream<Socket>,
    tally: Arc<Tally>,
) -> Result<()> {
    let limits = Limits::default();
    while let Some(message) = answers.next().await {
        let Message::Text(text) = message? else { continue };
        if subject == Subject::Naive {
            continue;
        }
        for frame in wire::decode(text.as_bytes(), Encoding::Json, &limits)? {
            match ServerFrame::from_value(frame)? {
                ServerFrame::Ok { .. } => _ = tally.acknowledged.fetch_add(1, Ordering::Relaxed),
                ServerFrame::Err(error) => {
                    bail!("a send was refused: {} ({})", error.message, error.code)
                }
                _ => {}
            }
        }
    }
    bail!("the server closed the sender's connection")
}

struct Sender {
    subject: Subject,
    sink: SplitSink<Socket, Message>,
    sent: u64,
    size: usize,
}

impl Sender {
    /// Sends `count` messages, `rate` a second. A late message still has its due time, so that a
    /// slow phase counts in the latencies.
    async fn beat(&mut self, tally: &Tally, rate: u32, count: u32) -> Result<u64> {
        let begin = Instant::now();
        let offset = tally.now();
        for nth in 0..count {
            let due = Duration::from_secs_f64(f64::from(nth) / f64::from(rate));
            tokio::time::sleep_until((begin + due).into()).await;
            let due = offset + u64::try_from(due.as_nanos())?;
            let message = self.message(due)?;
            self.sink.send(message).await.context("send")?;
        }
        Ok(u64::from(count))
    }

    fn message(&mut self, due: u64) -> Result<Message> {
        let mut payload = format!("{MARK}{due:0DIGITS$}");
        payload.extend(std::iter::repeat_n('.', self.size.saturating_sub(payload.len())));
        if self.subject == Subject::Naive {
            return Ok(Message::text(payload));
        }
        // Continues the command ids that opening the connection used.
        self.sent += 1;
        let id = CommandId(1_000 + self.sent);
        let body = CommandBody::Send {
            to: Target::Room(RoomId::new(ROOM)?),
            id: MessageId::now_v7(),
            kind: EventKind::message(),
            content: Map::from_iter([("text", payload)]).into(),
        };
        let frame = wire::encode(&Command { id, body }.to_value(), Encoding::Json);
        Ok(Message::Text(Utf8Bytes::try_from(frame)?))
    }
}

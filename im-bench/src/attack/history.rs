//! Attackers that request pages of control characters, six characters each in JSON, and read no
//! answer.
//!
//! A room holds ten messages of 32 KB. Each attacker sends 64 commands in a message, by POST or
//! over WebSocket. The memory of the server is sampled every 10 ms. With `--read` the attackers
//! read, and their pages are counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use im_core::wire::{
    Command, CommandBody, Encoding, Map, PageFrom, RoomKind, Target, encode, list_encoded,
};
use im_core::{CommandId, EventKind, MessageId, RoomId, Seq, UserId};
use im_testkit::transport_suite::http::Client;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::{At, Setup};
use crate::child::Server;
use crate::host;
use crate::serve::EDGE;
use crate::socket::Talker;

/// Options of `im-bench attack history`.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Options {
    /// The transport of the attackers.
    #[arg(long, value_enum, default_value_t = Over::Post)]
    over: Over,
    /// Connections of each attacker.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Let attackers read the pages.
    #[arg(long)]
    read: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Over {
    /// Commands by POST.
    Post,
    /// A WebSocket.
    Ws,
}

/// Commands in one message.
const BATCH: u64 = 64;
/// Messages in the room; below, the characters of each.
const MESSAGES: usize = 10;
const CHARACTERS: usize = 32_000;
/// The maximum growth of the server's memory in bytes.
const MOST_GROWTH: u64 = 512 << 20;
/// The minimum pages a second for all reading attackers together.
const LEAST_PAGES: u64 = 50;
/// The maximum bytes of a page.
const MOST_PAGE: usize = 256 * 1024;
/// The start of a frame in JSON, and the start of a non-empty list of events.
const FRAME: &str = "{\"t\":\"";
const EVENTS: &str = "\"events\":[{";
/// The interval of the memory samples.
const SAMPLE: Duration = Duration::from_millis(10);

/// The counts of all attackers.
#[derive(Debug, Default)]
struct Got {
    pages: AtomicU64,
    refused: AtomicU64,
    /// Bytes of the largest page.
    largest: AtomicU64,
    /// Connections that ended.
    ended: AtomicU64,
}

/// Attacks until `until`.
pub(super) async fn run(
    options: &Options,
    setup: &Setup,
    server: &Server,
    until: Instant,
) -> Result<Vec<String>> {
    let before = host::resident_bytes(server.pid())?;
    fill(server.address).await?;
    let (begun, got) = (Instant::now(), Arc::new(Got::default()));
    let over = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(watch(server.pid(), over.clone()));
    let mut attackers = Vec::new();
    for nth in 0..setup.attackers * options.connections {
        let user = UserId::new(format!("attacker{}", nth / options.connections))?;
        let (options, got, at) = (options.clone(), got.clone(), server.address);
        attackers.push(tokio::spawn(async move {
            let attacking = attack(&options, at, &user, nth as usize + 1, &got);
            tokio::time::timeout_at(until.into(), attacking).await.unwrap_or(Ok(()))
        }));
    }
    for attacker in attackers {
        attacker.await??;
    }
    over.store(true, Ordering::Relaxed);
    let most = watching.await??;
    report(options, before, most, begun.elapsed(), &got)
}

fn report(
    options: &Options,
    before: u64,
    most: u64,
    took: Duration,
    got: &Got,
) -> Result<Vec<String>> {
    let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let growth = most.saturating_sub(before);
    println!("  memory: {} MiB before, {} MiB at most", before >> 20, most >> 20);
    println!(
        "  {} pages, the largest of {} bytes; {} refused; {} connections ended",
        of(&got.pages),
        of(&got.largest),
        of(&got.refused),
        of(&got.ended)
    );
    let mut faults = Vec::new();
    if growth > MOST_GROWTH {
        faults.push(format!("the server grew by {} MiB", growth >> 20));
    }
    if of(&got.largest) > MOST_PAGE as u64 {
        faults.push(format!("a page has {} bytes", of(&got.largest)));
    }
    let due = took.as_secs() * LEAST_PAGES;
    if options.read && of(&got.pages) < due {
        faults.push(format!("attackers who read got {} pages; {due} are due", of(&got.pages)));
    }
    Ok(faults)
}

/// Returns the highest memory of the server, in bytes, until `over` is set.
async fn watch(pid: u32, over: Arc<AtomicBool>) -> Result<u64> {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        most = most.max(host::resident_bytes(pid)?);
        tokio::time::sleep(SAMPLE).await;
    }
    Ok(most)
}

fn room() -> Result<RoomId> {
    Ok(RoomId::new("attacked")?)
}

async fn fill(at: At) -> Result<()> {
    let mut owner = Talker::open_in(Encoding::MsgPack, at, &UserId::new("owner")?, 0).await?;
    let (kind, members) = (RoomKind::Channel, Vec::new());
    owner.call(CommandBody::Create { room: room()?, kind, open: true, members }).await?;
    for _ in 0..MESSAGES {
        let body = CommandBody::Send {
            to: Target::Room(room()?),
            id: MessageId::now_v7(),
            kind: EventKind::message(),
            content: Map::from_iter([("text", "\u{1}".repeat(CHARACTERS))]).into(),
        };
        owner.call(body).await?;
    }
    Ok(())
}

fn asking() -> Result<Bytes> {
    let room = room()?;
    let frame = |id: u64| {
        let from = PageFrom::Before(Seq::MAX);
        let body = CommandBody::History { room: room.clone(), epoch: None, from, limit: 200 };
        encode(&Command { id: CommandId(id), body }.to_value(), Encoding::Json)
    };
    let frames: Vec<Bytes> = (1..=BATCH).map(|n| frame(n + 100)).collect();
    Ok(list_encoded(&frames, Encoding::Json))
}

async fn attack(options: &Options, at: At, user: &UserId, nth: usize, got: &Got) -> Result<()> {
    let asking = asking()?;
    loop {
        let ended = match options.over {
            Over::Post => by_post(options, at, user, &asking, got).await,
            Over::Ws => over_ws(options, at, user, nth, &asking, got).await,
        };
        // The server may disconnect attackers; they reconnect.
        if let Err(error) = ended {
            tracing::debug!(%error, "an attacker was ended");
        }
        got.ended.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn by_post(
    options: &Options,
    at: At,
    user: &UserId,
    asking: &Bytes,
    got: &Got,
) -> Result<()> {
    let head = format!("POST {EDGE}/send");
    let json = ("content-type", "application/json".to_owned());
    let mut client = Client::connect(at).await?;
    let hello = json!({"t": "hello", "id": 1, "v": 1, "user": user.as_str()}).to_string();
    let answer = client.ask(&head, std::slice::from_ref(&json), hello.as_bytes()).await?.json();
    let text = |name: &str| answer[0][name].as_str().context("the reply to `hello` has no session");
    let session = ("im-session", format!("{} {}", text("session")?, text("secret")?));
    let headers = [json, session];
    loop {
        if options.read {
            let answer = client.ask(&head, &headers, asking).await?;
            ensure!(answer.status == 200, "status {}", answer.status);
            // A batch of frames, none of which contains another.
            let text = std::str::from_utf8(&answer.body)?;
            let begins = text.match_indices(FRAME).map(|(at, _)| at);
            let ends = begins.clone().skip(1).chain([text.len()]);
            begins.zip(ends).for_each(|(begin, end)| got.count(&text[begin..end]));
        } else {
            client.begin(&head, &headers, asking).await?;
        }
    }
}

async fn over_ws(
    options: &Options,
    at: At,
    user: &UserId,
    nth: usize,
    asking: &Bytes,
    got: &Got,
) -> Result<()> {
    let talker = Talker::open_in(Encoding::Json, at, user, nth).await?;
    let mut socket = talker.into_socket();
    loop {
        let message = Message::Text(Utf8Bytes::try_from(asking.clone())?);
        socket.send(message).await?;
        let mut due = if options.read { BATCH } else { 0 };
        while due > 0 {
            let message = socket.next().await.context("the server closed the connection")??;
            if let Message::Text(frame) = message {
                got.count(&frame);
                due -= 1;
            }
        }
    }
}

impl Got {
    fn count(&self, frame: &str) {
        match frame.contains(EVENTS) {
            true => {
                self.pages.fetch_add(1, Ordering::Relaxed);
                self.largest.fetch_max(frame.len() as u64, Ordering::Relaxed);
            }
            false => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

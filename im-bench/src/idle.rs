//! `im-bench idle`: the memory cost of an idle connection.
//!
//! Every connection is authenticated, is in a room of ten, has sent one message and has received at
//! least one. The server's memory is read before the first connection and after the last, when all
//! are silent.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use im_core::wire::{CommandBody, Map, RoomKind, Target, Value};
use im_core::{EventKind, MessageId, RoomId, UserId};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;

use crate::child::Server;
use crate::host;
use crate::report::{Progress, thousands, write_json};
use crate::socket::{Socket, Talker, connect, keep_reading};
use crate::subject::{Cores, StoreChoice, Subject};

/// Options of `im-bench idle`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Number of connections.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..))]
    connections: u32,
    /// Store of the engine.
    #[arg(long, default_value = "memory")]
    store: StoreChoice,
    /// Seconds of silence before memory is read.
    #[arg(long, default_value_t = 5)]
    settle: u64,
    /// Also write the report as JSON, to this file; `-` for standard output.
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) cores: Cores,
}

/// Members of one room.
const GROUP: usize = 10;

/// Rooms that are filled concurrently.
const FILLING: usize = 16;

/// The memory of one server.
#[derive(Debug, Serialize)]
struct Footprint {
    server: &'static str,
    connections: u64,
    bytes_before: u64,
    bytes_after: u64,
    bytes_per_connection: u64,
}

/// Measures the engine, then the naive server, and reports.
pub(crate) async fn run(options: Options) -> Result<()> {
    host::allow_open_files(u64::from(options.connections) + 100)?;
    let mut report = Vec::new();
    for subject in [Subject::Engine(options.store.kind()), Subject::Naive] {
        report.push(
            measure(subject, &options)
                .await
                .with_context(|| format!("idle: {}", subject.name()))?,
        );
    }
    println!(
        "{:<16} {:>12} {:>14} {:>14} {:>16}",
        "server", "connections", "KiB before", "KiB after", "bytes each"
    );
    for line in &report {
        println!(
            "{:<16} {:>12} {:>14} {:>14} {:>16}",
            line.server,
            thousands(line.connections),
            thousands(line.bytes_before / 1024),
            thousands(line.bytes_after / 1024),
            thousands(line.bytes_per_connection),
        );
    }
    options.json.as_deref().map_or(Ok(()), |path| write_json(path, &report))
}

async fn measure(subject: Subject, options: &Options) -> Result<Footprint> {
    let data = tempfile::tempdir()?;
    let server = subject.start(&options.store, data.path(), options.cores.server()).await?;
    let bytes_before = host::resident_bytes(server.pid())?;
    let held = fill(subject, server.address, options.connections as usize).await?;
    quiet(&server, Duration::from_secs(options.settle)).await?;
    let bytes_after = host::resident_bytes(server.pid())?;
    let lost = held.iter().filter(|connection| connection.is_finished()).count();
    ensure!(lost == 0, "the server closed {lost} idle connections");
    held.iter().for_each(JoinHandle::abort);
    server.stop().await?;
    let connections = held.len() as u64;
    let bytes_per_connection = bytes_after.saturating_sub(bytes_before) / connections;
    Ok(Footprint {
        server: subject.name(),
        connections,
        bytes_before,
        bytes_after,
        bytes_per_connection,
    })
}

/// Waits until the server has been nearly idle for `settle`.
async fn quiet(server: &Server, settle: Duration) -> Result<()> {
    loop {
        let before = host::cpu_time(server.pid())?;
        tokio::time::sleep(settle.max(Duration::from_millis(100))).await;
        if host::cpu_time(server.pid())? - before < settle / 10 + Duration::from_millis(20) {
            return Ok(());
        }
    }
}

/// Opens all connections, room by room; each is read as long as its task lives.
async fn fill(
    subject: Subject,
    server: SocketAddr,
    connections: usize,
) -> Result<Vec<JoinHandle<Result<()>>>> {
    let mut progress = Progress::new(subject.name(), connections as u64);
    let rooms: Vec<std::ops::Range<usize>> = (0..connections)
        .step_by(GROUP)
        .map(|first| first..(first + GROUP).min(connections))
        .collect();
    let mut filled = futures::stream::iter(rooms.into_iter().enumerate())
        .map(|(room, members)| async move {
            match subject {
                Subject::Engine(_) => engine_room(server, room, members).await,
                Subject::Naive => naive_room(server, room, members).await,
            }
        })
        .buffer_unordered(FILLING);
    let mut held = Vec::with_capacity(connections);
    while let Some(sockets) = filled.try_next().await? {
        held.extend(sockets.into_iter().map(|socket| tokio::spawn(keep_reading(socket))));
        progress.at(held.len() as u64);
    }
    progress.done();
    Ok(held)
}

async fn engine_room(
    server: SocketAddr,
    nth: usize,
    members: std::ops::Range<usize>,
) -> Result<Vec<Socket>> {
    let room = RoomId::new(format!("idle-{nth}"))?;
    let open = |member: usize| async move {
        Talker::open(server, &UserId::new(format!("user-{member}"))?, member).await
    };
    let mut talkers = Vec::with_capacity(members.len());
    for member in members {
        let mut talker = open(member).await?;
        let enter = match talkers.is_empty() {
            true => CommandBody::Create {
                room: room.clone(),
                kind: RoomKind::Group,
                open: true,
                members: Vec::new(),
            },
            false => CommandBody::Join { room: room.clone() },
        };
        talker.call(enter).await?;
        talker.call(CommandBody::Subscribe { room: room.clone(), since: None }).await?;
        talkers.push(talker);
    }
    for talker in &mut talkers {
        let content = Value::Map(Map::from_iter([("text", "hello, everyone")]));
        let (to, id, kind) =
            (Target::Room(room.clone()), MessageId::now_v7(), EventKind::message());
        talker.call(CommandBody::Send { to, id, kind, content }).await?;
    }
    talkers
        .into_iter()
        .map(|mut talker| async move { talker.until_an_event().await.map(|()| talker.into_socket()) })
        .collect::<FuturesUnordered<_>>()
        .try_collect()
        .await
}

async fn naive_room(
    server: SocketAddr,
    nth: usize,
    members: std::ops::Range<usize>,
) -> Result<Vec<Socket>> {
    use futures::SinkExt as _;
    let mut sockets = Vec::with_capacity(members.len());
    for member in members {
        sockets.push(connect(server, &format!("/idle-{nth}"), None, member).await?);
    }
    for socket in &mut sockets {
        socket.send(Message::text("hello, everyone")).await?;
    }
    for socket in &mut sockets {
        socket.next().await.context("the server closed the connection")??;
    }
    Ok(sockets)
}

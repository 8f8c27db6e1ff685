//! Serves the battle of this crate's library.
//!
//! ```sh
//! cargo run --release -p monster-battle
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, ValueEnum};
use im_core::engine::Engine;
use im_http::{Edge, Listener, ListenerConfig, UplinkConfig};
use im_stores::StoreAddress;
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket, WsConfig};
use monster_battle::arena::Arena;
use monster_battle::{access, bots, heads::Heads, page};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use warp::Filter;

/// How long open connections may take to end at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Families fight a monster: open the page, choose a name and a family, and strike.
///
/// The page plays the same game over WebSocket, Server-Sent Events, long polling and short polling
/// side by side, and measures each of them. Nothing else has to be installed. Ctrl-C or SIGTERM
/// shuts it down gracefully.
///
/// Any name is accepted without a password. For users who log in, see examples/embed-axum.
#[derive(Parser)]
#[command(version, after_help = "RUST_LOG=debug logs more, RUST_LOG=warn logs less.")]
struct Flags {
    /// Address and port to listen on. Use 0.0.0.0:8082 to allow phones and other machines, and port
    /// 0 for any free port.
    #[arg(long, env = "IM_LISTEN", default_value = "127.0.0.1:8082")]
    listen: SocketAddr,
    /// The store of the battle: memory, lost when the server ends; sqlite (in im-data) or
    /// sqlite:FILE.
    #[arg(long, env = "IM_STORE", hide_env_values = true, default_value = "memory")]
    store: StoreAddress,
    /// Transport that the page starts with. It can be changed in the page.
    #[arg(long, value_enum, default_value = "all")]
    transport: Transport,
    /// Number of bots, which fight while the page is open somewhere: 0 to 8.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(0..=bots::MOST as i64))]
    bots: u8,
    /// Milliseconds until the next monster appears.
    #[arg(long, default_value_t = 3000)]
    respawn_ms: u64,
}

#[derive(Clone, ValueEnum)]
enum Transport {
    /// All four side by side.
    All,
    /// The best one that works.
    Auto,
    /// WebSocket.
    Ws,
    /// Server-Sent Events.
    Sse,
    /// Long polling.
    Poll,
    /// Short polling, every 3 s.
    Short,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(levels).init();

    // Each connection is an open file.
    im_http::raise_file_limit();
    let store = flags.store.open().await?;
    let engine = Engine::builder()
        .authenticator(Arc::new(access::Players))
        .hooks(Arc::new(access::Rules))
        .store(Arc::clone(&store))
        .start()
        .await?;
    let arena = Arena::open(engine.clone()).await?;
    for number in 0..usize::from(flags.bots) {
        tokio::spawn(bots::fight(engine.clone(), arena.clone(), number));
    }
    let battle = tokio::spawn(arena.run(Duration::from_millis(flags.respawn_ms)));

    // Four transports, one prefix, one port.
    let edge = Edge::new(engine.clone(), UplinkConfig::default())
        .at("/im")
        .mount(WebSocket::new(engine.clone(), WsConfig::default()))
        .mount(Sse::new(engine.clone(), SseConfig::default()))
        .mount(LongPoll::new(engine.clone(), LongPollConfig::default()));
    let name = flags.transport.to_possible_value().context("every transport has a name")?;
    let routes = warp::path("im")
        .and(im_http::warp::mount(Heads::new(edge)))
        .or(page::routes(name.get_name()));

    let socket = tokio::net::TcpListener::bind(flags.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", flags.listen)
    })?;
    tracing::info!("open http://{} in a browser; Ctrl-C ends", socket.local_addr()?);

    let drain = async move {
        let _ = im_http::shutdown_signal().await;
        tracing::info!("shutting down: disconnecting clients with a retry delay");
        engine.drain(SHUTDOWN_TIMEOUT).await;
    };
    // Not `warp::serve`, which has no time-out for silent peers. `stop_within` bounds the wait for
    // clients that do not read.
    let bounds = ListenerConfig::default().stop_within(SHUTDOWN_TIMEOUT);
    let listener = Listener::from_socket(socket).config(bounds);
    listener.serve_until(warp::service(routes), drain).await?;
    battle.await?.context("the battle")?;
    store.close().await?;
    Ok(())
}

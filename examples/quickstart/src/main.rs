//! A complete chat server: WebSocket and plain HTTP, SQLite in a file, and a page to open.
//!
//! ```sh
//! cargo run --release -p quickstart
//! cargo run --release -p quickstart --features sled -- --store sled   # or postgres, mysql, all-stores
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `copies` | the subcommands besides the server: export, import, backup, restore |
//! | `words` | the log lines at start |

mod copies;
mod words;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use axum::{Extension, Router, http::header, routing::get};
use clap::Parser;
use im_core::{
    engine::Engine,
    ports::{Allowance, Allowances, Retention},
};
use im_http::{Edge, Hosts, Listener, ListenerConfig, Origin, OriginPolicy, Origins, UplinkConfig};
use im_transport_longpoll::{LongPoll, LongPollConfig};
use im_transport_sse::{Sse, SseConfig};
use im_transport_ws::{WebSocket, WsConfig};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::prelude::*;

/// Returns memory after a burst, and is faster than the system's allocator with many threads and
/// small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A chat server: open its page in a browser, pick a name and a room, and talk.
///
/// Nothing else has to be installed. Messages are stored in a file and survive a power loss; start
/// it again in the same folder to continue. Ctrl-C or SIGTERM shuts it down gracefully: clients
/// reconnect later.
///
/// Any name is accepted without a password. For users who log in, see examples/embed-axum.
#[derive(Parser)]
#[command(
    version,
    after_help = "Quotas, unless --no-quotas is given: an address may open 300 sessions and make 60 rooms at once and as many an hour, and\n\
                  send 4,000 commands at once and 400 a second; a user may make 30 rooms and store 32 MiB at once and as much an\n\
                  hour. What is over is refused with 4200 and the time to wait.\n\
                  To build with another store: `cargo run --release -p quickstart --features sled -- --store sled`.\n\
                  RUST_LOG=debug logs more, RUST_LOG=warn logs less."
)]
struct Flags {
    /// Address and port to listen on. Use 0.0.0.0:8080 to allow other machines, and port 0 for any
    /// free port.
    #[arg(long, env = "IM_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The store of messages: sqlite (in im-data), sqlite:FILE, or memory, which is lost when the
    /// server ends; with the features `sled`, `postgres`, `mysql` or `all-stores` of the build also
    /// sled, sled:FOLDER, postgres://…, mysql://…. It is created if it does not exist. One server
    /// at a time can use a folder or a file.
    #[arg(long, env = "IM_STORE", hide_env_values = true, default_value = "sqlite", global = true)]
    store: String,
    /// Another origin under which browsers reach this server, such as `https://chat.example.org`,
    /// if a proxy is in front of it: its pages may connect, and requests may name its host. Several
    /// are separated by commas.
    #[arg(long, env = "IM_ORIGIN", value_delimiter = ',', value_parser = Origin::parse)]
    origin: Vec<Origin>,
    /// The address of such a proxy, such as 127.0.0.1, whose X-Forwarded-For is trusted. Several
    /// are separated by commas.
    #[arg(long, env = "IM_PROXY", value_delimiter = ',')]
    proxy: Vec<IpAddr>,
    /// Number of last messages that each room keeps; older ones are removed. All of them by
    /// default.
    #[arg(long, env = "IM_KEEP_MESSAGES")]
    keep_messages: Option<u64>,
    /// Age in days after which messages are removed. None by default.
    #[arg(long, env = "IM_KEEP_DAYS")]
    keep_days: Option<u64>,
    /// No bounds on the use by one address and one user. For a server behind a proxy, which makes
    /// all clients one address.
    #[arg(long, env = "IM_NO_QUOTAS")]
    no_quotas: bool,
    #[command(subcommand)]
    copies: Option<copies::Copies>,
}

/// Path, type and text of the page's files, embedded in the binary.
const PAGE: [(&str, &str, &str); 8] = [
    ("/", "text/html; charset=utf-8", include_str!("../page/index.html")),
    ("/chat.css", "text/css; charset=utf-8", include_str!("../page/chat.css")),
    ("/chat.js", "text/javascript; charset=utf-8", include_str!("../page/chat.js")),
    ("/messages.js", "text/javascript; charset=utf-8", include_str!("../page/messages.js")),
    ("/names.js", "text/javascript; charset=utf-8", include_str!("../page/names.js")),
    ("/room.js", "text/javascript; charset=utf-8", include_str!("../page/room.js")),
    ("/connection.js", "text/javascript; charset=utf-8", include_str!("../page/connection.js")),
    ("/icon.svg", "image/svg+xml", include_str!("../page/icon.svg")),
];

/// The page runs its own scripts only, whatever a message contains.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Quotas of anonymous users: enough for a full room behind one address, too little to fill a disk.
/// `--help` lists them.
fn quotas() -> Allowances {
    let hourly =
        |amount: u64| Allowance { amount, per: Duration::from_secs(3600), at_once: amount };
    let commands = Allowance { amount: 400, per: Duration::from_secs(1), at_once: 4000 };
    Allowances::none()
        .sessions_per_address(hourly(300))
        .rooms_per_address(hourly(60))
        .commands_per_address(commands)
        .rooms_per_user(hourly(30))
        .bytes_per_user(hourly(32 << 20))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    let logs = tracing_subscriber::registry().with(levels);
    let at = words::store(&flags.store)?;
    if let Some(copies) = flags.copies {
        // The output of `export` is on standard output.
        logs.with(fmt::layer().with_writer(std::io::stderr)).init();
        return copies.run(&at).await;
    }
    logs.with(fmt::layer()).init();

    // Each connection is an open file.
    im_http::raise_file_limit();
    let store = at.open().await?;
    // No authentication: anyone can write under any name. A service with users of its own passes an
    // `Authenticator` to the engine here.
    let day = |days: u64| Duration::from_secs(days.saturating_mul(24 * 3600));
    let keep = Retention {
        age: flags.keep_days.map(day),
        count: flags.keep_messages,
        ..Retention::default()
    };
    let mut engine = Engine::builder().allow_anonymous().store(Arc::clone(&store));
    if !flags.no_quotas {
        engine = engine.quotas(Arc::new(quotas()));
    }
    let engine = engine.retention(Arc::new(keep)).start().await?;

    // Pages that may connect, and host names that are answered besides local ones.
    let hosts: Vec<String> = flags.origin.iter().map(|origin| origin.host().to_owned()).collect();
    let bounds = ListenerConfig::default().proxies(flags.proxy);
    let bounds = if hosts.is_empty() { bounds } else { bounds.hosts(Hosts::LocalAnd(hosts)) };
    let origins = Origins::new(OriginPolicy::SameOriginAnd(flags.origin));

    let ws = WebSocket::new(engine.clone(), WsConfig::default());
    // The same over plain HTTP, for clients that cannot use WebSocket.
    let edge = Edge::new(engine.clone(), UplinkConfig::default())
        .origins(origins.clone())
        .mount(ws.clone())
        .mount(Sse::new(engine.clone(), SseConfig::default()))
        .mount(LongPoll::new(engine.clone(), LongPollConfig::default()));
    let mut app = Router::new().route_service("/ws", ws).layer(Extension(origins));
    app = app.nest_service("/im", edge);
    for (path, kind, text) in PAGE {
        let headers = [
            (header::CONTENT_TYPE, kind),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        app = app.route(path, get(move || async move { (headers, text) }));
    }
    let listener = tokio::net::TcpListener::bind(flags.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", flags.listen)
    })?;
    let here = listener.local_addr()?;
    tracing::info!("{}", words::data(&at, store.durability()));
    tracing::info!("{}", words::access(here, &bounds.hosts));
    tracing::info!("{}", words::limits(engine.config(), &bounds, &keep, !flags.no_quotas));
    tracing::info!("open http://{here} in a browser; Ctrl-C ends");

    let drain = async move {
        let _ = im_http::shutdown_signal().await;
        tracing::info!("shutting down: disconnecting clients with a retry delay");
        engine.drain(Duration::from_secs(5)).await;
    };
    // Not `axum::serve`, which has no time-out for silent peers.
    Listener::from_socket(listener).config(bounds).serve_until(app, drain).await?;
    store.close().await?;
    Ok(())
}

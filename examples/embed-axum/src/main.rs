//! Serves the shop of this crate's library.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use embed_axum::{Shop, chat, routes};
use im_http::Listener;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

/// A shop with its own users that embeds the chat engine. Log in as ada, bela or chidi; the
/// password is the name.
///
/// Data is kept in memory and lost on restart.
#[derive(Parser)]
#[command(version)]
struct Flags {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let levels = std::env::var("RUST_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let levels = levels.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    tracing_subscriber::registry().with(tracing_subscriber::fmt::layer()).with(levels).init();

    // Each connection is an open file.
    im_http::raise_file_limit();
    let shop = Shop::open().await?;
    let clerk = tokio::spawn(chat::clerk(shop.chat.clone(), shop.orders.clone()));
    let listener = tokio::net::TcpListener::bind(flags.listen).await.with_context(|| {
        format!("cannot listen on {}; choose another address with --listen", flags.listen)
    })?;
    tracing::info!("open http://{} in a browser; Ctrl-C ends", listener.local_addr()?);

    let engine = shop.chat.engine.clone();
    let drain = async move {
        let _ = im_http::shutdown_signal().await;
        engine.drain(Duration::from_secs(5)).await;
    };
    // Not `axum::serve`, which has no time-out for silent peers.
    Listener::from_socket(listener).serve_until(routes::router(shop), drain).await?;
    clerk.await?.context("the clerk")
}

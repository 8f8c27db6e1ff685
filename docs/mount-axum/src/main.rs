use std::sync::Arc;

use axum::{Router, routing::get};
use im_core::engine::Engine;
use im_store_sql::{SqlConfig, SqliteStore};
use im_transport_ws::{WebSocket, WsConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = Arc::new(SqliteStore::open(SqlConfig::sqlite("im-data/im.db")).await?);
    let engine = Engine::builder().allow_anonymous().store(store).start().await?; // or .authenticator(yours)
    let app = Router::new()
        .route("/", get(|| async { "your own routes" }))
        .route_service("/chat/ws", WebSocket::new(engine, WsConfig::default()));
    let at = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    let listener = tokio::net::TcpListener::bind(at).await?;
    println!("listening on {}", listener.local_addr()?);
    Ok(im_http::Listener::from_socket(listener).serve(app).await?)
}

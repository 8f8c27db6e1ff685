//! A chat server for `nc`, in memory and without authentication.

use std::time::Duration;

use im_core::engine::Engine;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = Engine::builder().allow_anonymous().start().await?;
    let listener = TcpListener::bind("127.0.0.1:7000").await?;
    println!("connect with `nc 127.0.0.1 7000`; Ctrl-C stops the server");
    let stop = async {
        // If the handler cannot be installed, the server drains and stops at once.
        let _ = tokio::signal::ctrl_c().await;
        engine.drain(Duration::from_secs(10)).await;
    };
    raw_tcp::serve(listener, engine.clone(), stop).await;
    Ok(())
}

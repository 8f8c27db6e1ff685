//! The chat server for `nc` of `docs/raw-tcp`, with a memory. Everybody is believed.

use std::sync::Arc;
use std::time::Duration;

use im_core::engine::Engine;
use redb_store::OpenAs;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let store = redb_store::open("chat.redb", OpenAs::SameGeneration).await?;
    let engine = Engine::builder().allow_anonymous().store(Arc::new(store)).start().await?;
    let listener = TcpListener::bind("127.0.0.1:7000").await?;
    println!("speak to it by `nc 127.0.0.1 7000`; Ctrl-C ends it");
    let stop = async {
        // Where there is no such signal, the process is ended without farewell.
        let _ = tokio::signal::ctrl_c().await;
        engine.drain(Duration::from_secs(10)).await;
    };
    raw_tcp::serve(listener, engine.clone(), stop).await;
    engine.store().close().await?;
    Ok(())
}

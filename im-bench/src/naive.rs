//! The baseline: a minimal chat server on tokio-tungstenite.
//!
//! A channel per connection, 4 KiB read buffers. Each message is sent to every connection of the
//! room, which is the first segment of the URL's path. Nothing is stored, sequenced, deduplicated
//! or acked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::child::{Ready, shutdown_signal};

/// Options of `im-bench naive`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address of the listener; port 0 selects a free port.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Pin to this core.
    #[arg(long)]
    pub(crate) cpu: Option<usize>,
}

type Member = (u64, UnboundedSender<Message>);

/// The connections of each room.
#[derive(Default)]
struct Rooms {
    members: Mutex<HashMap<String, Vec<Member>>>,
    last: AtomicU64,
}

impl Rooms {
    fn enter(&self, room: &str, outbox: UnboundedSender<Message>) -> u64 {
        let me = self.last.fetch_add(1, Ordering::Relaxed);
        self.members.lock().entry(room.to_owned()).or_default().push((me, outbox));
        me
    }

    fn leave(&self, room: &str, me: u64) {
        let mut rooms = self.members.lock();
        if let Some(members) = rooms.get_mut(room) {
            members.retain(|(id, _)| *id != me);
            if members.is_empty() {
                rooms.remove(room);
            }
        }
    }

    fn broadcast(&self, room: &str, message: &Message) {
        for (_, outbox) in self.members.lock().get(room).into_iter().flatten() {
            // The receiver is dropped when a connection has just ended.
            let _ = outbox.send(message.clone());
        }
    }
}

/// Serves until the end of standard input, SIGTERM or Ctrl-C.
pub(crate) async fn run(options: Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen)
        .await
        .with_context(|| format!("listen on {}", options.listen))?;
    Ready::announce(listener.local_addr()?)?;
    let rooms = Arc::new(Rooms::default());
    tokio::select! {
        ended = accept(&listener, &rooms) => ended,
        stop = shutdown_signal() => stop,
    }
}

async fn accept(listener: &TcpListener, rooms: &Arc<Rooms>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let rooms = rooms.clone();
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &rooms).await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

async fn connection(stream: TcpStream, rooms: &Rooms) -> Result<(), Error> {
    let config = WebSocketConfig::default().read_buffer_size(4096);
    let mut room = String::new();
    #[allow(clippy::result_large_err, reason = "the library's callback wants this type")]
    let note_room = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        room = request.uri().path().split('/').nth(1).unwrap_or_default().to_owned();
        Ok(response)
    };
    let mut socket = accept_hdr_async_with_config(stream, note_room, Some(config)).await?;
    let (outbox, mut inbox) = unbounded_channel();
    let me = rooms.enter(&room, outbox);
    let ended = loop {
        tokio::select! {
            Some(message) = inbox.recv() => {
                if let Err(error) = socket.send(message).await {
                    break Err(error);
                }
            }
            received = socket.next() => match received {
                Some(Ok(message)) if message.is_text() || message.is_binary() => rooms.broadcast(&room, &message),
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            },
        }
    };
    rooms.leave(&room, me);
    ended
}

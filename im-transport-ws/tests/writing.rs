//! Frames that are due together share one write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use im_transport_ws::WsConfig;
use support::{Client, FIN, TEXT, frame, serve_over, service};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

/// Counts the writes, each of which would be a system call.
struct Counting {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, out)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Forty acks share a few writes and remain messages of their own.
#[tokio::test]
async fn many_acks_share_writes_as_messages() {
    let ws = service(WsConfig::default()).await;
    let (client, server) = duplex(1 << 16);
    let writes = Arc::new(AtomicUsize::new(0));
    serve_over(&ws, Counting { stream: server, writes: writes.clone() });
    let mut client = Client::open(client, "").await.unwrap();
    client.hello().await;
    let before = writes.load(Ordering::Relaxed);
    let commands: Vec<String> =
        (100..140).map(|id| format!(r#"{{"t":"ping","id":{id}}}"#)).collect();
    client.bytes(&frame(FIN | TEXT, format!("[{}]", commands.join(",")).as_bytes())).await;
    for id in 100..140 {
        let answer = client.heard().await;
        assert!(answer.contains(&id.to_string()), "{answer}");
    }
    let used = writes.load(Ordering::Relaxed) - before;
    assert!(used <= 4, "{used} writes for 40 answers");
}

#[tokio::test]
async fn batch_stops_at_configured_size() {
    let ws = service(WsConfig::default().max_write_bytes(1)).await;
    let (client, server) = duplex(1 << 16);
    let writes = Arc::new(AtomicUsize::new(0));
    serve_over(&ws, Counting { stream: server, writes: writes.clone() });
    let mut client = Client::open(client, "").await.unwrap();
    client.hello().await;
    let before = writes.load(Ordering::Relaxed);
    client.text(r#"[{"t":"ping","id":200},{"t":"ping","id":201},{"t":"ping","id":202}]"#).await;
    for id in 200..203 {
        assert!(client.heard().await.contains(&id.to_string()));
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 3);
}

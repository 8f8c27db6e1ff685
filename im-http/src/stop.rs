//! The signal to shut down a server.

use std::io;

/// Waits for a request to stop this process.
///
/// That is Ctrl-C (SIGINT), or on Unix SIGTERM, which `kill`, systemd and container runtimes send.
/// For [`Listener::serve_until`](crate::Listener::serve_until), before a drain.
///
/// From the first poll on, these signals no longer end the process by default.
///
/// # Errors
///
/// The system refuses to install a signal handler. Then no signal can be received: end at once, or
/// wait for another event.
///
/// # Panics
///
/// Outside a tokio runtime, or if its I/O driver is disabled.
pub async fn shutdown_signal() -> io::Result<()> {
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        terminated = terminated() => terminated,
    }
}

#[cfg(unix)]
async fn terminated() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}

/// Only Ctrl-C exists here.
#[cfg(not(unix))]
async fn terminated() -> io::Result<()> {
    std::future::pending().await
}

//! When a server is asked to end.

use std::io;

/// Waits until somebody asks this process to end: by Ctrl-C (SIGINT), or on Unix by SIGTERM, which is what `kill`, systemd
/// and container runtimes send. For [`Listener::serve_until`](crate::Listener::serve_until), before a drain.
///
/// From the first poll on, these signals no longer end the process by themselves.
///
/// # Errors
///
/// The system does not let signals be waited for. Then nobody could ask: end at once, or wait for something else.
///
/// # Panics
///
/// Outside a tokio runtime, or if its I/O driver is off.
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

/// Only Ctrl-C can ask here.
#[cfg(not(unix))]
async fn terminated() -> io::Result<()> {
    std::future::pending().await
}

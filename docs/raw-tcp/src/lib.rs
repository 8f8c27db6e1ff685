//! A transport for the im engine: raw TCP, one line of JSON per message. See `docs/transport.md`.
//!
//! Nothing is negotiated before `hello`, which carries the credentials. An empty line is the
//! server's heartbeat; a client proves that it is alive with the command `ping`.

use std::future::{Future, pending};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use im_core::Code;
use im_core::engine::{Batch, Connection, Engine, Peer};
use im_core::ports::Credentials;
use im_core::wire::{Disconnect, Encoding};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Bytes read at once. Each connection keeps them; a line may be longer.
const READ_BUFFER: usize = 1024;
/// Bytes taken from the outbox per write: all that a slow subscriber holds besides its outbox.
const WRITE_BATCH: usize = 16 * 1024;
/// How long one write may take until the peer counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a peer may take to close after the disconnect.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Peers being refused at the same time, beyond the connections that the engine accepts.
const MAX_REFUSED: usize = 64;
/// The pause after a failed accept, usually for lack of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the engine's clients until `stop` is ready, and then until the last connection has ended.
///
/// `stop` should end with the engine's `drain`, which disconnects the clients. During the drain new
/// connections are refused with the same code.
pub async fn serve(listener: TcpListener, engine: Engine, stop: impl Future<Output = ()>) {
    let most = engine.config().max_connections + MAX_REFUSED;
    let (mut stop, mut tasks) = (pin!(stop), JoinSet::new());
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept(), if tasks.len() < most => match accepted {
                Ok((socket, peer)) => drop(tasks.spawn(converse(engine.clone(), socket, peer.ip()))),
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// The one task of a connection.
async fn converse(engine: Engine, mut socket: TcpStream, address: IpAddr) {
    // Frames are small and must not be delayed. Fails only for a socket that is gone already.
    let _ = socket.set_nodelay(true);
    let accepted = engine.accept(Peer {
        transport: "tcp",
        encoding: Encoding::Json,
        address: Some(address),
        credentials: Credentials::default(),
    });
    let max = engine.limits().max_message_bytes;
    let (input, mut output) = socket.split();
    let told = match &accepted {
        // Concurrent: neither reading nor writing may block the other.
        Ok(connection) => tokio::select! {
            told = write_batches(&mut output, connection) => told,
            told = read_lines(input, connection, max) => told,
        },
        Err(error) => {
            write_lines(&mut output, &[Disconnect::from(error).encoded(Encoding::Json)]).await
        }
    };
    // The connection is dropped last, so that the engine's `drain` waits for the disconnect to be
    // written.
    match told {
        Ok(()) => hang_up(socket).await,
        Err(error) => tracing::debug!(%error, "the peer is gone"),
    }
}

/// Submits each line to the engine, and reads the next once it was processed. Never returns: the
/// connection ends with the disconnect, which the writer sends.
async fn read_lines<T>(input: ReadHalf<'_>, connection: &Connection, max: usize) -> T {
    let mut input = BufReader::with_capacity(READ_BUFFER, input);
    loop {
        // Allocated per line, so that a connection that waits for its next line holds none.
        let mut line = Vec::new();
        // At most the longest line and its end are buffered.
        let read = (&mut input).take(max as u64 + 1).read_until(b'\n', &mut line).await;
        if line.pop_if(|last| *last == b'\n').is_some() {
            connection.submit(line.into()).await;
        } else if line.len() > max {
            break connection.close(Code::TooLarge);
        } else if read.is_ok() {
            // The end, perhaps inside a line. A peer that has ended its half may still read.
            break connection.finish().await;
        } else {
            break connection.close(Code::Closed);
        }
    }
    pending().await
}

/// Writes the engine's batches, up to the disconnect.
async fn write_batches(output: &mut WriteHalf<'_>, connection: &Connection) -> io::Result<()> {
    loop {
        let Batch { id, frames, close, .. } = connection.next(WRITE_BATCH).await;
        if let Err(error) = write_lines(output, &frames).await {
            let slow = error.kind() == io::ErrorKind::TimedOut;
            connection.close(if slow { Code::SlowSubscriber } else { Code::Closed });
            return Err(error);
        }
        connection.release(id);
        if close.is_some() {
            return Ok(());
        }
    }
}

/// Writes each frame as a line. A batch without frames is a heartbeat: it becomes an empty line.
async fn write_lines(output: &mut WriteHalf<'_>, frames: &[Bytes]) -> io::Result<()> {
    let mut lines = frames.join(&b'\n');
    lines.push(b'\n');
    timeout(WRITE_TIMEOUT, output.write_all(&lines)).await?
}

/// Ends our half and reads on for a bounded time. If a socket is dropped with bytes unread, the
/// system resets it, and the reset may overtake the disconnect.
async fn hang_up(mut socket: TcpStream) {
    let rest = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket, &mut tokio::io::sink()).await
    };
    let _ = timeout(CLOSE_TIMEOUT, rest).await;
}

//! One message of commands at a time, for transports whose requests end with their acks.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::wire::{Disconnect, ResumeToken};

use super::Engine;
use super::commands;
use super::connection::{Conn, Connection, Half, Peer, Session};
use super::core::Core;

/// Bytes of acks in one chunk, or one ack if that has more.
const CHUNK_BYTES: usize = 64 * 1024;

/// The acks of one message of commands, in chunks.
///
/// If there are more than may be pending at one time
/// ([`EngineConfig::ack_bytes`](super::EngineConfig::ack_bytes)), the first chunk has those that
/// were ready by then, and the commands behind them are executed as chunks are written and dropped.
/// If it is dropped before the end, commands may remain unexecuted.
#[derive(Debug)]
pub struct Acks {
    connection: Connection,
    first: Option<AckChunk>,
    working: Option<Working>,
    commands: usize,
}

/// Some of the acks of a message. They count against the bounds of acks until this is dropped.
#[derive(Debug)]
pub struct AckChunk {
    /// Encoded, one for each command, in any order.
    pub frames: Vec<Bytes>,
    /// They count until this is dropped.
    pub held: HeldAcks,
}

/// The part of the ack bounds that these acks use; drop it when they were written.
#[derive(Debug)]
pub struct HeldAcks {
    core: Arc<Core>,
    conn: Arc<Conn>,
    bytes: usize,
}

impl HeldAcks {
    /// Records that the peer received bytes of these acks: a sign of life, as
    /// [`Connection::write_progressed`] documents. They still count until this is dropped.
    pub fn write_progressed(&self) {
        self.conn.write_progressed(&self.core);
    }
}

impl Drop for HeldAcks {
    fn drop(&mut self) {
        self.conn.outbox.release(self.bytes, self.bytes);
    }
}

/// Commands executed while acks are written. A task of its own, so that they continue, and release
/// the store's permits, also while no chunk is requested.
#[derive(Debug)]
struct Working(JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Executes one message of commands, a frame or a batch, and returns their acks.
    ///
    /// It supersedes no connection; the session's downlink, on any node, subscribes to the rooms to
    /// which the commands subscribe.
    ///
    /// `session` names the session of the commands, beside the credentials in `peer`. Without it
    /// the first must be `hello`. If the future is dropped, some commands may have been executed.
    ///
    /// # Errors
    ///
    /// Errors of the request as a whole: the message cannot be parsed (45xx), the credentials are
    /// refused (43xx), the session is not this user's or has ended ([`Code::UnknownSession`]),
    /// there are too many connections, or the engine is draining.
    pub async fn call(
        &self,
        peer: Peer,
        session: Option<&ResumeToken>,
        message: Bytes,
    ) -> Result<Acks> {
        let connection = self.open(peer, Half::Request)?;
        let (core, conn) = connection.core_and_conn();
        if let Some(token) = session {
            let (record, identity) = commands::prove(core, conn.credentials(), token).await?;
            conn.begin_call(core, &record.user)?;
            core.registry.greet(conn);
            let session = Session::new(&record, identity);
            session.unsubscribed.store(false, Ordering::Relaxed);
            conn.establish(session);
        }
        let frames = commands::decoded(core, conn, &message).unwrap_or_default();
        let commands = frames.len();
        let mut working = Box::pin(work(core.clone(), conn.clone(), frames));
        let mut first = AckChunk::new(core, conn);
        let mut end = None;
        let is_done = first.gather(&mut end, working.as_mut()).await;
        if let Some(disconnect) = end
            && (first.frames.is_empty() || conn.session().is_none())
        {
            return Err(refusal(disconnect));
        }
        let working = (!is_done).then(|| Working(core.tasks.spawn(working)));
        let first = Some(first);
        Ok(Acks { connection, first, working, commands })
    }
}

async fn work(core: Arc<Core>, conn: Arc<Conn>, frames: Vec<crate::wire::Value>) {
    commands::each(&core, &conn, frames).await;
    conn.outbox.appends_settled().await;
}

impl AckChunk {
    fn new(core: &Arc<Core>, conn: &Arc<Conn>) -> Self {
        let held = HeldAcks { core: core.clone(), conn: conn.clone(), bytes: 0 };
        Self { frames: Vec::new(), held }
    }

    /// Takes the acks that are ready, and the reason of the end if there is one.
    fn collect(&mut self, max_bytes: usize) -> Option<Disconnect> {
        loop {
            let conn = self.held.conn.clone();
            let left = max_bytes.saturating_sub(self.held.bytes);
            if left == 0 {
                return None;
            }
            let take = conn.outbox.take(left);
            self.held.bytes += take.bytes;
            if take.items.is_empty() {
                return take.disconnect;
            }
            self.frames.extend(take.items.into_iter().map(|item| conn.encoded(item)));
            if take.disconnect.is_some() {
                return take.disconnect;
            }
        }
    }

    /// Takes acks while they are built. Returns `true` when the work is done, `false` when it waits
    /// for acks to be written.
    async fn gather(
        &mut self,
        end: &mut Option<Disconnect>,
        mut working: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> bool {
        let conn = self.held.conn.clone();
        let is_done = loop {
            tokio::select! {
                biased;
                () = &mut working => break true,
                // Taken while it works, since the number of pending acks is bounded.
                () = conn.outbox.ready() => {
                    *end = end.take().or(self.collect(usize::MAX));
                    if conn.outbox.waits_for_acks() {
                        break false;
                    }
                }
            }
        };
        *end = end.take().or(self.collect(usize::MAX));
        is_done
    }
}

impl Acks {
    /// The number of acks: one for each command, and fewer if the session ends meanwhile.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// Returns whether all acks are ready: the next chunk is the last.
    pub fn is_complete(&self) -> bool {
        self.working.is_none()
    }

    /// Returns the next chunk; `None` if there are no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<AckChunk> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (core, conn) = self.connection.core_and_conn();
        let (core, conn) = (core.clone(), conn.clone());
        loop {
            let mut chunk = AckChunk::new(&core, &conn);
            // The end of these commands is the only end here.
            chunk.collect(CHUNK_BYTES);
            if !chunk.frames.is_empty() {
                return Some(chunk);
            }
            let Working(working) = self.working.as_mut()?;
            tokio::select! {
                biased;
                // A failed task leaves nothing to wait for either.
                _ = working => self.working = None,
                () = conn.outbox.ready() => {}
            }
        }
    }

    /// Returns all acks, however many: for callers in the process, which buffer them themselves.
    pub async fn all(mut self) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(chunk) = self.next().await {
            frames.extend(chunk.frames);
        }
        frames
    }
}

fn refusal(disconnect: Disconnect) -> Error {
    let code = Code::from_number(disconnect.code).unwrap_or(Code::Unknown);
    let error = Error::new(code, "call", disconnect.message);
    match disconnect.retry_after {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

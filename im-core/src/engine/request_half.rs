//! One message of commands at a time, for transports whose requests end with their answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::wire::{Bye, ResumeToken};

use super::Engine;
use super::commands;
use super::connection::{Conn, Connection, Half, Peer, Session};
use super::core::Core;

/// Bytes of acks in one chunk, or one ack if that has more.
const CHUNK_BYTES: usize = 64 * 1024;

/// The acks of one message of commands, in chunks.
///
/// Where they are more than may wait at one time ([`EngineConfig::ack_bytes`](super::EngineConfig::ack_bytes)), the first
/// chunk has those that were there by then, and the commands behind them are carried out as chunks are written and dropped.
/// If it is dropped before the end, commands may be left undone.
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
    /// Until then they count.
    pub held: HeldAcks,
}

/// The share that acks have in the bounds of acks; to be dropped when they were written.
#[derive(Debug)]
pub struct HeldAcks {
    core: Arc<Core>,
    conn: Arc<Conn>,
    bytes: usize,
}

impl HeldAcks {
    /// The peer has taken bytes of these acks: a sign of life, as [`Connection::write_progressed`] says. They count until
    /// this is dropped all the same.
    pub fn write_progressed(&self) {
        self.conn.write_progressed(&self.core);
    }
}

impl Drop for HeldAcks {
    fn drop(&mut self) {
        self.conn.outbox.release(self.bytes, self.bytes);
    }
}

/// Commands that are carried out while acks are written. A task of its own, so that they go on, and return what they hold of the
/// store, also while nobody asks for the next chunk.
#[derive(Debug)]
struct Working(JoinHandle<()>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Engine {
    /// Carries out one message of commands, a frame or a batch, and returns their acks. It supersedes no connection;
    /// the session's downlink, on whatever node it is, subscribes to what the commands subscribe to.
    ///
    /// `session` says whose commands they are, beside the credentials in `peer`. Without it the first must be `hello`.
    /// If the future is dropped, some commands may have been carried out.
    ///
    /// # Errors
    ///
    /// What is wrong with the request as a whole: the message cannot be read (45xx), the credentials are refused (43xx),
    /// the session is not this user's or has ended ([`Code::UnknownSession`]), there are too many connections, or the
    /// engine is going away.
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

    /// Takes the acks that are there, and the reason of the end if there is one.
    fn collect(&mut self, max_bytes: usize) -> Option<Bye> {
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

    /// Takes acks while they are made, until the work is done, which this says, or waits for them to be written.
    async fn gather(
        &mut self,
        end: &mut Option<Bye>,
        mut working: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> bool {
        let conn = self.held.conn.clone();
        let is_done = loop {
            tokio::select! {
                biased;
                () = &mut working => break true,
                // Taken while it works, since only so many may wait.
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
    /// How many there will be: one for each command, and fewer if the session ends meanwhile.
    pub fn commands(&self) -> usize {
        self.commands
    }

    /// Whether all of them are there: the next chunk is the last.
    pub fn is_complete(&self) -> bool {
        self.working.is_none()
    }

    /// The next chunk; `None` if there are no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<AckChunk> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        let (core, conn) = self.connection.core_and_conn();
        let (core, conn) = (core.clone(), conn.clone());
        loop {
            let mut chunk = AckChunk::new(&core, &conn);
            // What is read here has no other end than that of the commands.
            chunk.collect(CHUNK_BYTES);
            if !chunk.frames.is_empty() {
                return Some(chunk);
            }
            let Working(working) = self.working.as_mut()?;
            tokio::select! {
                biased;
                // Where it failed, there is nothing more to wait for either.
                _ = working => self.working = None,
                () = conn.outbox.ready() => {}
            }
        }
    }

    /// All of them, however many: for callers in the process, which hold them by themselves.
    pub async fn all(mut self) -> Vec<Bytes> {
        let mut frames = Vec::new();
        while let Some(chunk) = self.next().await {
            frames.extend(chunk.frames);
        }
        frames
    }
}

fn refusal(disconnect: Bye) -> Error {
    let code = Code::from_number(disconnect.code).unwrap_or(Code::Unknown);
    let error = Error::new(code, "call", disconnect.message);
    match disconnect.retry_after {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

//! The script: a process that runs the same steps each time, with one disk call failing.
//!
//! Failed messages are retried under the same id, or alternately dropped. The fault ends after some
//! attempts; then the store must work, as it is or reopened.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use im_core::ports::{LogRange, Store, StoreResult};
use im_core::wire::PageFrom;
use im_core::{MessageId, RoomId, Seq, UserId};

use super::message::{LARGE, Line, Message, word};
use super::worker::acknowledged;

/// The exit code if only a new process can help.
pub(crate) const NEEDS_RESTART: u8 = 4;

/// Number of batches before the store is closed and reopened, and after that.
const BATCHES: [u64; 2] = [8, 6];

/// Number of attempts with the fault in place.
const FAILING: u32 = 3;

/// Number of attempts after that, before the script gives up.
const WORKING: u32 = 40;

/// The pause between attempts. Stores retry a failed disk after some half a second.
const PAUSE: Duration = Duration::from_millis(50);

struct Script<O> {
    open: O,
    store: Option<Arc<dyn Store>>,
    seed: u64,
    sent: u64,
    /// Number of failed calls so far.
    failed: u32,
}

/// Only a new process can help.
struct NeedsRestart;

pub(crate) async fn script<F, O>(seed: u64, open: O) -> ExitCode
where
    F: Future<Output = StoreResult<Arc<dyn Store>>>,
    O: Fn() -> F,
{
    let mut script = Script { open, store: None, seed, sent: 0, failed: 0 };
    match script.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(NeedsRestart) => ExitCode::from(NEEDS_RESTART),
    }
}

impl<F, O> Script<O>
where
    F: Future<Output = StoreResult<Arc<dyn Store>>>,
    O: Fn() -> F,
{
    async fn run(&mut self) -> Result<(), NeedsRestart> {
        for batches in BATCHES {
            self.open().await?;
            for batch in 0..batches {
                // Large messages, so that a batch exceeds one write of a store.
                let large = batch == 2;
                self.send(if large { 24 } else { 1 + batch % 3 }, large).await?;
                self.read().await;
            }
            self.close().await;
        }
        Ok(())
    }

    fn store(&self) -> Result<Arc<dyn Store>, NeedsRestart> {
        self.store.clone().ok_or(NeedsRestart)
    }

    /// Counts a failure and ends the fault after enough of them.
    async fn failed(&mut self) {
        self.failed += 1;
        if self.failed == FAILING {
            Line::Heal.say();
        }
        tokio::time::sleep(PAUSE).await;
    }

    async fn open(&mut self) -> Result<(), NeedsRestart> {
        // From here on the store does not count as closed, whether it opens or not.
        Line::Ready.say();
        Line::Cold.say();
        for attempt in 0..WORKING {
            match (self.open)().await {
                Ok(store) => {
                    self.store = Some(store);
                    if attempt > 0 {
                        Line::Again("opened".into()).say();
                    }
                    return Ok(());
                }
                Err(error) => {
                    Line::Away("open".into(), word(error.kind())).say();
                    self.failed().await;
                }
            }
        }
        Err(NeedsRestart)
    }

    /// Sends a batch. Failed messages are retried, or every other time dropped.
    async fn send(&mut self, count: u64, large: bool) -> Result<(), NeedsRestart> {
        let mut messages: Vec<Message> = (0..count).map(|_| self.message(large)).collect();
        let (mut failures, mut reopened) = (0, false);
        while !messages.is_empty() {
            messages = self.attempt(messages).await?;
            if messages.is_empty() {
                break;
            }
            failures += 1;
            self.failed().await;
            if failures == 1 && self.sent % 2 == 1 {
                // Dropped messages: the reports of their errors must stay true. New ones replace
                // them.
                let others = messages.iter().map(|_| self.message(large)).collect();
                messages = others;
            }
            if failures % WORKING == 0 {
                if reopened {
                    return Err(NeedsRestart);
                }
                reopened = true;
                self.close().await;
                self.open().await?;
            }
        }
        if failures > 0 {
            Line::Again(if reopened { "reopened" } else { "in-place" }.into()).say();
        }
        Ok(())
    }

    /// Returns the failed messages.
    async fn attempt(&mut self, messages: Vec<Message>) -> Result<Vec<Message>, NeedsRestart> {
        let store = self.store()?;
        messages.iter().for_each(|message| Line::Try(message.clone()).say());
        let answers = store.append(messages.iter().map(Message::append).collect()).await;
        let mut left = Vec::new();
        for (message, answer) in messages.into_iter().zip(answers) {
            match answer {
                Ok(appended) => acknowledged(&message, &appended).say(),
                Err(error) => {
                    Line::Failed(message.clone(), word(error.kind())).say();
                    left.push(message);
                }
            }
        }
        Ok(left)
    }

    fn message(&mut self, large: bool) -> Message {
        self.sent += 1;
        let end = if large { LARGE.to_string() } else { String::new() };
        let made = || {
            let (sent, seed) = (self.sent, self.seed);
            Some(Message {
                room: RoomId::new(format!("room{}", sent % 2)).ok()?,
                sender: UserId::new("sender0").ok()?,
                id: MessageId::new(format!("{seed:016x}-0-{sent}{end}")).ok()?,
            })
        };
        made().unwrap_or_else(|| panic!("a message of the worker is invalid"))
    }

    async fn read(&mut self) {
        let (Some(store), Ok(room)) = (self.store.clone(), RoomId::new("room0")) else { return };
        let range = LogRange { from: PageFrom::After(Seq::ZERO), limit: 100, max_bytes: 1 << 20 };
        if let Err(error) = store.read(&room, range).await {
            Line::Away("read".into(), word(error.kind())).say();
            self.failed().await;
        }
    }

    async fn close(&mut self) {
        let Some(store) = self.store.take() else { return };
        match store.close().await {
            Ok(()) => Line::Closed.say(),
            Err(error) => {
                Line::Away("close".into(), word(error.kind())).say();
                self.failed().await;
            }
        }
    }
}

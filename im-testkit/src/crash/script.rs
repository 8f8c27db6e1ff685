//! The process that goes through the same steps each time, with one call to its disk failing.
//!
//! What failed is tried again: under the same id, or not at all, in turns. The fault ends after some attempts, and then
//! the store must work: as it is, or opened again.

use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use im_core::ports::{LogRange, Store, StoreResult};
use im_core::wire::PageFrom;
use im_core::{MessageId, RoomId, Seq, UserId};

use super::message::{LARGE, Line, Message, word};
use super::worker::acknowledged;

/// How it ends when nothing but a new process can help.
pub(crate) const NEEDS_RESTART: u8 = 4;

/// Batches before the store is closed and opened in between, and after that.
const BATCHES: [u64; 2] = [8, 6];

/// Attempts with the fault in place, before it is healed.
const FAILING: u32 = 3;

/// Attempts after that, before it is given up.
const WORKING: u32 = 40;

/// Between attempts. Stores let a failed disk rest before they try it again, some half a second.
const PAUSE: Duration = Duration::from_millis(50);

struct Script<O> {
    open: O,
    store: Option<Arc<dyn Store>>,
    seed: u64,
    sent: u64,
    /// Calls that failed so far.
    failed: u32,
}

/// Nothing but a new process can help.
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
                // Large ones, so that a batch is more than stores write at once.
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

    /// Something failed. Ends the fault when it was there long enough.
    async fn failed(&mut self) {
        self.failed += 1;
        if self.failed == FAILING {
            Line::Heal.say();
        }
        tokio::time::sleep(PAUSE).await;
    }

    async fn open(&mut self) -> Result<(), NeedsRestart> {
        // From here on it is not closed any more, whether it opens or not.
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

    /// Sends a batch. What fails is sent again, or every other time is let be.
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
                // These are let be: what the errors said of them must stay true. Others come in their place.
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

    /// Gives what failed.
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
        made().unwrap_or_else(|| panic!("a message of the worker's own is not legal"))
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

//! The content of the stores: rooms whose members write in turn, filled through the store's own
//! port.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::stream::{FuturesUnordered, TryStreamExt};
use im_core::ports::{Appended, Store};
use im_core::state::{Act, Append, Authority, IdempotencyKey, NewEvent, RoomSeed, content_hash};
use im_core::wire::{Content, Limits, Map, Role, RoomKind, Value};
use im_core::{EventKind, MessageId, RoomId, Timestamp, UserId};

use crate::replay::log::mix;
use crate::report::Progress;

/// The parameters that both stores of a comparison share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    /// Number of rooms.
    pub(super) rooms: u64,
    /// Bytes of text in a message.
    pub(super) size: usize,
}

/// Members of each room.
const MEMBERS: u64 = 20;

/// Appends in one call. A store commits at least as many at once.
const BATCH: u64 = 512;

/// Concurrent batches, each over rooms of its own.
const FILLERS: u64 = 8;

/// The time of the first message: 2024-01-01. Each room gets one a minute.
const FIRST: Timestamp = Timestamp::from_millis(1_704_067_200_000);
const APART: Duration = Duration::from_secs(60);

/// The interval in which progress is shown.
const SHOWN: Duration = Duration::from_millis(200);

impl Shape {
    /// Returns the id of a room.
    pub(super) fn room(room: u64) -> Result<RoomId> {
        Ok(RoomId::new(format!("history-{room}"))?)
    }

    /// Returns its number of messages when the store has `messages` in all.
    fn share(&self, room: u64, messages: u64) -> u64 {
        messages / self.rooms + u64::from(room < messages % self.rooms)
    }

    /// Returns the `nth` message of a room, with a new id each time.
    pub(super) fn message(&self, room: u64, nth: u64) -> Result<Append> {
        let dice = mix(room ^ mix(nth));
        // The smaller of two random numbers: some members write often, others rarely.
        let from = member(room, (dice % MEMBERS).min((dice >> 32) % MEMBERS))?;
        let kind = EventKind::message();
        let value: Value = Map::from_iter([("text", text(dice, self.size))]).into();
        let key = IdempotencyKey { id: MessageId::now_v7(), hash: content_hash(&kind, &value) };
        let content = Content::new(&value, &Limits::default())?;
        let event = NewEvent { from: from.clone(), kind, content, idempotency_key: Some(key) };
        Ok(append(
            Self::room(room)?,
            Authority::User(from),
            Act::Post { event, seed: None },
            FIRST.plus(APART.saturating_mul(u32::try_from(nth)?)),
        ))
    }

    /// Returns the creation of a room, which is its first event.
    fn creation(room: u64) -> Result<Append> {
        let people = (0..MEMBERS).map(|nth| member(room, nth)).collect::<Result<Vec<_>>>()?;
        let by = people.first().context("a room has members")?.clone();
        let role = |user: UserId| match user == by {
            true => (user, Role::Owner),
            false => (user, Role::Member),
        };
        let members = people.into_iter().map(role).collect();
        let seed = RoomSeed { kind: RoomKind::Group, open: true, members };
        Ok(append(Self::room(room)?, Authority::Service, Act::Create { by, seed }, FIRST))
    }

    /// Fills every room up to its share of `messages`. Returns the heads of the rooms.
    ///
    /// Messages of many rooms are interleaved, as in production: importing one room after the other
    /// would store each contiguously.
    ///
    /// # Errors
    ///
    /// If the store fails, or has other data under the names of the rooms.
    pub(super) async fn fill(
        &self,
        store: &Arc<dyn Store>,
        messages: u64,
        what: &'static str,
    ) -> Result<Vec<u64>> {
        let heads = self.heads(store).await?;
        let there: u64 = heads.iter().sum();
        let wanted = |(room, head): (u64, u64)| self.share(room, messages).saturating_sub(head);
        let missing: u64 = (0..).zip(heads.iter().copied()).map(wanted).sum();
        if missing == 0 {
            return Ok(heads);
        }
        let done = AtomicU64::new(there);
        let mut progress = Progress::new(what, there + missing);
        let fillers: FuturesUnordered<_> = (0..FILLERS)
            .map(|filler| {
                let rooms = (0..).zip(&heads).filter(|(room, _)| room % FILLERS == filler);
                let rooms = rooms.map(|(room, head)| (room, *head)).collect();
                self.fill_rooms(store, rooms, messages, &done)
            })
            .collect();
        let mut filled = std::pin::pin!(fillers.try_collect::<()>());
        loop {
            match tokio::time::timeout(SHOWN, &mut filled).await {
                Ok(outcome) => break outcome?,
                Err(_) => progress.at(done.load(Ordering::Relaxed)),
            };
        }
        progress.done();
        self.heads(store).await
    }

    /// Fills these rooms, each from its head, in turn.
    async fn fill_rooms(
        &self,
        store: &Arc<dyn Store>,
        mut rooms: Vec<(u64, u64)>,
        messages: u64,
        done: &AtomicU64,
    ) -> Result<()> {
        loop {
            rooms.retain(|(room, head)| *head < self.share(*room, messages));
            let Some(each) = BATCH.checked_div(rooms.len() as u64) else { return Ok(()) };
            let mut batch = Vec::new();
            for _ in 0..each.max(1) {
                for (room, head) in &mut rooms {
                    if *head < self.share(*room, messages) {
                        batch.push(match head {
                            0 => Self::creation(*room)?,
                            _ => self.message(*room, *head)?,
                        });
                        *head += 1;
                    }
                }
            }
            let count = batch.len() as u64;
            for answer in store.append(batch).await {
                committed(answer?)?;
            }
            done.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Returns the heads of the rooms; 0 for missing ones.
    pub(super) async fn heads(&self, store: &Arc<dyn Store>) -> Result<Vec<u64>> {
        let ids = (0..self.rooms).map(Self::room).collect::<Result<Vec<_>>>()?;
        let heads = store.heads(&ids).await?;
        Ok(heads.into_iter().map(|head| head.map_or(0, |head| head.cursor.seq.get())).collect())
    }
}

/// Checks that the append was committed now, as every append here must be.
pub(super) fn committed(answer: Appended) -> Result<()> {
    ensure!(
        matches!(answer, Appended::Committed(_)),
        "the store answers a new message as a duplicate"
    );
    Ok(())
}

fn append(room: RoomId, authority: Authority, act: Act, at: Timestamp) -> Append {
    Append { room, authority, act, at, max_members: 1_000 }
}

fn member(room: u64, nth: u64) -> Result<UserId> {
    Ok(UserId::new(format!("user-{room}-{nth}"))?)
}

const WORDS: [&str; 16] = [
    "tea", "at", "the", "harbour", "tomorrow", "when", "it", "rains", "we", "could", "take",
    "your", "boat", "again", "and", "sing",
];

/// Returns `size` bytes that resemble words.
fn text(mut dice: u64, size: usize) -> String {
    let mut text = String::with_capacity(size + 16);
    while text.len() < size {
        dice = mix(dice);
        text.push_str(WORDS[(dice % 16) as usize]);
        text.push(' ');
    }
    text.truncate(size);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::memory::MemoryStore;

    const SHAPE: Shape = Shape { rooms: 3, size: 100 };

    #[test]
    fn shares_add_up_to_all() {
        for messages in [0, 1, 2, 3, 1_000] {
            let shares: Vec<u64> = (0..3).map(|room| SHAPE.share(room, messages)).collect();
            assert_eq!(shares.iter().sum::<u64>(), messages);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }

    #[test]
    fn texts_have_their_size_and_differ() {
        assert_eq!(text(1, 100).len(), 100);
        assert_ne!(text(1, 100), text(2, 100));
        assert_eq!(text(1, 0), "");
    }

    /// Filling a store that has enough events already writes no more.
    #[tokio::test]
    async fn filling_twice_adds_nothing() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        assert_eq!(SHAPE.fill(&store, 100, "test").await.unwrap(), [34, 33, 33]);
        assert_eq!(SHAPE.fill(&store, 2_000, "test").await.unwrap(), [667, 667, 666]);
        assert_eq!(SHAPE.fill(&store, 50, "test").await.unwrap(), [667, 667, 666]);
    }
}

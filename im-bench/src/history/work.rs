//! The measured operations on a store, and their cost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use im_core::ports::{LogRange, Store};
use im_core::wire::PageFrom;
use im_core::{RoomId, Seq};
use serde::Serialize;

use super::fill::{Shape, committed};
use super::usage::Usage;
use crate::replay::log::mix;

/// Events in a page.
pub(super) const PAGE: u64 = 50;

/// More bytes than a page of messages has.
const PAGE_BYTES: usize = 16 << 20;

/// A measured operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Act {
    /// One message, alone in its call, acked before the next.
    Append,
    /// A page at a random position, which has been read before.
    Page,
    /// The newest page of a room.
    Newest,
    /// A page at a random position, read for the first time in this run.
    FirstRead,
}

impl Act {
    /// All operations in their order.
    pub(super) const ALL: [Self; 4] = [Self::Append, Self::FirstRead, Self::Page, Self::Newest];

    /// Returns its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Page => "page anywhere",
            Self::Newest => "newest page",
            Self::FirstRead => "page, first read",
        }
    }

    /// Returns whether its cost must not grow with history. A first read depends on the caches,
    /// which hold a small store as a whole.
    pub(super) fn is_warm(self) -> bool {
        self != Self::FirstRead
    }
}

/// The average cost of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Cost {
    pub(super) wall_us: f64,
    /// CPU time of this process, and of the server if the run started it.
    pub(super) cpu_us: f64,
}

/// A page to read.
#[derive(Debug, Clone)]
pub(super) struct PageRequest {
    room: RoomId,
    from: PageFrom,
}

/// An open store, and the heads of its rooms.
pub(super) struct Side {
    store: Arc<dyn Store>,
    shape: Shape,
    heads: Vec<u64>,
    /// The process of its server, if the run started it.
    server: Option<u32>,
}

impl Side {
    /// Opens a store with the content of `shape`.
    ///
    /// # Errors
    ///
    /// If the store fails, or holds less than a page for each room.
    pub(super) async fn new(
        store: Arc<dyn Store>,
        shape: Shape,
        server: Option<u32>,
    ) -> Result<Self> {
        let heads = shape.heads(&store).await?;
        ensure!(
            heads.iter().all(|head| *head >= PAGE),
            "a room holds less than a page of {PAGE}: ask for more --messages or fewer --rooms"
        );
        Ok(Self { store, shape, heads, server })
    }

    /// Returns the number of events in all rooms.
    pub(super) fn events(&self) -> u64 {
        self.heads.iter().sum()
    }

    /// Returns `count` random positions with a full page each, determined by the seed and the
    /// heads.
    pub(super) fn pages(&self, seed: u64, count: u64) -> Result<Vec<PageRequest>> {
        (0..count)
            .map(|nth| {
                let dice = mix(seed ^ mix(nth));
                let (room, head) = self.room(dice)?;
                let after = mix(dice) % (head + 1 - PAGE);
                let from = PageFrom::After(Seq::new(after)?);
                Ok(PageRequest { room: Shape::room(room)?, from })
            })
            .collect()
    }

    /// Runs `act` `count` times in sequence. `seed` determines the positions.
    ///
    /// # Errors
    ///
    /// If the store fails, or a page is not as expected.
    pub(super) async fn cost(&mut self, act: Act, seed: u64, count: u64) -> Result<Cost> {
        let before = Usage::now(self.server);
        let wall = match act {
            Act::Append => self.append(seed, count).await?,
            Act::Page | Act::FirstRead => sum(self.read(&self.pages(seed, count)?).await?),
            Act::Newest => sum(self.read(&self.newest(seed, count)?).await?),
        };
        let cpu = Usage::now(self.server).since(&before);
        let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
        Ok(Cost { wall_us: each(wall), cpu_us: each(cpu) })
    }

    /// Reads these pages in sequence. Returns the time of each.
    pub(super) async fn read(&self, pages: &[PageRequest]) -> Result<Vec<Duration>> {
        let mut times = Vec::with_capacity(pages.len());
        for PageRequest { room, from } in pages {
            let range = LogRange { from: *from, limit: PAGE as usize, max_bytes: PAGE_BYTES };
            let begin = Instant::now();
            let page = self.store.read(room, range).await?;
            times.push(begin.elapsed());
            let page = page.with_context(|| format!("the room {room} does not exist"))?;
            ensure!(
                page.events.len() as u64 == PAGE,
                "a page of {room} has {} events and not {PAGE}",
                page.events.len()
            );
        }
        Ok(times)
    }

    /// Closes the store.
    pub(super) async fn close(self) -> Result<()> {
        Ok(self.store.close().await?)
    }

    async fn append(&mut self, seed: u64, count: u64) -> Result<Duration> {
        let mut wall = Duration::ZERO;
        for nth in 0..count {
            let (room, head) = self.room(mix(seed ^ mix(nth)))?;
            let message = self.shape.message(room, head)?;
            let begin = Instant::now();
            let answers = self.store.append(vec![message]).await;
            wall += begin.elapsed();
            for answer in answers {
                committed(answer?)?;
            }
            if let Some(head) = self.heads.get_mut(usize::try_from(room)?) {
                *head += 1;
            }
        }
        Ok(wall)
    }

    fn newest(&self, seed: u64, count: u64) -> Result<Vec<PageRequest>> {
        let newest = |nth| {
            let (room, _) = self.room(mix(seed ^ mix(nth)))?;
            Ok(PageRequest { room: Shape::room(room)?, from: PageFrom::Before(Seq::MAX) })
        };
        (0..count).map(newest).collect()
    }

    /// Chooses a room, and returns it with its head.
    fn room(&self, dice: u64) -> Result<(u64, u64)> {
        let room = dice % self.heads.len().max(1) as u64;
        let head = self.heads.get(usize::try_from(room)?).copied();
        Ok((room, head.context("there is no room")?))
    }
}

fn sum(times: Vec<Duration>) -> Duration {
    times.into_iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use im_core::memory::MemoryStore;

    async fn side(messages: u64) -> Result<Side> {
        let (store, shape) = (Arc::new(MemoryStore::new()), Shape { rooms: 2, size: 10 });
        let store: Arc<dyn Store> = store;
        shape.fill(&store, messages, "test").await?;
        Side::new(store, shape, None).await
    }

    /// The page requests read full pages and reach the head and the first event.
    #[tokio::test]
    async fn page_requests_cover_both_ends() {
        let side = side(2 * (PAGE + 2)).await.unwrap();
        let pages = side.pages(7, 200).unwrap();
        assert_eq!(side.read(&pages).await.unwrap().len(), 200);
        for after in 0..=2 {
            let from = PageFrom::After(Seq::new(after).unwrap());
            assert!(pages.iter().any(|page| page.from == from), "{after}");
        }
        assert!(side.pages(7, 200).unwrap().iter().zip(&pages).all(|(a, b)| a.from == b.from));
    }

    #[tokio::test]
    async fn appends_add_to_the_rooms() {
        let mut side = side(2 * PAGE).await.unwrap();
        for act in Act::ALL {
            side.cost(act, 1, 5).await.unwrap();
        }
        assert_eq!(side.events(), 2 * PAGE + 5);
        assert_eq!(side.shape.heads(&side.store).await.unwrap(), side.heads);
    }

    #[tokio::test]
    async fn rooms_without_a_page_are_refused() {
        assert!(side(2 * PAGE - 1).await.is_err());
    }
}

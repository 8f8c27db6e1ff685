//! Messages that somebody else commits: an embedder who appends within a transaction of their own database.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::id::RoomId;
use crate::ports::{BusMessage, LogRange};
use crate::state::{Append, Guard};
use crate::wire::{Event, PageFrom};

use super::api::{Engine, Publish};
use super::lanes;

impl Engine {
    /// Makes of a message what a store appends, without appending it: for a store that takes it in a transaction of the
    /// embedder's own. It is trusted, as by [`Engine::publish`].
    ///
    /// # Errors
    ///
    /// A limit of the content.
    pub fn prepare(&self, publish: Publish) -> Result<Append> {
        let core = self.core();
        let (room, act) = self.submitted(publish)?;
        let max_members = core.config.max_members;
        Ok(Append { room, guard: Guard::Trusted, act, at: core.now(), max_members })
    }

    /// Hands out events that were committed in a transaction of the embedder's own: to be called after the commit. Whoever
    /// forgets it, or crashes before it, loses nothing: the comparison with the store finds what is new, some seconds later.
    ///
    /// Each is looked up in the store first: what it does not hold (the transaction was rolled back) is passed over.
    ///
    /// # Errors
    ///
    /// The store's. The events are then found by the comparison, too.
    pub async fn announce(&self, events: Vec<Arc<Event>>) -> Result<()> {
        let core = self.core();
        let mut by_room: BTreeMap<RoomId, Vec<Arc<Event>>> = BTreeMap::new();
        for event in events {
            by_room.entry(event.room.clone()).or_default().push(event);
        }
        for (room, events) in by_room {
            let kept = self.kept(&room, &events).await?;
            for event in &kept {
                lanes::publish(core, Arc::clone(event));
            }
            if !kept.is_empty() {
                core.tell(BusMessage::Events(kept));
            }
        }
        Ok(())
    }

    /// Those of a room's events that its log holds, in its order.
    async fn kept(&self, room: &RoomId, events: &[Arc<Event>]) -> Result<Vec<Arc<Event>>> {
        let core = self.core();
        let seqs = events.iter().map(|event| event.seq);
        let (Some(first), Some(last)) = (seqs.clone().min(), seqs.max()) else {
            return Ok(Vec::new());
        };
        let (mut after, mut kept) = (first.prev(), Vec::new());
        while after < last {
            let range = LogRange {
                from: PageFrom::After(after),
                limit: core.config.max_page as usize,
                max_bytes: core.config.max_page_bytes,
            };
            let page = core.store.read(room, range).await?;
            let Some(end) = page.as_ref().and_then(|page| page.events.last()) else { break };
            after = end.seq;
            kept.extend(
                page.into_iter().flat_map(|page| page.events).filter(|e| events.contains(e)),
            );
        }
        Ok(kept)
    }
}

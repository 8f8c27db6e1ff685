//! Feeding readers who lag: from the hot window where it reaches back far enough, else from the store.

use std::sync::Arc;

use crate::code::Code;
use crate::state::answer;
use crate::wire::Status;

use super::cold::ColdPage;
use super::core::Core;
use super::outbox::{Due, Fed, Lag, Outbox, Take, Taken};
use super::room::{Applied, Recent, Room, StateHold};
use super::upkeep::Checked;

/// Bytes of one part of a state snapshot.
const SNAPSHOT_PART: usize = 16 * 1024;
/// Bytes taken from the hot window at once.
const WINDOW_PAGE: usize = 64 * 1024;

/// Takes what there is, reading logs for rooms that lag. `None` if there is nothing; then wait for the outbox. Cancel-safe.
pub(crate) async fn take(core: &Arc<Core>, outbox: &Arc<Outbox>, max_bytes: usize) -> Option<Take> {
    match take_now(outbox, max_bytes) {
        Ok(take) => take,
        // On the heap, and apart: every connection that waits for something to write holds this future.
        Err(needed) => Box::pin(take_after(core, outbox, max_bytes, needed)).await,
    }
}

/// The same, once what is needed was read.
async fn take_after(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    max_bytes: usize,
    mut needed: Needed,
) -> Option<Take> {
    // Until it was taken, so that it is not evicted again before.
    let mut _hold: Option<StateHold> = None;
    loop {
        match needed {
            Needed::Log(lag) => feed(core, outbox, lag).await,
            Needed::State(room) => match core.hold_state(&room).await {
                Ok(held) => _hold = Some(held),
                Err(error) => {
                    tracing::warn!(room = %room.id(), %error, "state could not be read; readers wait for the next tick");
                    outbox.pause();
                    return None;
                }
            },
        }
        match take_now(outbox, max_bytes) {
            Ok(take) => return take,
            Err(more) => needed = more,
        }
    }
}

/// What has to be read before there is something to take.
enum Needed {
    Log(Lag),
    State(Arc<Room>),
}

/// Takes what there is, or says what has to be read first.
fn take_now(outbox: &Outbox, max_bytes: usize) -> Result<Option<Take>, Needed> {
    loop {
        let mut take = outbox.take(max_bytes);
        if let Some(lag) = take.lag.take() {
            return Err(Needed::Log(lag));
        }
        let snapshot = take.snapshot.take();
        if let Some(Due { room, even_empty }) = &snapshot {
            let Some(parts) = room.snapshot(SNAPSHOT_PART, *even_empty) else {
                // The reader asks for it again, with what was taken already in hand.
                outbox.owe_snapshot(room);
                if take.items.is_empty() && take.bye.is_none() {
                    return Err(Needed::State(room.clone()));
                }
                return Ok(Some(take));
            };
            if !parts.is_empty() {
                outbox.state_handed(room);
            }
            let bytes = parts.iter().map(|part| part.size).sum();
            outbox.hand_over(bytes);
            take.bytes += bytes;
            take.items.extend(parts.into_iter().map(Taken::Push));
        }
        if !take.items.is_empty() || take.bye.is_some() {
            return Ok(Some(take));
        }
        // A room without state has nothing to send; the next may have.
        if snapshot.is_none() {
            return Ok(None);
        }
    }
}

async fn feed(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: Lag) {
    let lag = &lag;
    match lag.room.recent(lag.after, WINDOW_PAGE) {
        Recent::Events(items) => {
            fed(core, outbox, lag, outbox.feed(lag, &items, lag.room.is_open_to_strangers()))
        }
        Recent::Level(head) => outbox.fed_up_to_head(lag, head),
        Recent::OtherEpoch => restart(core, outbox, lag).await,
        Recent::Cold => feed_cold(core, outbox, lag).await,
    }
}

/// Feeds from a page in memory, else from the store. A room whose page has to be read lets others of the reader pass whose
/// page is in memory: readers who are behind at different places then come together at the same pages, and share what each
/// of them has read.
async fn feed_cold(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag) {
    if let Some(page) = core.cold.kept(lag) {
        return feed_page(core, outbox, lag, &page).await;
    }
    let passing = outbox.may_pass(lag);
    if let Some((other, page)) =
        passing.iter().find_map(|other| Some((other, core.cold.kept(other)?)))
    {
        outbox.passed();
        return feed_page(core, outbox, other, &page).await;
    }
    match core.cold.read(&core.store, lag).await {
        Ok(Some(page)) => feed_page(core, outbox, lag, &page).await,
        Ok(None) => {
            outbox.deny(lag.seat(), Code::NotFound);
            fed(core, outbox, lag, Fed::Gone);
        }
        Err(error) => {
            tracing::warn!(room = %lag.room.id(), %error, "a log could not be read; readers wait for the next tick");
            outbox.pause_feed(lag);
        }
    }
}

async fn feed_page(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag, page: &ColdPage) {
    let other_life = page.head.epoch != lag.after.epoch || lag.after.seq > page.head.seq;
    if other_life || lag.after.seq.next() < page.first {
        return restart(core, outbox, lag).await;
    }
    let events = page.after(lag.after.seq);
    if events.is_empty() {
        return outbox.fed_up_to_head(lag, page.head.seq);
    }
    if events.iter().any(|item| item.ends_nameless()) {
        match core.check_reader(outbox, lag).await {
            Checked::MayRead => {}
            Checked::NotNow => return outbox.pause_feed(lag),
            Checked::Denied => return fed(core, outbox, lag, Fed::Gone),
        }
    }
    fed(core, outbox, lag, outbox.feed(lag, events, lag.room.is_open_to_strangers()));
}

/// What the reader wants to go on from is not there: it was trimmed, or is of another life. What ended the reader's right
/// may have gone with it, so that is checked anew, after the head was read.
async fn restart(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag) {
    let found = core.look_up(lag.room.id()).await;
    match core.check_reader(outbox, lag).await {
        Checked::MayRead => {}
        Checked::NotNow => return outbox.pause_feed(lag),
        Checked::Denied => return fed(core, outbox, lag, Fed::Gone),
    }
    let Ok((_, head)) = found else { return outbox.pause_feed(lag) };
    if lag.room.head().is_some_and(|held| held.epoch != head.cursor.epoch) {
        // It is the room in memory that is behind.
        core.follow_up(&lag.room, Applied::OtherEpoch);
    }
    match answer(lag.after, head.cursor, head.first) {
        (Status::Ok, _) => outbox.pause_feed(lag),
        (status, to) => outbox.jump(lag, status, to, head.cursor.seq),
    }
}

fn fed(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag, fed: Fed) {
    match fed {
        Fed::On => {}
        Fed::Stuck => {
            tracing::error!(room = %lag.room.id(), after = %lag.after.seq, "the store gave a page with a gap");
            outbox.pause_feed(lag);
        }
        Fed::Gone => {
            lag.room.remove_reader(lag.reader, outbox);
            core.hub.retire_if_idle(&lag.room);
        }
    }
}

//! Feeding readers who lag: from the hot window where it reaches back far enough, else from the store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use crate::code::Code;
use crate::state::answer;
use crate::wire::Status;

use super::catch_up_reads::SharedPage;
use super::core::Core;
use super::outbox::{Due, Fed, Lag, Outbox, Take, Taken};
use super::outgoing::Outgoing;
use super::room::{Applied, Recent, Room, StateHold};
use super::upkeep::Checked;

/// Bytes of one part of a state snapshot.
const SNAPSHOT_CHUNK: usize = 16 * 1024;
/// Bytes taken from the hot window at once.
const WINDOW_PAGE: usize = 64 * 1024;

/// What there is at the moment.
#[derive(Debug)]
pub(crate) enum Now {
    Take(Take),
    Nothing,
    /// Nothing yet: a task reads for the subscriber. The outbox is ready once it has.
    Reading,
}

/// Takes what there is. What has to be read from the store first is read by a task of its own, so that neither answers nor
/// heartbeats wait for the store, and what the connection does meanwhile begins no read again.
pub(crate) fn take_now(core: &Arc<Core>, outbox: &Arc<Outbox>, max_bytes: usize) -> Now {
    // Until it was taken, so that it is not evicted again before.
    let _hold = outbox.take_hold();
    loop {
        let mut take = outbox.take(max_bytes);
        if let Some(lag) = take.lag.take() {
            if let Some(needed) = catch_up_from_memory(core, outbox, lag) {
                read(core, outbox, needed);
            }
            continue;
        }
        let snapshot = take.snapshot.take();
        if let Some(Due { room, even_empty }) = &snapshot {
            let Some(parts) = room.snapshot(SNAPSHOT_CHUNK, *even_empty) else {
                // The subscriber asks for it again.
                outbox.require_snapshot(room);
                if !take.items.is_empty() || take.bye.is_some() {
                    // It is read once the transport waits for it, so that it is not kept in memory while this is written.
                    return Now::Take(take);
                }
                read(core, outbox, Needed::State(room.clone()));
                return Now::Reading;
            };
            if !parts.is_empty() {
                outbox.state_delivered(room);
            }
            let bytes = parts.iter().map(|part| part.size).sum();
            outbox.add_unreleased(bytes);
            take.bytes += bytes;
            take.items.extend(parts.into_iter().map(Taken::Push));
        }
        if !take.items.is_empty() || take.bye.is_some() {
            return Now::Take(take);
        }
        // A room without state has nothing to send; the next may have.
        if snapshot.is_none() {
            return if take.reading { Now::Reading } else { Now::Nothing };
        }
    }
}

/// What has to be read before there is something to take.
enum Needed {
    Log(Lag),
    /// Where the log goes on: what the subscriber has is of another life.
    Restart(Lag),
    State(Arc<Room>),
}

/// Begins to read for a subscriber, unless a task does already.
fn read(core: &Arc<Core>, outbox: &Arc<Outbox>, needed: Needed) {
    if !outbox.begin_reading() {
        return;
    }
    let (core, outbox) = (core.clone(), outbox.clone());
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let reading = AssertUnwindSafe(read_needed(&core, &outbox, &needed)).catch_unwind().await;
        outbox.end_reading(reading.unwrap_or_else(|_| {
            tracing::error!("a read panicked; the subscriber waits for the next tick");
            match &needed {
                Needed::Log(lag) | Needed::Restart(lag) => outbox.pause_catch_up(lag),
                Needed::State(_) => outbox.pause(),
            }
            None
        }));
    });
}

/// Reads, and gives what keeps state in memory until it was taken.
async fn read_needed(core: &Arc<Core>, outbox: &Arc<Outbox>, needed: &Needed) -> Option<StateHold> {
    match needed {
        Needed::Log(lag) => {
            catch_up_from_store(core, outbox, lag).await;
            None
        }
        Needed::Restart(lag) => {
            restart(core, outbox, lag).await;
            None
        }
        Needed::State(room) => match core.hold_state(room).await {
            Ok(held) => Some(held),
            Err(error) => {
                tracing::warn!(room = %room.id(), %error, "state could not be read; subscribers wait for the next tick");
                outbox.pause();
                None
            }
        },
    }
}

/// Feeds from what is in memory, or says what has to be read first.
fn catch_up_from_memory(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: Lag) -> Option<Needed> {
    match lag.room.recent(lag.after, WINDOW_PAGE) {
        Recent::Events(items) => feed(core, outbox, &lag, &items),
        Recent::Level(head) => outbox.caught_up_to(&lag, head),
        Recent::OtherEpoch => return Some(Needed::Restart(lag)),
        Recent::Cold if enqueue_cached(core, outbox, &lag) => {}
        Recent::Cold => return Some(Needed::Log(lag)),
    }
    None
}

/// Feeds from a page that is kept. A room whose page has to be read lets others of the subscriber pass whose page is kept:
/// subscribers who are behind at different places then come together at the same pages, and share what each of them has read.
fn enqueue_cached(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag) -> bool {
    // Where the right to read has to be checked, the store is asked.
    let kept = |lag: &Lag| {
        let page = core.cold.kept(lag)?;
        let checked = |item: &Arc<Outgoing>| item.ends_nameless();
        (!page.after(lag.after.seq).iter().any(checked)).then_some(page)
    };
    if let Some(page) = kept(lag) {
        feed(core, outbox, lag, page.after(lag.after.seq));
        return true;
    }
    let passing = outbox.may_pass(lag);
    let Some((other, page)) = passing.iter().find_map(|other| Some((other, kept(other)?))) else {
        return false;
    };
    outbox.passed();
    feed(core, outbox, other, page.after(other.after.seq));
    true
}

async fn catch_up_from_store(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag) {
    match core.cold.read(&core.store, lag).await {
        Ok(Some(page)) => enqueue_page(core, outbox, lag, &page).await,
        Ok(None) => {
            outbox.deny(lag.seat(), Code::NotFound);
            fed(core, outbox, lag, Fed::Gone);
        }
        Err(error) => {
            tracing::warn!(room = %lag.room.id(), %error, "a log could not be read; subscribers wait for the next tick");
            outbox.pause_catch_up(lag);
        }
    }
}

async fn enqueue_page(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag, page: &SharedPage) {
    let other_life = page.head.epoch != lag.after.epoch || lag.after.seq > page.head.seq;
    if other_life || lag.after.seq.next() < page.first {
        return restart(core, outbox, lag).await;
    }
    let events = page.after(lag.after.seq);
    if events.is_empty() {
        return outbox.caught_up_to(lag, page.head.seq);
    }
    if events.iter().any(|item| item.ends_nameless()) {
        match core.check_subscriber(outbox, lag).await {
            Checked::MayRead => {}
            Checked::NotNow => return outbox.pause_catch_up(lag),
            Checked::Denied => return fed(core, outbox, lag, Fed::Gone),
        }
    }
    feed(core, outbox, lag, events);
}

fn feed(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag, events: &[Arc<Outgoing>]) {
    fed(core, outbox, lag, outbox.feed(lag, events, lag.room.is_open_to_strangers()));
}

/// What the reader wants to go on from is not there: it was trimmed, or is of another life. What ended the reader's right
/// may have gone with it, so that is checked anew, after the head was read.
async fn restart(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag) {
    let found = core.look_up(lag.room.id()).await;
    match core.check_subscriber(outbox, lag).await {
        Checked::MayRead => {}
        Checked::NotNow => return outbox.pause_catch_up(lag),
        Checked::Denied => return fed(core, outbox, lag, Fed::Gone),
    }
    let Ok((_, head)) = found else { return outbox.pause_catch_up(lag) };
    if lag.room.head().is_some_and(|held| held.epoch != head.cursor.epoch) {
        // It is the room in memory that is behind.
        core.follow_up(&lag.room, Applied::OtherEpoch);
    }
    match answer(lag.after, head.cursor, head.first) {
        (Status::Ok, _) => outbox.pause_catch_up(lag),
        (status, to) => outbox.jump(lag, status, to, head.cursor.seq),
    }
}

fn fed(core: &Arc<Core>, outbox: &Arc<Outbox>, lag: &Lag, fed: Fed) {
    match fed {
        Fed::On => {}
        Fed::Stuck => {
            tracing::error!(room = %lag.room.id(), after = %lag.after.seq, "the store gave a page with a gap");
            outbox.pause_catch_up(lag);
        }
        Fed::Gone => {
            lag.room.remove_subscriber(lag.reader, outbox);
            core.hub.retire_if_idle(&lag.room);
        }
    }
}

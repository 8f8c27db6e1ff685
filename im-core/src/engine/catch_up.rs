//! Catch-up: from the hot window where it extends back far enough, else from the page cache or the
//! store.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use crate::code::Code;
use crate::state::answer;
use crate::wire::Status;

use super::catch_up_reads::SharedPage;
use super::core::Core;
use super::outbox::{CatchUp, CatchUpOutcome, DueSnapshot, Outbox, OutboxBatch, OutboxItem};
use super::outgoing::Outgoing;
use super::room::{Applied, Room, StateHold, WindowRead};
use super::upkeep::Checked;

/// Bytes of one chunk of a state snapshot.
const SNAPSHOT_CHUNK: usize = 16 * 1024;
/// Bytes in one read of the hot window.
const WINDOW_PAGE: usize = 64 * 1024;

/// The result of a take from an outbox.
#[derive(Debug)]
pub(crate) enum Available {
    Taken(OutboxBatch),
    Nothing,
    /// Nothing yet: a task reads for the subscriber. The outbox is ready once it has finished.
    Reading,
}

/// Takes what is available. Reads of the store run in a task of their own, so that neither acks nor
/// heartbeats wait for the store, and a dropped future does not restart a read.
pub(crate) fn take_available(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    max_bytes: usize,
) -> Available {
    // Held until the take, so that it is not evicted again before.
    let _hold = outbox.take_hold();
    loop {
        let mut take = outbox.take(max_bytes);
        if let Some(catch_up) = take.catch_up.take() {
            if let Some(needed) = catch_up_from_memory(core, outbox, catch_up) {
                read(core, outbox, needed);
            }
            continue;
        }
        let snapshot = take.snapshot.take();
        if let Some(DueSnapshot { room, even_empty }) = &snapshot {
            let Some(chunks) = room.snapshot(SNAPSHOT_CHUNK, *even_empty) else {
                // The subscriber still needs it.
                outbox.require_snapshot(room);
                if !take.items.is_empty() || take.disconnect.is_some() {
                    // It is read once the transport waits for it, so that it does not occupy memory
                    // while this batch is written.
                    return Available::Taken(take);
                }
                read(core, outbox, Needed::State(room.clone()));
                return Available::Reading;
            };
            if !chunks.is_empty() {
                outbox.state_delivered(room);
            }
            let bytes = chunks.iter().map(|chunk| chunk.size).sum();
            outbox.add_unreleased(bytes);
            take.bytes += bytes;
            take.items.extend(chunks.into_iter().map(OutboxItem::Push));
        }
        if !take.items.is_empty() || take.disconnect.is_some() {
            return Available::Taken(take);
        }
        // A room without state has nothing to send; the next one may have.
        if snapshot.is_none() {
            return if take.reading { Available::Reading } else { Available::Nothing };
        }
    }
}

/// The read required before there is something to take.
enum Needed {
    Log(CatchUp),
    /// The position from which the log continues: the subscriber's cursor is of another epoch.
    Restart(CatchUp),
    State(Arc<Room>),
}

/// Starts a read for a subscriber, unless a task does one already.
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
                Needed::Log(catch_up) | Needed::Restart(catch_up) => {
                    outbox.pause_catch_up(catch_up)
                }
                Needed::State(_) => outbox.pause(),
            }
            None
        }));
    });
}

/// Reads, and returns the hold that keeps state in memory until it was taken.
async fn read_needed(core: &Arc<Core>, outbox: &Arc<Outbox>, needed: &Needed) -> Option<StateHold> {
    match needed {
        Needed::Log(catch_up) => {
            catch_up_from_store(core, outbox, catch_up).await;
            None
        }
        Needed::Restart(catch_up) => {
            restart(core, outbox, catch_up).await;
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

/// Catches up from memory, or returns the read that is required first.
fn catch_up_from_memory(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    catch_up: CatchUp,
) -> Option<Needed> {
    match catch_up.room.read_window(catch_up.after, WINDOW_PAGE) {
        WindowRead::Events(items) => enqueue_history(core, outbox, &catch_up, &items),
        WindowRead::AtHead(head) => outbox.caught_up_to(&catch_up, head),
        WindowRead::OtherEpoch => return Some(Needed::Restart(catch_up)),
        WindowRead::Miss if enqueue_cached(core, outbox, &catch_up) => {}
        WindowRead::Miss => return Some(Needed::Log(catch_up)),
    }
    None
}

/// Catches up from a cached page. A subscription whose page must be read is passed by others of the
/// outbox whose page is cached. So subscribers with different cursors converge on the same pages
/// and share each other's reads.
fn enqueue_cached(core: &Arc<Core>, outbox: &Arc<Outbox>, catch_up: &CatchUp) -> bool {
    // Where access has to be checked, the store is read.
    let cached = |catch_up: &CatchUp| {
        let page = core.catch_up_reads.cached(catch_up)?;
        let checked = |item: &Arc<Outgoing>| item.ends_nameless();
        (!page.after(catch_up.after.seq).iter().any(checked)).then_some(page)
    };
    if let Some(page) = cached(catch_up) {
        enqueue_history(core, outbox, catch_up, page.after(catch_up.after.seq));
        return true;
    }
    let passing = outbox.may_pass(catch_up);
    let Some((other, page)) = passing.iter().find_map(|other| Some((other, cached(other)?))) else {
        return false;
    };
    outbox.passed();
    enqueue_history(core, outbox, other, page.after(other.after.seq));
    true
}

async fn catch_up_from_store(core: &Arc<Core>, outbox: &Arc<Outbox>, catch_up: &CatchUp) {
    match core.catch_up_reads.read(&core.store, catch_up).await {
        Ok(Some(page)) => enqueue_page(core, outbox, catch_up, &page).await,
        Ok(None) => {
            outbox.deny(catch_up.subscription(), Code::NotFound);
            finish_step(core, outbox, catch_up, CatchUpOutcome::AccessLost);
        }
        Err(error) => {
            tracing::warn!(room = %catch_up.room.id(), %error, "a log could not be read; subscribers wait for the next tick");
            outbox.pause_catch_up(catch_up);
        }
    }
}

async fn enqueue_page(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    catch_up: &CatchUp,
    page: &SharedPage,
) {
    let other_epoch = page.head.epoch != catch_up.after.epoch || catch_up.after.seq > page.head.seq;
    if other_epoch || catch_up.after.seq.next() < page.first {
        return restart(core, outbox, catch_up).await;
    }
    let events = page.after(catch_up.after.seq);
    if events.is_empty() {
        return outbox.caught_up_to(catch_up, page.head.seq);
    }
    if events.iter().any(|item| item.ends_nameless()) {
        match core.check_subscriber(outbox, catch_up).await {
            Checked::MayRead => {}
            Checked::NotNow => return outbox.pause_catch_up(catch_up),
            Checked::Denied => {
                return finish_step(core, outbox, catch_up, CatchUpOutcome::AccessLost);
            }
        }
    }
    enqueue_history(core, outbox, catch_up, events);
}

fn enqueue_history(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    catch_up: &CatchUp,
    events: &[Arc<Outgoing>],
) {
    finish_step(
        core,
        outbox,
        catch_up,
        outbox.enqueue_history(catch_up, events, catch_up.room.is_open_to_strangers()),
    );
}

/// Restarts a subscription whose next events were trimmed, or whose room has another epoch. The
/// event that ended the subscriber's access may be among the trimmed ones, so access is checked
/// again, after the head was read.
async fn restart(core: &Arc<Core>, outbox: &Arc<Outbox>, catch_up: &CatchUp) {
    let found = core.look_up(catch_up.room.id()).await;
    match core.check_subscriber(outbox, catch_up).await {
        Checked::MayRead => {}
        Checked::NotNow => return outbox.pause_catch_up(catch_up),
        Checked::Denied => return finish_step(core, outbox, catch_up, CatchUpOutcome::AccessLost),
    }
    let Ok((_, head)) = found else { return outbox.pause_catch_up(catch_up) };
    if catch_up.room.head().is_some_and(|held| held.epoch != head.cursor.epoch) {
        // The room in memory is behind.
        core.handle_applied(&catch_up.room, Applied::OtherEpoch);
    }
    match answer(catch_up.after, head.cursor, head.first) {
        (Status::Ok, _) => outbox.pause_catch_up(catch_up),
        (status, to) => outbox.jump(catch_up, status, to, head.cursor.seq),
    }
}

fn finish_step(
    core: &Arc<Core>,
    outbox: &Arc<Outbox>,
    catch_up: &CatchUp,
    outcome: CatchUpOutcome,
) {
    match outcome {
        CatchUpOutcome::Advanced => {}
        CatchUpOutcome::Stalled => {
            tracing::error!(room = %catch_up.room.id(), after = %catch_up.after.seq, "the store returned a log page with a gap");
            outbox.pause_catch_up(catch_up);
        }
        CatchUpOutcome::AccessLost => {
            catch_up.room.remove_subscriber(catch_up.subscriber_id, outbox);
            core.hub.retire_if_idle(&catch_up.room);
        }
    }
}

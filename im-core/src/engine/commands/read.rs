//! Commands that read: subscribing to rooms from a client's cursors, and paging through the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use tokio::task::yield_now;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::id::{CommandId, Cursor, Epoch, RoomId, UserId};
use crate::ports::{Action, LogRange};
use crate::state::{Act, Base, CheckpointChange, Unchanged, answer};
use crate::wire::{
    Event, HistoryPage, ListRoom, MemberEntry, PageFrom, Reply, Role, RoomKind, RoomStatus, Status,
    encode,
};

use super::super::connection::{Conn, Session};
use super::super::core::{Core, check_read};
use super::super::outbox::SubscriptionStart;
use super::super::room::{Applied, SubscribeOutcome};
use super::Outcome;

/// Rooms looked up concurrently while a session resumes.
pub(crate) const LOOK_UPS_AT_ONCE: usize = 16;

/// Rooms that a command looks up before it yields to other tasks: some 10 ms of one core at most.
pub(crate) const ROOMS_IN_A_SLICE: usize = 50;

/// A room's status, and where the subscription starts if the user has access.
type Answered = (RoomStatus, Option<SubscriptionStart>);

pub(super) async fn subscribe(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    session: &Session,
    id: CommandId,
    room: RoomId,
    since: Option<Cursor>,
) -> Result<Outcome> {
    check_room_count(core, conn, std::slice::from_ref(&room))?;
    let answered = status(core, session, &room, since).await?;
    begin(core, conn, session, id, session.base(), vec![RequestedRoom { since, answered }]).await
}

/// A requested room, and its status.
struct RequestedRoom {
    since: Option<Cursor>,
    answered: Answered,
}

impl RequestedRoom {
    /// A subscription without a cursor begins at the head, which was read before this. If a later
    /// event was `delivered` on this connection since then, it begins after that event.
    fn skip_delivered(&mut self, delivered: Option<Cursor>) {
        if let (None, Some(delivered), (status, Some(start))) =
            (self.since, delivered, &mut self.answered)
            && delivered.epoch == start.cursor.epoch
            && delivered.seq > start.cursor.seq
        {
            start.cursor = delivered;
            start.authorised_at = start.authorised_at.max(delivered.seq);
            status.cursor = Some(delivered);
            status.head = status.head.max(delivered.seq);
        }
    }
}

pub(super) async fn resume(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    session: &Session,
    id: CommandId,
    cursors: Vec<(RoomId, Cursor)>,
    rev: Option<u64>,
) -> Result<Outcome> {
    let _turn = core.registry.lock_user(&session.user).await;
    let mut wanted: BTreeMap<RoomId, Cursor> = BTreeMap::new();
    let mut base = session.base();
    if let Some(rev) = rev {
        let held = core.store.checkpoint(&session.id).await?;
        // On a duplex connection it must be the first subscription.
        let late = conn.is_duplex() && base != Base::Empty;
        if late || held.rev != rev {
            return Err(Error::of(Code::StaleCheckpoint, "resume"));
        }
        // The named rooms were charged before they were looked up.
        let (paid, more) =
            (1 + super::extra_cost(cursors.len()), super::extra_cost(held.rooms.len()));
        super::pay_more(core, &session.user, paid, more, "resume")?;
        base = Base::Rev(rev);
        wanted
            .extend(held.rooms.into_iter().map(|(room, subscription)| (room, subscription.cursor)));
    }
    wanted.extend(cursors);
    let _reserved = core.acks.reserve_statuses(wanted.len()).await?;
    let rooms: Vec<RoomId> = wanted.keys().cloned().collect();
    check_room_count(core, conn, &rooms)?;
    let look_up = |(room, cursor): (RoomId, Cursor)| async move {
        match status(core, session, &room, Some(cursor)).await {
            Ok(answered) => Ok(RequestedRoom { since: Some(cursor), answered }),
            // A failure of the store is not a status of the room.
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                let answered = (RoomStatus::denied(room, error.code()), None);
                Ok(RequestedRoom { since: Some(cursor), answered })
            }
        }
    };
    let (mut wanted, mut answers) = (wanted.into_iter(), Vec::with_capacity(rooms.len()));
    while answers.len() < rooms.len() {
        let slice: Vec<_> = wanted.by_ref().take(ROOMS_IN_A_SLICE).collect();
        // All look-ups of a slice finish before the task yields: a look-up that holds the store's
        // permit and is not polled would block all others.
        let looked_up = futures::stream::iter(slice).map(&look_up).buffered(LOOK_UPS_AT_ONCE);
        let looked_up: Vec<Result<RequestedRoom>> = looked_up.collect().await;
        answers.extend(looked_up.into_iter().collect::<Result<Vec<_>>>()?);
        yield_now().await;
    }
    begin(core, conn, session, id, base, answers).await
}

fn check_room_count(core: &Core, conn: &Conn, more: &[RoomId]) -> Result<()> {
    if conn.outbox.count_with(more) > core.config.max_rooms_per_session {
        let most = core.config.max_rooms_per_session;
        return Err(Error::new(
            Code::TooMany,
            "subscribe",
            format!("at most {most} rooms can be subscribed at once"),
        ));
    }
    Ok(())
}

/// The status of a room for a subscription from `since`, or from the head.
///
/// The order matters: the head is read first, access is checked after it, and the subscription
/// starts no later than that head. So a removal that the check missed is in the log after the
/// cursor.
async fn status(
    core: &Core,
    session: &Session,
    room: &RoomId,
    since: Option<Cursor>,
) -> Result<Answered> {
    let verdict = core.ask(&session.identity(), &Action::Read { room: room.clone() }).await?;
    let user = &session.user;
    let (mut found, mut membership) = core.look_up_for(room, user).await?;
    // A user's inbox is created on demand, also before the first message to it.
    if found.is_none() && room.inbox_owner().as_ref() == Some(user) {
        make_inbox(core, user).await?;
        (found, membership) = core.look_up_for(room, user).await?;
    }
    let (record, head) = found.ok_or_else(|| Error::of(Code::NotFound, "room"))?;
    check_read(&record, user, membership, &verdict)?;
    let (status, from) = match since {
        Some(cursor) => answer(cursor, head.cursor, head.first),
        None => (Status::Ok, head.cursor),
    };
    let answer = RoomStatus {
        room: room.clone(),
        status,
        cursor: Some(from),
        head: head.cursor.seq,
        code: None,
    };
    Ok((
        answer,
        Some(SubscriptionStart {
            cursor: from,
            authorised_at: head.cursor.seq,
            state_digest: None,
        }),
    ))
}

async fn make_inbox(core: &Core, user: &UserId) -> Result<()> {
    let act = Act::Create { by: user.clone(), seed: super::inbox_seed(user) };
    match core.append(RoomId::inbox(user), act).await {
        Err(error) if error.code() != Code::Exists => Err(error),
        _ => Ok(()),
    }
}

/// Stores the checkpoint, then sends the ack, then starts the subscriptions.
async fn begin(
    core: &Arc<Core>,
    conn: &Arc<Conn>,
    session: &Session,
    id: CommandId,
    base: Base,
    requested: Vec<RequestedRoom>,
) -> Result<Outcome> {
    let is_request = conn.is_request_half();
    let begins = |RequestedRoom { since, answered: (status, start) }: &RequestedRoom| {
        let start = (*start)?;
        // A downlink sends its own statuses: it starts from the requested cursor.
        let from = since.filter(|_| is_request).unwrap_or(start.cursor);
        Some((status.room.clone(), from))
    };
    let denied = requested.iter().filter(|requested| requested.answered.0.status == Status::Denied);
    let change = CheckpointChange {
        unsubscribe: denied.map(|requested| requested.answered.0.room.clone()).collect(),
        subscribe: requested.iter().filter_map(begins).collect(),
        ..core.no_change(base)
    };
    let rev = core.change_checkpoint(session, change).await?;
    let (mut statuses, mut started) = (Vec::with_capacity(requested.len()), Vec::new());
    for mut requested in requested {
        let delivered = end_subscription(core, conn, &requested.answered.0.room);
        requested.skip_delivered(delivered);
        let (status, start) = requested.answered;
        started.extend(start.map(|start| (status.room.clone(), start)));
        statuses.push(status);
    }
    let reply = Reply::Rooms { statuses, rev, generation: core.state_generation() };
    conn.outbox.ack(encode(&reply.to_value(id), conn.encoding));
    if is_request {
        core.checkpoint_changed(session);
        return Ok(Outcome::Answered);
    }
    for (n, (room, start)) in started.into_iter().enumerate() {
        if n % ROOMS_IN_A_SLICE == ROOMS_IN_A_SLICE - 1 {
            yield_now().await;
        }
        match core.subscribe(&conn.outbox, &room, start).await {
            Ok(()) => {}
            // The ack said subscribed. A retryable failure ends the connection, not the room: the
            // client resumes with its cursors.
            Err(error) if error.is_retryable() => {
                conn.close_for(&error);
                break;
            }
            Err(error) => conn.outbox.notify_status(RoomStatus::denied(room, error.code())),
        }
    }
    Ok(Outcome::Answered)
}

impl Session {
    /// The base of a connection's first change of the checkpoint is empty, since nothing is
    /// subscribed yet.
    fn base(&self) -> Base {
        if self.unsubscribed.load(Ordering::Relaxed) { Base::Empty } else { Base::Held }
    }
}

impl Core {
    pub(crate) fn no_change(&self, base: Base) -> CheckpointChange {
        let max_rooms = self.config.max_rooms_per_session;
        CheckpointChange {
            base,
            unsubscribe: vec![],
            subscribe: vec![],
            confirm: vec![],
            max_rooms,
        }
    }

    /// Changes the session's checkpoint. Returns its new revision.
    pub(crate) async fn change_checkpoint(
        &self,
        session: &Session,
        change: CheckpointChange,
    ) -> Result<u64> {
        let begins = change.base != Base::Held;
        let code = match self.store.change_checkpoint(&session.id, change).await? {
            Ok(rev) => {
                if begins {
                    session.unsubscribed.store(false, Ordering::Relaxed);
                }
                return Ok(rev);
            }
            Err(Unchanged::NoSession) => Code::UnknownSession,
            Err(Unchanged::Stale) => Code::StaleCheckpoint,
            Err(Unchanged::Full) => Code::TooMany,
        };
        Err(Error::of(code, "checkpoint"))
    }

    /// Returns the [`status`] of a room, if the user may read it.
    pub(crate) async fn status_for(
        &self,
        session: &Session,
        room: &RoomId,
        since: Cursor,
    ) -> Result<(RoomStatus, SubscriptionStart)> {
        let (status, start) = status(self, session, room, Some(since)).await?;
        start.map(|start| (status, start)).ok_or_else(|| Error::of(Code::NotFound, "subscribe"))
    }

    /// Subscribes an outbox to a room.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        outbox: &Arc<super::super::outbox::Outbox>,
        room: &RoomId,
        start: SubscriptionStart,
    ) -> Result<()> {
        loop {
            let room = self.activate(room).await?;
            match room.add_subscriber(outbox, start) {
                SubscribeOutcome::RoomRetired => continue,
                SubscribeOutcome::Closed => self.hub.retire_if_idle(&room),
                // The store may be ahead of the high watermark here.
                SubscribeOutcome::Subscribed
                    if room.head().is_some_and(|h| h.epoch == start.cursor.epoch) =>
                {
                    let applied = room.raise_high_watermark(start.authorised_at);
                    self.handle_applied(&room, applied);
                }
                // The room or the start is behind.
                SubscribeOutcome::Subscribed => self.handle_applied(&room, Applied::OtherEpoch),
            }
            return Ok(());
        }
    }
}

/// Ends the connection's subscription to a room, and retires the room if it has no other
/// subscriber. Returns the last event delivered, if the room was subscribed.
pub(crate) fn end_subscription(core: &Core, conn: &Conn, room: &RoomId) -> Option<Cursor> {
    let subscription = conn.outbox.unsubscribe(room)?;
    subscription.room.remove_subscriber(subscription.subscriber_id, &conn.outbox);
    core.hub.retire_if_idle(&subscription.room);
    Some(subscription.delivered())
}

pub(super) async fn unsubscribe(
    core: &Arc<Core>,
    conn: &Conn,
    session: &Session,
    room: RoomId,
) -> Result<Reply> {
    let change = CheckpointChange { unsubscribe: vec![room.clone()], ..core.no_change(Base::Held) };
    let rev = core.change_checkpoint(session, change).await?;
    end_subscription(core, conn, &room);
    if conn.is_request_half() {
        core.checkpoint_changed(session);
    }
    Ok(Reply::Checkpoint { rev })
}

pub(super) async fn checkpoint(
    core: &Core,
    conn: &Conn,
    session: &Session,
    cursors: Vec<(RoomId, Cursor)>,
) -> Result<Reply> {
    let _turn = core.registry.lock_user(&session.user).await;
    let confirm = if conn.is_request_half() {
        within_the_log(core, cursors).await?
    } else {
        conn.outbox.retain_delivered(cursors)
    };
    let change = CheckpointChange { confirm, ..core.no_change(Base::Held) };
    let rev = core.change_checkpoint(session, change).await?;
    Ok(Reply::Checkpoint { rev })
}

/// Returns the cursors that lie within their room's log. What was delivered is not known here.
async fn within_the_log(
    core: &Core,
    mut cursors: Vec<(RoomId, Cursor)>,
) -> Result<Vec<(RoomId, Cursor)>> {
    let rooms: Vec<RoomId> = cursors.iter().map(|(room, _)| room.clone()).collect();
    let mut heads = Vec::with_capacity(rooms.len());
    for slice in rooms.chunks(ROOMS_IN_A_SLICE) {
        heads.extend(core.store.heads(slice).await?);
        yield_now().await;
    }
    let mut heads = heads.into_iter();
    cursors.retain(|(_, cursor)| {
        heads
            .next()
            .flatten()
            .is_some_and(|head| cursor.epoch == head.cursor.epoch && cursor.seq <= head.cursor.seq)
    });
    Ok(cursors)
}

/// The fields of `history`.
pub(super) struct Asking {
    pub(super) room: RoomId,
    pub(super) epoch: Option<Epoch>,
    pub(super) from: PageFrom,
    pub(super) limit: u32,
}

/// The ack of `history`, encoded within `page`.
pub(super) async fn history(
    core: &Core,
    session: &Session,
    id: CommandId,
    requested: &Asking,
    page: ListRoom,
) -> Result<Bytes> {
    let Asking { room, epoch, from, limit } = requested;
    let verdict = core.ask(&session.identity(), &Action::Read { room: room.clone() }).await?;
    // Access is checked first, which is cheap: no page is read for users without it.
    let record = core.readable(room, &session.user, &verdict).await?;
    let (head, events) = log_page(core, room, *from, *limit).await?;
    // And again, so that no event after a concurrent removal is returned.
    core.may_read(&record, &session.user, &verdict).await?;
    if epoch.is_some_and(|epoch| epoch != head.epoch) {
        return Err(Error::of(Code::WrongEpoch, "history"));
    }
    match *from {
        PageFrom::After(seq) if seq > head.head => Err(Error::of(Code::AheadOfHead, "history")),
        _ => {
            let _turn = core.acks.turn_to_encode().await;
            Ok(page.history(id, head, events.iter().map(|event| &**event)))
        }
    }
}

/// A page of a room's log, without a check of access.
pub(crate) async fn history_page(
    core: &Core,
    room: &RoomId,
    from: PageFrom,
    limit: u32,
) -> Result<HistoryPage> {
    let (page, events) = log_page(core, room, from, limit).await?;
    let events = events.iter().map(|event| (**event).clone()).collect();
    Ok(HistoryPage { events, ..page })
}

/// A page without its events, and the events.
async fn log_page(
    core: &Core,
    room: &RoomId,
    from: PageFrom,
    limit: u32,
) -> Result<(HistoryPage, Vec<Arc<Event>>)> {
    let limit = limit.clamp(1, core.config.max_page) as usize;
    let range = LogRange { from, limit, max_bytes: core.config.max_page_bytes };
    let page =
        core.store.read(room, range).await?.ok_or_else(|| Error::of(Code::NotFound, "history"))?;
    let last = page.events.last().map(|event| event.seq);
    let more = match (from, last) {
        (PageFrom::After(_), Some(last)) => last < page.head.seq,
        (PageFrom::Before(_), Some(last)) => last > page.first,
        (_, None) => false,
    };
    let (epoch, head, first) = (page.head.epoch, page.head.seq, page.first);
    Ok((HistoryPage { epoch, head, first, events: Vec::new(), more }, page.events))
}

/// Members after `after`, and whether there are more.
pub(super) async fn members(
    core: &Core,
    session: &Session,
    room: &RoomId,
    after: Option<UserId>,
    limit: u32,
) -> Result<(Vec<MemberEntry>, bool)> {
    let verdict = core.ask(&session.identity(), &Action::Read { room: room.clone() }).await?;
    let record = core.readable(room, &session.user, &verdict).await?;
    let limit = limit.clamp(1, core.config.max_page) as usize;
    let mut members = core.store.members(room, after.as_ref(), limit + 1).await?;
    // And again after reading, as for history.
    core.may_read(&record, &session.user, &verdict).await?;
    let more = members.len() > limit;
    members.truncate(limit);
    Ok((members.into_iter().map(|(user, role)| MemberEntry { user, role }).collect(), more))
}

/// The caller's rooms after `after`, and whether there are more.
pub(super) async fn rooms(
    core: &Core,
    session: &Session,
    after: Option<RoomId>,
    limit: u32,
) -> Result<(Vec<(RoomId, RoomKind, Role)>, bool)> {
    let limit = limit.clamp(1, core.config.max_page) as usize;
    let mut rooms = core.store.rooms_of(&session.user, after.as_ref(), limit + 1).await?;
    let more = rooms.len() > limit;
    rooms.truncate(limit);
    Ok((rooms, more))
}

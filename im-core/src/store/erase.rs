//! Erasing users: step by step through the rooms where they may be found.

use crate::backend::{Change, Commit, LogAct, LogChange, LogRead, Range, Sends, Way};
use crate::id::{RoomId, Seq, UserId};
use crate::ports::StoreResult;
use crate::state::{Erased, Membership, RoomRecord, StateLimits};
use crate::wire::Role;

use super::column::{Columnar, Rev};
use super::feed::{self, what};
use super::keyed_state::Draft;
use super::log::{entry, int};
use super::sessions::sessions_of;
use super::tables::{BY_USER, EntryRow, ImportRow, JobRow, MemberRow, Record, RoomRow};
use super::view::{Ruled, View};
use super::{BackendStore, Plan, bounded, bump, put_change};

/// The kind of a job that erases a user.
const ERASE: &str = "erase";

/// The most bytes of events that one step looks through.
const STEP_BYTES: usize = 4 << 20;

/// What one step has done.
struct Step {
    /// How many records it looked at.
    looked: usize,
    /// How many events it changed.
    events: u64,
}

/// A room in which a user is erased: one that is there, or one under import.
enum Home {
    Room(RoomRow),
    Import(ImportRow),
}

impl BackendStore {
    pub(super) async fn erase_user(&self, user: &UserId, limit: usize) -> StoreResult<Erased> {
        let mut left = bounded(limit);
        let mut erased = Erased { events: 0, more: true };
        let sessions = self.look(|view| sessions_of(view, user, left)).await?;
        self.end_sessions(&sessions).await?;
        left -= sessions.len();
        if left > 0 && self.delete_room(&RoomId::inbox(user)).await? {
            left -= 1;
        }
        while left > 0 {
            match self.act(|view| self.erase_step(view, user, left)).await? {
                Some(step) => {
                    erased.events += step.events;
                    left = left.saturating_sub(step.looked.max(1));
                }
                None => return Ok(Erased { more: false, ..erased }),
            }
        }
        Ok(erased)
    }

    /// One step in the first room where the user may be found; `None`: there is none.
    fn erase_step(&self, view: &View, user: &UserId, left: usize) -> Ruled<Plan<Option<Step>>> {
        let job = JobRow {
            kind: ERASE.into(),
            target: user.shared(),
            room: 0,
            seq: Seq::ZERO,
            rev: Rev::default(),
        };
        let held: Option<JobRow> = view.get(job.key())?;
        let mut commit = Commit::default();
        commit.guards.push(bump(&job, held.as_ref().map(|held| held.rev)));
        let rooms = Range::of(MemberRow::TABLE, vec![user.to_datum()]).by(BY_USER).limit(1);
        let Some(member) = view.range::<MemberRow>(rooms)?.pop() else {
            if held.is_none() {
                return Ok(Plan::nothing(None));
            }
            commit.changes.push(Change::Remove { table: JobRow::TABLE, key: job.key() });
            return Ok(Plan::write(commit, None));
        };
        let from = held.filter(|held| held.room == member.room).map_or(Seq::ZERO, |held| held.seq);
        let remove_member = Change::Remove { table: MemberRow::TABLE, key: member.key() };
        let Some(home) = Home::find(view, member.room)? else {
            // It is to be purged, and its events with it.
            commit.changes.extend([remove_member, put_change(&job)]);
            return Ok(Plan::write(commit, Some(Step { looked: 1, events: 0 })));
        };
        let (mut room, mut owners) = (home.record(self.generation), home.owners());
        let is_owner = member.membership() == Some(Membership::Member(Role::Owner));
        if let Some(membership) = member.membership() {
            let was_member = matches!(membership, Membership::Member(_));
            room.members = room.members.saturating_sub(u32::from(was_member));
            owners = owners.saturating_sub(u32::from(is_owner));
        }
        if let Some(state) = erase_state(view, &room, user, &self.state_limits)? {
            commit.guards.extend(state.guards);
            commit.changes.extend(state.changes);
        }
        let (next, mut step, mut log) = erase_events(view, user, &mut room, from, left)?;
        let is_done = log.is_none() && next > room.head;
        if is_done {
            let (found, forget) = forget_sends(view, user, &room, left - step.looked.min(left))?;
            step.looked += found;
            log = forget;
        }
        let is_over = is_done && log.is_none();
        commit.log = log;
        let gone = MemberRow::of(member.room, &room.id, user, None);
        commit.changes.push(if is_over { remove_member } else { put_change(&gone) });
        commit.changes.push(put_change(&JobRow { room: member.room, seq: next, ..job }));
        home.put(&mut commit, &room, owners, member.membership().is_some(), step.events > 0);
        step.looked += usize::from(is_over);
        Ok(Plan::write(commit, Some(step)))
    }
}

/// Replaces events from a seq on, with the records of their sends. Returns the seq to go on from.
fn erase_events(
    view: &View,
    user: &UserId,
    room: &mut RoomRecord,
    from: Seq,
    limit: usize,
) -> Ruled<(Seq, Step, Option<LogChange>)> {
    let from = from.max(room.first);
    let log = room.epoch.incarnation.cast_signed();
    if from > room.head || room.first > room.head {
        return Ok((room.head.next(), Step { looked: 0, events: 0 }, None));
    }
    let entries: Vec<EntryRow> = view.log(LogRead {
        log,
        from: int(from),
        to: int(room.head),
        way: Way::Forwards,
        limit,
        max_bytes: STEP_BYTES,
        headers: false,
    })?;
    let looked = entries.len();
    let mut next = from;
    let mut replaced = Vec::new();
    for old in entries {
        next = old.seq.next();
        let hash = old.content_hash;
        let event = old.into_event(&room.id, room.epoch)?;
        if let Some(new) = event.without(user) {
            room.replace(&event, &new);
            let hash = hash.filter(|_| new.id.is_some());
            replaced.push(entry(&new, hash).to_row());
        }
    }
    let step = Step { looked, events: replaced.len() as u64 };
    let change = (!replaced.is_empty()).then(|| LogChange { log, act: LogAct::Replace(replaced) });
    // Only an empty change says that there is nothing more to replace: those that follow are for the next step.
    Ok((next, step, change))
}

/// Forgets sends of a user whose entries were trimmed. How many.
fn forget_sends(
    view: &View,
    user: &UserId,
    room: &RoomRecord,
    limit: usize,
) -> Ruled<(usize, Option<LogChange>)> {
    let log = room.epoch.incarnation.cast_signed();
    let sender = Some(user.to_datum());
    let sends = view.sends(Sends { log, sender, after: None, limit: limit.max(1) })?;
    let ids: Vec<_> = sends.iter().map(|send| (send[0].clone(), send[1].clone())).collect();
    let count = ids.len();
    Ok((count, (count > 0).then(|| LogChange { log, act: LogAct::Forget(ids) })))
}

fn erase_state(
    view: &View,
    room: &RoomRecord,
    user: &UserId,
    limits: &StateLimits,
) -> Ruled<Option<Commit>> {
    let number = room.epoch.incarnation;
    let Some(mut draft) = Draft::read(view, &room.id, number)? else { return Ok(None) };
    draft.erase(user, limits);
    Ok(draft.commit(number))
}

impl Home {
    fn find(view: &View, number: u64) -> Ruled<Option<Self>> {
        let key = vec![number.to_datum()];
        if let Some(room) = view.get::<RoomRow>(key.clone())? {
            return Ok(Some(Self::Room(room)));
        }
        Ok(view.get::<ImportRow>(key)?.map(Self::Import))
    }

    fn record(&self, generation: u64) -> RoomRecord {
        match self {
            Self::Room(row) => row.record(generation),
            Self::Import(row) => row.record(generation),
        }
    }

    fn owners(&self) -> u32 {
        match self {
            Self::Room(row) => row.owners,
            Self::Import(row) => row.owners,
        }
    }

    /// Puts the changed room, which then guards the commit.
    fn put(self, commit: &mut Commit, room: &RoomRecord, owners: u32, members: bool, events: bool) {
        match self {
            Self::Room(held) => {
                let members_rev = held.members_rev + u64::from(members);
                let row = RoomRow { owners, members_rev, ..RoomRow::of(room, Some(&held)) };
                let what = if members { what::MEMBERS } else { 0 }
                    | if events { what::REPLACED } else { 0 };
                commit.guards.push(bump(&row, Some(held.rev)));
                commit.touched.push(feed::changed(&row, what));
                commit.changes.push(put_change(&row));
            }
            Self::Import(held) => {
                let row = ImportRow { owners, ..ImportRow::of(room, Some(&held)) };
                commit.guards.push(bump(&row, Some(held.rev)));
                commit.changes.push(put_change(&row));
            }
        }
    }
}

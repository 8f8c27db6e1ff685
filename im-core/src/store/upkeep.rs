//! Deleting rooms, and removing what they leave behind.

use crate::backend::{Change, Commit, GuardAct, LogAct, LogChange, LogRead, Range, Sends, Way};
use crate::id::{RoomId, Seq};
use crate::ports::StoreResult;

use super::column::{Columnar, Rev};
use super::feed::{self, what};
use super::log::int;
use super::rooms::room;
use super::tables::{
    BY_ID, EntryRow, ImportRow, JobRow, MemberRow, Name, Record, RoomRow, StateHeadRow, StateRow,
};
use super::view::{Ruled, View};
use super::{BackendStore, Plan, bounded, bump, guard, put_change};

/// The kind of a job that removes what a room left behind.
const PURGE: &str = "purge";

impl BackendStore {
    /// Removes the room's record, so that there is no such room. A job removes the rest.
    pub(super) async fn delete_room(&self, id: &RoomId) -> StoreResult<bool> {
        self.act(|view| {
            let mut commit = drop_import(view, id)?;
            let Some(room) = room(view, id)? else {
                let nothing = commit.guards.is_empty();
                return Ok(if nothing { Plan::nothing(false) } else { Plan::write(commit, false) });
            };
            let key = vec![room.room.to_datum()];
            commit.guards.push(bump(&room, Some(room.rev)));
            commit.changes.push(Change::Remove { table: RoomRow::TABLE, key: key.clone() });
            if let Some(state) = view.get::<StateHeadRow>(key.clone())? {
                commit.guards.push(bump(&state, Some(state.rev)));
                commit.changes.push(Change::Remove { table: StateHeadRow::TABLE, key });
            }
            commit.touched.push(feed::changed(&room, what::DELETED));
            purge_later(&mut commit, room.room);
            Ok(Plan::write(commit, true))
        })
        .await
    }

    /// Removes records of rooms that were deleted, at most about `limit`. Whether there may be more.
    pub(super) async fn purge(&self, limit: usize) -> StoreResult<bool> {
        let mut left = bounded(limit);
        loop {
            let removed = self.act(|view| purge_step(view, left)).await?;
            let Some(removed) = removed else { return Ok(false) };
            left = left.saturating_sub(removed.max(1));
            if left == 0 {
                return Ok(true);
            }
        }
    }
}

/// Has a job remove everything under a room's number.
pub(super) fn purge_later(commit: &mut Commit, room: u64) {
    let target = Name::from(room.to_string());
    let job = JobRow { kind: PURGE.into(), target, room, seq: Seq::ZERO, rev: Rev::default() };
    commit.guards.push(bump(&job, None));
    commit.changes.push(put_change(&job));
}

/// A commit that drops the import of a room, if there is one.
pub(super) fn drop_import(view: &View, id: &RoomId) -> Ruled<Commit> {
    let mut commit = Commit::default();
    if let Some(import) = view.find_by::<ImportRow>(BY_ID, id.to_datum())? {
        let key = vec![import.room.to_datum()];
        commit.guards.push(bump(&import, Some(import.rev)));
        commit.changes.push(Change::Remove { table: ImportRow::TABLE, key });
        purge_later(&mut commit, import.room);
    }
    Ok(commit)
}

/// One step of the first job. How many records it removes; `None`: there is no job.
fn purge_step(view: &View, limit: usize) -> Ruled<Plan<Option<usize>>> {
    let jobs = Range::of(JobRow::TABLE, vec![Name::from(PURGE).into()]).limit(1);
    let Some(job) = view.range::<JobRow>(jobs)?.pop() else { return Ok(Plan::nothing(None)) };
    let room = job.room;
    let step = |removed: usize, mut commit: Commit| {
        commit.guards.push(bump(&job, Some(job.rev)));
        Ok(Plan::write(commit, Some(removed)))
    };
    let log =
        |act| Commit { log: Some(LogChange { log: room.cast_signed(), act }), ..Commit::default() };
    let entries: Vec<EntryRow> = view.log(LogRead {
        log: room.cast_signed(),
        from: 0,
        to: i64::MAX,
        way: Way::Forwards,
        limit,
        max_bytes: usize::MAX,
        headers: true,
    })?;
    if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
        let act = LogAct::Clear { from: int(first.seq), to: int(last.seq) };
        return step(entries.len(), log(act));
    }
    let sends = view.sends(Sends { log: room.cast_signed(), sender: None, after: None, limit })?;
    if !sends.is_empty() {
        let ids = sends.iter().map(|send| (send[0].clone(), send[1].clone())).collect();
        return step(sends.len(), log(LogAct::Forget(ids)));
    }
    let prefix = vec![room.to_datum()];
    let states: Vec<StateRow> =
        view.range(Range::of(StateRow::TABLE, prefix.clone()).limit(limit))?;
    if let Some(last) = states.last() {
        let to = vec![last.name.to_datum()];
        return step(states.len(), remove_up_to(StateRow::TABLE, prefix, to));
    }
    let members: Vec<MemberRow> =
        view.range(Range::of(MemberRow::TABLE, prefix.clone()).limit(limit))?;
    if let Some(last) = members.last() {
        let to = vec![last.user_id.to_datum()];
        return step(members.len(), remove_up_to(MemberRow::TABLE, prefix, to));
    }
    let key = job.key();
    let commit = Commit {
        guards: vec![guard(JobRow::TABLE, key.clone(), Some(job.rev), GuardAct::Bump)],
        changes: vec![Change::Remove { table: JobRow::TABLE, key }],
        ..Commit::default()
    };
    Ok(Plan::write(commit, Some(1)))
}

fn remove_up_to(
    table: crate::backend::TableId,
    prefix: crate::backend::Row,
    to: crate::backend::Row,
) -> Commit {
    let range = Change::RemoveRange { table, prefix, from: None, to: Some(to) };
    Commit { changes: vec![range], ..Commit::default() }
}

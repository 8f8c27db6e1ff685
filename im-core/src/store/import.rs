//! Rooms under import: records of their own until they are whole, and then rooms.

use std::collections::HashSet;

use crate::backend::{Change, Commit, LogAct, LogChange, Read};
use crate::id::{Epoch, RoomId, UserId};
use crate::ports::StoreResult;
use crate::state::{ImportedPart, ImportedRoom, Membership, Refusal, RoomRecord};
use crate::wire::Role;

use super::column::Columnar;
use super::feed;
use super::log::entry;
use super::rooms::{member_key, room};
use super::tables::{BY_ID, ImportRow, MemberRow, Record, RoomRow, StateHeadRow};
use super::upkeep::drop_import;
use super::view::{Ruled, View};
use super::{BackendStore, Plan, bump, put_change};

impl BackendStore {
    pub(super) async fn begin_import(&self, new: &ImportedRoom) -> StoreResult<Epoch> {
        let epoch = self.epoch(self.room_number().await?);
        self.act(|view| {
            if room(view, &new.id)?.is_some() {
                return Err(Refusal::Exists.into());
            }
            let row = ImportRow::of(&new.begin(epoch), None);
            let mut commit = drop_import(view, &new.id)?;
            commit.guards.push(bump(&row, None));
            commit.changes.push(put_change(&row));
            Ok(Plan::write(commit, epoch))
        })
        .await
    }

    pub(super) async fn import_part(
        &self,
        id: &RoomId,
        epoch: Epoch,
        part: &ImportedPart,
    ) -> StoreResult<()> {
        self.act(|view| {
            let held = self.open_import(view, id, epoch)?;
            let mut record = held.record(self.generation);
            let mut owners = held.owners;
            let members = new_members(view, epoch.incarnation, part)?;
            for (_, membership) in &part.memberships {
                record.members += u32::from(matches!(membership, Membership::Member(_)));
                owners += u32::from(*membership == Membership::Member(Role::Owner));
            }
            let (mut entries, mut sends) = (Vec::new(), Vec::new());
            let mut named: Vec<UserId> = Vec::new();
            for event in part.events.iter().cloned() {
                let (event, send) = record.import(event)?;
                if let Some((id, _)) = &send {
                    sends.push((event.from.clone(), id.clone()));
                }
                named.push(event.from.clone());
                named.extend(event.member_changes().iter().map(|change| change.user().clone()));
                entries.push(entry(&event, send.map(|(_, record)| record.hash)).to_row());
            }
            let is_twice = sends.iter().collect::<HashSet<_>>().len() < sends.len();
            if is_twice || any_sent(view, epoch.incarnation, &sends)? {
                return Err(Refusal::NotNext.into());
            }
            let row = ImportRow { owners, ..ImportRow::of(&record, Some(&held)) };
            let mut commit = Commit {
                guards: vec![bump(&row, Some(held.rev))],
                changes: vec![put_change(&row)],
                ..Commit::default()
            };
            if !entries.is_empty() {
                let (log, act) = (epoch.incarnation.cast_signed(), LogAct::Append(entries));
                commit.log = Some(LogChange { log, act });
            }
            let member = |(user, membership): &(UserId, Membership)| {
                put_change(&MemberRow::of(row.room, id, user, Some(*membership)))
            };
            commit.changes.extend(part.memberships.iter().map(member));
            named.retain(|user| !members.contains(user) && !user.is_erased());
            named.sort();
            named.dedup();
            commit.changes.extend(traces(view, id, row.room, &named)?);
            Ok(Plan::write(commit, ()))
        })
        .await
    }

    pub(super) async fn finish_import(&self, id: &RoomId, epoch: Epoch) -> StoreResult<RoomRecord> {
        self.act(|view| {
            let import = self.open_import(view, id, epoch)?;
            let record = import.record(self.generation);
            let row = RoomRow { owners: import.owners, ..RoomRow::of(&record, None) };
            let state = StateHeadRow::empty(row.room);
            let key = import.key();
            let commit = Commit {
                guards: vec![bump(&import, Some(import.rev)), bump(&row, None), bump(&state, None)],
                changes: vec![
                    Change::Remove { table: ImportRow::TABLE, key },
                    put_change(&row),
                    put_change(&state),
                ],
                touched: vec![feed::appended(&row, 0, true)],
                ..Commit::default()
            };
            Ok(Plan::write(commit, record))
        })
        .await
    }

    /// The import that has this epoch, where there is no room yet.
    fn open_import(&self, view: &View, id: &RoomId, epoch: Epoch) -> Ruled<ImportRow> {
        let import = view.find_by::<ImportRow>(BY_ID, id.to_datum())?;
        if room(view, id)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        let import = import.filter(|import| self.epoch(import.room) == epoch);
        import.ok_or_else(|| Refusal::NoSuchRoom.into())
    }
}

/// The users of a part, each for the first time in the import.
fn new_members(view: &View, room: u64, part: &ImportedPart) -> Ruled<HashSet<UserId>> {
    if part.memberships.iter().any(|(user, _)| user.is_erased()) {
        return Err(Refusal::Reserved.into());
    }
    let users: HashSet<UserId> = part.memberships.iter().map(|(user, _)| user.clone()).collect();
    let keys = part.memberships.iter().map(|(user, _)| member_key(room, user)).collect();
    let held = view.get_all::<MemberRow>(keys)?;
    let is_held = held.into_iter().flatten().any(|row| row.membership().is_some());
    if is_held || users.len() < part.memberships.len() {
        return Err(Refusal::NotNext.into());
    }
    Ok(users)
}

fn any_sent(view: &View, room: u64, sends: &[(UserId, crate::id::MessageId)]) -> Ruled<bool> {
    let read = |(sender, id): &(UserId, crate::id::MessageId)| Read::Send {
        log: room.cast_signed(),
        sender: sender.to_datum(),
        id: id.to_datum(),
    };
    view.any_send(sends.iter().map(read).collect())
}

/// Records by which users are found in a room, for those who have none.
pub(super) fn traces(view: &View, id: &RoomId, room: u64, users: &[UserId]) -> Ruled<Vec<Change>> {
    let keys = users.iter().map(|user| member_key(room, user)).collect();
    let held = view.get_all::<MemberRow>(keys)?;
    let missing = users.iter().zip(held).filter(|(_, held)| held.is_none());
    let trace = |(user, _)| put_change(&MemberRow::of(room, id, user, None));
    Ok(missing.map(trace).collect())
}

//! Which rooms there are, and who is in them.

use crate::backend::{Datum, Range, Row};
use crate::id::{Cursor, Epoch, RoomId, UserId};
use crate::ports::{Head, StoreResult};
use crate::state::{Membership, RoomRecord};
use crate::wire::{Role, RoomKind};

use super::BackendStore;
use super::column::Columnar;
use super::tables::{
    BY_ID, BY_USER, ImportRow, MemberRow, MemberState, Record, RoomRow, StateHeadRow,
};
use super::view::{Ruled, View};

impl BackendStore {
    pub(super) async fn rooms(
        &self,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<RoomRecord>> {
        let mut range = Range::of(RoomRow::TABLE, Vec::new()).by(BY_ID).limit(limit);
        range.after = after.map(|after| vec![after.to_datum()]);
        let rows = self.look(|view| view.range::<RoomRow>(range.clone())).await?;
        Ok(rows.iter().map(|row| row.record(self.generation)).collect())
    }

    pub(super) async fn room(&self, id: &RoomId) -> StoreResult<Option<RoomRecord>> {
        Ok(self.look(|view| room(view, id)).await?.map(|row| row.record(self.generation)))
    }

    pub(super) async fn heads(&self, ids: &[RoomId]) -> StoreResult<Vec<Option<Head>>> {
        let found = self.look(|view| rooms_with_state(view, ids)).await?;
        let head = |(room, state): (RoomRow, Option<StateHeadRow>)| Head {
            cursor: Cursor { epoch: self.epoch(room.room), seq: room.head_seq },
            first: room.first_seq,
            state_revision: state.map_or(0, |state| state.revision),
            erased: room.erased,
        };
        Ok(found.into_iter().map(|found| found.map(head)).collect())
    }

    pub(super) async fn membership(
        &self,
        id: &RoomId,
        user: &UserId,
    ) -> StoreResult<Option<Membership>> {
        self.look(|view| {
            let Some(room) = room(view, id)? else { return Ok(None) };
            Ok(view.get::<MemberRow>(member_key(room.room, user))?.and_then(|row| row.membership()))
        })
        .await
    }

    /// What `read` makes of memberships, those of which it makes nothing passed over.
    pub(super) async fn list_members<T>(
        &self,
        id: &RoomId,
        after: Option<&UserId>,
        limit: usize,
        read: impl Fn(Membership) -> Option<T>,
    ) -> StoreResult<Vec<(UserId, T)>> {
        self.look(|view| {
            let Some(room) = room(view, id)? else { return Ok(Vec::new()) };
            let mut range = Range::of(MemberRow::TABLE, vec![room.room.to_datum()]);
            range.after = after.map(|after| vec![after.to_datum()]);
            let member = |row: MemberRow| {
                let value = read(row.membership()?)?;
                Some((row.user_id, value))
            };
            filtered(view, range, limit, |rows: Vec<MemberRow>| {
                Ok(rows.into_iter().filter_map(member).collect())
            })
        })
        .await
    }

    pub(super) async fn rooms_of(
        &self,
        user: &UserId,
        after: Option<&RoomId>,
        limit: usize,
    ) -> StoreResult<Vec<(RoomId, RoomKind, Role)>> {
        self.look(|view| {
            let mut range = Range::of(MemberRow::TABLE, vec![user.to_datum()]).by(BY_USER);
            range.after = after.map(|after| vec![after.to_datum()]);
            let member = |row: MemberRow| match row.membership() {
                Some(Membership::Member(role)) => Some((row.room, row.room_id, role)),
                _ => None,
            };
            filtered(view, range, limit, |rows: Vec<MemberRow>| {
                let members: Vec<_> = rows.into_iter().filter_map(member).collect();
                let keys = members.iter().map(|(room, ..)| vec![room.to_datum()]).collect();
                let rooms = view.get_all::<RoomRow>(keys)?;
                let listed = members.into_iter().zip(rooms);
                let listed =
                    listed.filter_map(|((_, id, role), room)| Some((id, room?.kind, role)));
                Ok(listed.collect())
            })
        })
        .await
    }

    /// The epoch of a room with this number.
    pub(super) fn epoch(&self, room: u64) -> Epoch {
        Epoch { generation: self.generation, incarnation: room }
    }
}

/// By how much more is read where what was read is passed over.
const MORE: usize = 4;

/// The first `limit` values that `read` makes of a range, in its order. It may pass over records.
fn filtered<R: Record, T>(
    view: &View,
    range: Range,
    limit: usize,
    read: impl Fn(Vec<R>) -> Ruled<Vec<T>>,
) -> Ruled<Vec<T>> {
    let mut size = limit;
    loop {
        let rows: Vec<R> = view.range(range.clone().limit(size))?;
        let is_all = rows.len() < size;
        let mut found = read(rows)?;
        if found.len() >= limit || is_all {
            found.truncate(limit);
            return Ok(found);
        }
        size = size.saturating_mul(MORE);
    }
}

pub(super) fn room(view: &View, id: &RoomId) -> Ruled<Option<RoomRow>> {
    view.find_by(BY_ID, id.to_datum())
}

/// A room, and what guards its state.
type WithState = (RoomRow, Option<StateHeadRow>);

fn rooms_with_state(view: &View, ids: &[RoomId]) -> Ruled<Vec<Option<WithState>>> {
    let ids: Vec<Datum> = ids.iter().map(RoomId::to_datum).collect();
    let rooms = view.find_all_by::<RoomRow>(BY_ID, ids)?;
    let keys = rooms.iter().flatten().map(|room| vec![room.room.to_datum()]).collect();
    let mut states = view.get_all::<StateHeadRow>(keys)?.into_iter();
    let with_state = |room: Option<RoomRow>| Some((room?, states.next().flatten()));
    Ok(rooms.into_iter().map(with_state).collect())
}

pub(super) fn member_key(room: u64, user: &UserId) -> Row {
    vec![room.to_datum(), user.to_datum()]
}

/// Rooms and rooms under import as records of rooms, and from them. Columns that no such record has are kept.
macro_rules! room_records {
    ($($row:ident keeps $($kept:ident),+;)+) => {
        $(impl $row {
            /// The record of a room that is new, or the changed one of `held`.
            pub(super) fn of(record: &RoomRecord, held: Option<&Self>) -> Self {
                Self {
                    room: record.epoch.incarnation,
                    id: record.id.clone(),
                    kind: record.kind,
                    open: record.open,
                    head_seq: record.head,
                    first_seq: record.first,
                    bytes: record.bytes,
                    members: record.members,
                    created_at: record.created,
                    erased: record.erased,
                    $($kept: held.map(|held| held.$kept.clone()).unwrap_or_default(),)+
                }
            }

            /// The record of the room, in a store of this generation.
            pub(super) fn record(&self, generation: u64) -> RoomRecord {
                RoomRecord {
                    id: self.id.clone(),
                    kind: self.kind,
                    open: self.open,
                    epoch: Epoch { generation, incarnation: self.room },
                    head: self.head_seq,
                    first: self.first_seq,
                    created: self.created_at,
                    members: self.members,
                    bytes: self.bytes,
                    erased: self.erased,
                }
            }
        })+
    };
}

room_records! {
    RoomRow keeps owners, members_rev, rev, changed;
    ImportRow keeps owners, rev;
}

impl MemberRow {
    pub(super) fn of(
        room: u64,
        room_id: &RoomId,
        user: &UserId,
        membership: Option<Membership>,
    ) -> Self {
        let (state, role) = match membership {
            Some(Membership::Member(role)) => (MemberState::Member, Some(role)),
            Some(Membership::Banned) => (MemberState::Banned, None),
            None => (MemberState::None, None),
        };
        Self { room, user_id: user.clone(), room_id: room_id.clone(), state, role }
    }

    pub(super) fn membership(&self) -> Option<Membership> {
        match (self.state, self.role) {
            (MemberState::Member, Some(role)) => Some(Membership::Member(role)),
            (MemberState::Banned, _) => Some(Membership::Banned),
            _ => None,
        }
    }
}

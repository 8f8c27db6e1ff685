//! Rooms under import: their rows stand beside those of other rooms, and nothing but a row of `im_imports` leads there.

use std::collections::{BTreeSet, HashSet};

use im_core::id::new_generation;
use im_core::state::{ContentHash, ImportedPart, ImportedRoom, Membership, Refusal, RoomRecord};
use im_core::wire::Event;
use im_core::{Epoch, RoomId, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::Link;
use crate::migrate::{GENERATION, read_number};
use crate::model;
use crate::put::{IMPORTS, ROOMS};
use crate::runs::Runs;
use crate::statement::Statement;

/// What a part writes beside its memberships: its events, with the hashes of what was submitted.
type Rows = Vec<(Event, Option<ContentHash>)>;

impl<D: Dialect> Link<'_, D> {
    pub(crate) async fn begin_import(
        &mut self,
        new: &ImportedRoom,
    ) -> Outcome<Result<Epoch, Refusal>> {
        if self.room(&new.id).await?.is_some() {
            return Ok(Err(Refusal::Exists));
        }
        self.drop_import(&new.id).await?;
        let generation = read_number::<D>(self.0, GENERATION).await?;
        let generation = generation.ok_or(Fault::Damaged("generation"))?;
        let epoch = Epoch { generation, incarnation: new_generation() };
        self.put_rooms(IMPORTS, &[&new.begin(epoch)], "").await?;
        Ok(Ok(epoch))
    }

    /// All of it is decided before anything is written: other writes share the transaction, and a refusal is no reason to
    /// roll them back.
    pub(crate) async fn import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
        part: &ImportedPart,
    ) -> Outcome<Result<(), Refusal>> {
        let mut room = match self.open_import(id, epoch).await? {
            Ok(room) => room,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let rows = match take(&mut room, part) {
            Ok(rows) => rows,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.holds_some(epoch, part, &rows).await? {
            return Ok(Err(Refusal::NotNext));
        }
        let number = epoch.incarnation;
        let place = |(user, membership): &(UserId, Membership)| {
            (number, user.clone(), id.clone(), Some(*membership))
        };
        let places = part.memberships.iter().map(place).collect();
        self.put_memberships(places, &["standing"]).await?;
        let mut named = BTreeSet::new();
        for (event, _) in &rows {
            named.insert(event.from.clone());
            named.extend(event.member_changes().iter().map(|change| change.user().clone()));
        }
        self.put_traces(number, id, named).await?;
        let events: Vec<_> = rows.iter().map(|(event, hash)| (event, *hash)).collect();
        self.add_messages(&events, &mut Runs::default()).await?;
        self.update_room(IMPORTS, &room).await?;
        Ok(Ok(()))
    }

    /// Whether a user or a send of the part came before.
    async fn holds_some(
        &mut self,
        epoch: Epoch,
        part: &ImportedPart,
        rows: &Rows,
    ) -> Outcome<bool> {
        let users = part.memberships.iter().map(|(user, _)| (epoch.incarnation, user.clone()));
        let users: Vec<_> = users.collect();
        let held = self.find_memberships(&users).await?;
        if held.iter().any(|(_, membership)| membership.is_some()) {
            return Ok(true);
        }
        let send = |(event, _): &(Event, _)| {
            event.id.clone().map(|id| (epoch.incarnation, event.from.clone(), id))
        };
        let sends: Vec<_> = rows.iter().filter_map(send).collect();
        Ok(!self.find_idempotency_records(&sends).await?.is_empty())
    }

    pub(crate) async fn finish_import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
    ) -> Outcome<Result<RoomRecord, Refusal>> {
        let room = match self.open_import(id, epoch).await? {
            Ok(room) => room,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let delete = Statement::new("DELETE FROM im_imports WHERE room = ");
        self.run(delete.int(epoch.incarnation)).await?;
        // Fails where a room was made meanwhile, and is refused when it is tried again.
        self.put_rooms(ROOMS, &[&room], "").await?;
        Ok(Ok(room))
    }

    /// Locks the import that has this epoch, where there is no room yet.
    async fn open_import(
        &mut self,
        id: &RoomId,
        epoch: Epoch,
    ) -> Outcome<Result<RoomRecord, Refusal>> {
        let select = format!("SELECT {} FROM im_imports t WHERE t.id = ", model::ROOM);
        let select = Statement::new(&select).text(id.as_str()).sql(D::FOR_UPDATE);
        let held = self.first(select, model::room).await?;
        if self.room(id).await?.is_some() {
            return Ok(Err(Refusal::Exists));
        }
        Ok(held.filter(|room| room.epoch == epoch).ok_or(Refusal::NoSuchRoom))
    }
}

/// Takes a part into the room's record, as far as that can be decided without a look at what it has.
fn take(room: &mut RoomRecord, part: &ImportedPart) -> Result<Rows, Refusal> {
    let mut users = HashSet::new();
    for (user, membership) in &part.memberships {
        if user.is_erased() {
            return Err(Refusal::Reserved);
        }
        if !users.insert(user) {
            return Err(Refusal::NotNext);
        }
        room.members += u32::from(matches!(membership, Membership::Member(_)));
    }
    let (mut rows, mut ids) = (Rows::new(), HashSet::new());
    for event in &part.events {
        let (event, send) = room.import(event.clone())?;
        let hash = send.as_ref().map(|(_, record)| record.hash);
        if send.is_some_and(|(id, _)| !ids.insert((event.from.clone(), id))) {
            return Err(Refusal::NotNext);
        }
        rows.push((event, hash));
    }
    Ok(rows)
}

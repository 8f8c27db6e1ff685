//! Appends: what the rules need to know is read under a lock on the rooms, they decide, and all that they say is written.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use im_core::id::new_generation;
use im_core::ports::{Appended, StoreError, StoreResult};
use im_core::state::{
    Act, Append, Authority, Commit, ContentHash, IdempotencyRecord, Membership, Plan, PlanError,
    RoomRecord, View, plan,
};
use im_core::wire::{Event, Role};
use im_core::{Epoch, MessageId, RoomId, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::known::{Known, Memberships};
use crate::link::Link;
use crate::migrate::{GENERATION, read_number};
use crate::model;
use crate::put::ROOMS;
use crate::statement::{Statement, pieces};

type Receipts = HashMap<(u64, UserId, MessageId), Option<IdempotencyRecord>>;

/// Whether repeats are looked for before a batch is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeats {
    /// They are.
    LookedFor,
    /// They are not: if there is one after all, writing fails, for its key is taken.
    Unlikely,
}

/// What is known of the rooms that a batch is about, and what it makes of them.
///
/// Invariant: the rooms in `known` are locked by the transaction, or made by it.
struct Draft {
    known: Known,
    repeats: Repeats,
    generation: u64,
    receipts: Receipts,
    made: BTreeSet<RoomId>,
    changed: BTreeSet<RoomId>,
    /// How users stand now, and `None` for those of whom there is a trace and no more.
    moved: Memberships,
    /// Senders of whom no row was seen.
    traced: BTreeSet<(u64, UserId)>,
    /// Rooms whose owners were read.
    owners: BTreeSet<u64>,
    /// What is added, with the hashes of what was submitted.
    events: Vec<(Arc<Event>, Option<ContentHash>)>,
}

/// What a plan asked for and the draft has not read.
enum Unread {
    Membership(u64, UserId),
    Owners(u64),
    Receipt(u64, UserId, MessageId),
}

/// Decides a batch and writes it, within the transaction that `link` is in. The rooms are locked in the order of their ids, so
/// that two transactions never wait for each other. `known` is what still holds of an earlier one; what holds after this one, if it
/// commits, is given back with the answers.
pub(crate) async fn append<D: Dialect>(
    link: &mut Link<'_, D>,
    batch: &[&Append],
    known: Known,
    repeats: Repeats,
) -> Outcome<(Vec<StoreResult<Appended>>, Known)> {
    let mut draft = Draft::new(known, repeats);
    draft.lock_rooms(link, batch).await?;
    draft.read_ahead(link, batch).await?;
    let mut answers = Vec::with_capacity(batch.len());
    for append in batch {
        answers.push(draft.decide(link, append).await?);
    }
    draft.write(link).await?;
    Ok((answers, draft.known.kept()))
}

impl Draft {
    fn new(known: Known, repeats: Repeats) -> Self {
        Self {
            known,
            repeats,
            generation: 0,
            receipts: Receipts::new(),
            made: BTreeSet::new(),
            changed: BTreeSet::new(),
            moved: Memberships::new(),
            traced: BTreeSet::new(),
            owners: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    async fn lock_rooms<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        batch: &[&Append],
    ) -> Outcome<()> {
        let wanted: BTreeSet<&RoomId> = batch.iter().map(|append| &append.room).collect();
        let unknown = |room: &&RoomId| !self.known.rooms.contains_key(*room);
        let wanted: Vec<&RoomId> = wanted.into_iter().filter(unknown).collect();
        for piece in pieces(&wanted) {
            let select =
                Statement::new(&format!("SELECT {} FROM im_rooms t WHERE t.id IN ", model::ROOM))
                    .list(piece, |statement, id| statement.text(id.as_str()))
                    .sql(" ORDER BY t.id")
                    .sql(D::FOR_UPDATE);
            for room in link.all(select, model::room).await? {
                self.known.rooms.insert(room.id.clone(), Some(room));
            }
        }
        for id in wanted {
            self.known.rooms.entry(id.clone()).or_insert(None);
        }
        if batch.iter().any(|append| matches!(self.known.rooms.get(&append.room), Some(None))) {
            let held = read_number::<D>(link.0, GENERATION).await?;
            self.generation = held.ok_or(Fault::Damaged("generation"))?;
        }
        Ok(())
    }

    /// Reads at once what the plans are going to ask for, as far as that can be seen.
    async fn read_ahead<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        batch: &[&Append],
    ) -> Outcome<()> {
        let (mut users, mut sends) = (BTreeSet::new(), BTreeSet::new());
        for append in batch {
            let Some(Some(room)) = self.known.rooms.get(&append.room) else { continue };
            let incarnation = room.epoch.incarnation;
            if let Authority::User(user) = &append.authority {
                users.insert((incarnation, user.clone()));
            }
            match &append.act {
                Act::Post { event, .. } => {
                    // Whether there is a trace of who sends, whoever stands for it.
                    users.insert((incarnation, event.from.clone()));
                    if let (Some(key), Repeats::LookedFor) = (&event.idempotency_key, self.repeats)
                    {
                        sends.insert((incarnation, event.from.clone(), key.id.clone()));
                    }
                }
                Act::Change { by, intent } => {
                    users.insert((incarnation, by.clone()));
                    users.extend(intent.target().map(|user| (incarnation, user.clone())));
                }
                // It exists, so this may be its owner again.
                Act::Create { seed, .. } => {
                    users.extend(seed.members.iter().map(|(user, _)| (incarnation, user.clone())));
                }
            }
        }
        users.retain(|user| !self.known.memberships.contains_key(user));
        self.read_memberships(link, users.into_iter().collect()).await?;
        self.read_idempotency_records(link, sends.into_iter().collect()).await
    }

    async fn read_memberships<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        wanted: Vec<(u64, UserId)>,
    ) -> Outcome<()> {
        for (key, membership) in link.find_memberships(&wanted).await? {
            self.known.seen.insert(key.clone());
            self.known.memberships.insert(key, membership);
        }
        for key in wanted {
            self.known.memberships.entry(key).or_insert(None);
        }
        Ok(())
    }

    /// What this transaction has changed already stays as it is.
    async fn read_owners<D: Dialect>(&mut self, link: &mut Link<'_, D>, room: u64) -> Outcome<()> {
        for user in link.find_owners(room).await? {
            let key = (room, user);
            self.known.seen.insert(key.clone());
            let owner = Some(Membership::Member(Role::Owner));
            self.known.memberships.entry(key).or_insert(owner);
        }
        self.owners.insert(room);
        Ok(())
    }

    async fn read_idempotency_records<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        wanted: Vec<(u64, UserId, MessageId)>,
    ) -> Outcome<()> {
        let found = link.find_idempotency_records(&wanted).await?;
        self.receipts.extend(found.into_iter().map(|(key, record)| (key, Some(record))));
        for key in wanted {
            self.receipts.entry(key).or_insert(None);
        }
        Ok(())
    }

    /// Decides one append. What its plan asks for beyond what was read ahead is read, and it is asked again.
    async fn decide<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        append: &Append,
    ) -> Outcome<StoreResult<Appended>> {
        loop {
            let generation = self.generation;
            let fresh = || Epoch { generation, incarnation: new_generation() };
            match plan(append, self, fresh) {
                Ok(Plan::Commit(commit)) => {
                    return Ok(Ok(Appended::Committed(self.take(*commit))));
                }
                Ok(Plan::Duplicate { epoch, record }) => {
                    return Ok(Ok(Appended::Duplicate { epoch, record }));
                }
                Err(PlanError::Refused(refusal)) => {
                    // A repeat is one, whatever its sender may do by now.
                    match self.overlooked(append) {
                        Some((room, sender, id)) => {
                            self.read_idempotency_records(link, vec![(room, sender, id)]).await?;
                        }
                        None => return Ok(Err(StoreError::from(refusal))),
                    }
                }
                Err(PlanError::Store(Unread::Membership(room, user))) => {
                    self.read_memberships(link, vec![(room, user)]).await?;
                }
                Err(PlanError::Store(Unread::Owners(room))) => self.read_owners(link, room).await?,
                Err(PlanError::Store(Unread::Receipt(room, sender, id))) => {
                    self.read_idempotency_records(link, vec![(room, sender, id)]).await?;
                }
            }
        }
    }

    /// The send that an append might repeat, if nobody has looked for it.
    fn overlooked(&self, append: &Append) -> Option<(u64, UserId, MessageId)> {
        let room = self.known.rooms.get(&append.room)?.as_ref()?;
        let Act::Post { event, .. } = &append.act else { return None };
        let id = event.idempotency_key.as_ref()?.id.clone();
        let send = (room.epoch.incarnation, event.from.clone(), id);
        (!self.receipts.contains_key(&send)).then_some(send)
    }

    fn take(&mut self, commit: Commit) -> Arc<Event> {
        let Commit { event, room, memberships, send } = commit;
        let incarnation = room.epoch.incarnation;
        let event = Arc::new(event);
        if self.known.rooms.get(&room.id).is_none_or(Option::is_none) {
            self.made.insert(room.id.clone());
        } else {
            self.changed.insert(room.id.clone());
        }
        for (user, membership) in memberships {
            self.known.memberships.insert((incarnation, user.clone()), membership);
            self.known.seen.insert((incarnation, user.clone()));
            self.moved.insert((incarnation, user), membership);
        }
        let author = (incarnation, event.from.clone());
        if !self.known.seen.contains(&author) {
            self.known.seen.insert(author.clone());
            self.traced.insert(author);
        }
        let hash = send.as_ref().map(|(_, record)| record.hash);
        if let Some((id, record)) = send {
            self.receipts.insert((incarnation, event.from.clone(), id), Some(record));
        }
        self.known.rooms.insert(room.id.clone(), Some(room));
        self.events.push((Arc::clone(&event), hash));
        event
    }

    async fn write<D: Dialect>(&mut self, link: &mut Link<'_, D>) -> Outcome<()> {
        self.write_rooms(link).await?;
        self.write_members(link).await?;
        let events: Vec<_> = self.events.iter().map(|(event, hash)| (&**event, *hash)).collect();
        link.add_messages(&events, &mut self.known.runs).await
    }

    async fn write_rooms<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let record = |id: &RoomId| self.known.rooms.get(id).and_then(Option::as_ref);
        let made: Vec<&RoomRecord> = self.made.iter().filter_map(record).collect();
        let changed: Vec<&RoomRecord> =
            self.changed.iter().filter(|id| !self.made.contains(*id)).filter_map(record).collect();
        link.put_rooms(ROOMS, &made, "").await?;
        let update = D::on_conflict("room", &["head_seq", "bytes", "members"]);
        link.put_rooms(ROOMS, &changed, &update).await
    }

    async fn write_members<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        if self.moved.is_empty() && self.traced.is_empty() {
            return Ok(());
        }
        let rooms = self.known.rooms.values().flatten();
        let ids: HashMap<u64, &RoomId> =
            rooms.map(|room| (room.epoch.incarnation, &room.id)).collect();
        let place = |((room, user), membership): (&(u64, UserId), &Option<Membership>)| {
            // The room of each is there: a plan has given both.
            ids.get(room).map(|id| (*room, user.clone(), RoomId::clone(id), *membership))
        };
        let places = self.moved.iter().filter_map(place).collect();
        link.put_memberships(places, &["standing"]).await?;
        // Whoever has a row by now keeps it as it is.
        let traced = self.traced.iter().map(|author| (author, &None));
        link.put_memberships(traced.filter_map(place).collect(), &["room_id"]).await
    }
}

impl View for Draft {
    type Error = Unread;

    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Unread> {
        // Those that the batch names are all there.
        Ok(self.known.rooms.get(room).cloned().flatten())
    }

    fn membership(&self, room: &RoomRecord, user: &UserId) -> Result<Option<Membership>, Unread> {
        let incarnation = room.epoch.incarnation;
        match self.known.memberships.get(&(incarnation, user.clone())) {
            Some(membership) => Ok(*membership),
            None if self.made.contains(&room.id) => Ok(None),
            None => Err(Unread::Membership(incarnation, user.clone())),
        }
    }

    fn another_owner(&self, room: &RoomRecord, user: &UserId) -> Result<bool, Unread> {
        let incarnation = room.epoch.incarnation;
        let owner = Some(Membership::Member(Role::Owner));
        let known = self.known.memberships.iter();
        let owns = |((room, other), membership): (&(u64, UserId), &Option<Membership>)| {
            *room == incarnation && *membership == owner && other != user
        };
        if known.into_iter().any(owns) {
            return Ok(true);
        }
        match self.made.contains(&room.id) || self.owners.contains(&incarnation) {
            true => Ok(false),
            false => Err(Unread::Owners(incarnation)),
        }
    }

    fn idempotency_record(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<IdempotencyRecord>, Unread> {
        let incarnation = room.epoch.incarnation;
        match self.receipts.get(&(incarnation, sender.clone(), id.clone())) {
            Some(record) => Ok(*record),
            None if self.made.contains(&room.id) => Ok(None),
            None if self.repeats == Repeats::Unlikely => Ok(None),
            None => Err(Unread::Receipt(incarnation, sender.clone(), id.clone())),
        }
    }
}

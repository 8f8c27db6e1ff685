//! Appends: what the rules need to know is read under a lock on the rooms, they decide, and all that they say is written.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use im_core::ports::{Appended, StoreError, StoreResult};
use im_core::state::{
    Act, Append, Commit, Guard, Plan, PlanError, RoomRecord, SendRecord, Standing, View, plan,
};
use im_core::wire::Event;
use im_core::{Epoch, MessageId, RoomId, UserId};

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::Link;
use crate::migrate::{GENERATION, fresh_number, read_number};
use crate::model;
use crate::put::ROOMS;
use crate::statement::{Statement, pieces};

type Standings = HashMap<(u64, UserId), Option<Standing>>;
type Receipts = HashMap<(u64, UserId, MessageId), Option<SendRecord>>;

/// What is known of the rooms that a batch is about, and what it makes of them.
///
/// Invariant: the rooms in `rooms` are locked by the transaction, or made by it.
#[derive(Default)]
struct Draft {
    generation: u64,
    /// `None`: there is no such room.
    rooms: HashMap<RoomId, Option<RoomRecord>>,
    standings: Standings,
    receipts: Receipts,
    made: BTreeSet<RoomId>,
    changed: BTreeSet<RoomId>,
    /// How users stand now, and `None` for those of whom there is a trace and no more.
    moved: Standings,
    /// Senders of whom no row was seen.
    traced: BTreeSet<(u64, UserId)>,
    /// Those who have a row among the members, or get one.
    seen: HashSet<(u64, UserId)>,
    events: Vec<Arc<Event>>,
    sends: Vec<(u64, UserId, MessageId, SendRecord)>,
}

/// What a plan asked for and the draft has not read.
enum Unread {
    Standing(u64, UserId),
    Receipt(u64, UserId, MessageId),
}

/// Decides a batch and writes it, within the transaction that `link` is in. The rooms are locked in the order of their ids, so
/// that two transactions never wait for each other.
pub(crate) async fn append<D: Dialect>(
    link: &mut Link<'_, D>,
    batch: &[&Append],
) -> Outcome<Vec<StoreResult<Appended>>> {
    let mut draft = Draft::default();
    draft.lock_rooms(link, batch).await?;
    draft.read_ahead(link, batch).await?;
    let mut answers = Vec::with_capacity(batch.len());
    for append in batch {
        answers.push(draft.decide(link, append).await?);
    }
    draft.write(link).await?;
    Ok(answers)
}

impl Draft {
    async fn lock_rooms<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        batch: &[&Append],
    ) -> Outcome<()> {
        let wanted: BTreeSet<&RoomId> = batch.iter().map(|append| &append.room).collect();
        let wanted: Vec<&RoomId> = wanted.into_iter().collect();
        for piece in pieces(&wanted) {
            let select =
                Statement::new(&format!("SELECT {} FROM im_rooms t WHERE t.id IN ", model::ROOM))
                    .list(piece, |statement, id| statement.text(id.as_str()))
                    .sql(" ORDER BY t.id")
                    .sql(D::FOR_UPDATE);
            for room in link.all(select, model::room).await? {
                self.rooms.insert(room.id.clone(), Some(room));
            }
        }
        for id in wanted {
            self.rooms.entry(id.clone()).or_insert(None);
        }
        if self.rooms.values().any(Option::is_none) {
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
            let Some(Some(room)) = self.rooms.get(&append.room) else { continue };
            let incarnation = room.epoch.incarnation;
            if let Guard::As(user) = &append.guard {
                users.insert((incarnation, user.clone()));
            }
            match &append.act {
                Act::Post { event, .. } => {
                    // Whether there is a trace of who sends, whoever stands for it.
                    users.insert((incarnation, event.from.clone()));
                    if let Some(key) = &event.key {
                        sends.insert((incarnation, event.from.clone(), key.id.clone()));
                    }
                }
                Act::Change { by, intent } => {
                    users.insert((incarnation, by.clone()));
                    users.extend(intent.target().map(|user| (incarnation, user.clone())));
                }
                Act::Create { .. } => {}
            }
        }
        self.read_standings(link, users.into_iter().collect()).await?;
        self.read_receipts(link, sends.into_iter().collect()).await
    }

    async fn read_standings<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        wanted: Vec<(u64, UserId)>,
    ) -> Outcome<()> {
        for (key, standing) in link.find_standings(&wanted).await? {
            self.seen.insert(key.clone());
            self.standings.insert(key, standing);
        }
        for key in wanted {
            self.standings.entry(key).or_insert(None);
        }
        Ok(())
    }

    async fn read_receipts<D: Dialect>(
        &mut self,
        link: &mut Link<'_, D>,
        wanted: Vec<(u64, UserId, MessageId)>,
    ) -> Outcome<()> {
        let found = link.find_receipts(&wanted).await?;
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
            let fresh = || Epoch { generation, incarnation: fresh_number() };
            match plan(append, self, fresh) {
                Ok(Plan::Commit(commit)) => {
                    return Ok(Ok(Appended::Committed(self.take(*commit))));
                }
                Ok(Plan::Repeated { epoch, record }) => {
                    return Ok(Ok(Appended::Repeated { epoch, record }));
                }
                Err(PlanError::Refused(refusal)) => return Ok(Err(StoreError::from(refusal))),
                Err(PlanError::Store(Unread::Standing(room, user))) => {
                    self.read_standings(link, vec![(room, user)]).await?;
                }
                Err(PlanError::Store(Unread::Receipt(room, sender, id))) => {
                    self.read_receipts(link, vec![(room, sender, id)]).await?;
                }
            }
        }
    }

    fn take(&mut self, commit: Commit) -> Arc<Event> {
        let Commit { event, room, standings, send } = commit;
        let incarnation = room.epoch.incarnation;
        let event = Arc::new(event);
        if self.rooms.get(&room.id).is_none_or(Option::is_none) {
            self.made.insert(room.id.clone());
        } else {
            self.changed.insert(room.id.clone());
        }
        for (user, standing) in standings {
            self.standings.insert((incarnation, user.clone()), standing);
            self.seen.insert((incarnation, user.clone()));
            self.moved.insert((incarnation, user), standing);
        }
        let author = (incarnation, event.from.clone());
        if !self.seen.contains(&author) {
            self.seen.insert(author.clone());
            self.traced.insert(author);
        }
        if let Some((id, record)) = send {
            let key = (incarnation, event.from.clone(), id.clone());
            self.receipts.insert(key, Some(record));
            self.sends.push((incarnation, event.from.clone(), id, record));
        }
        self.rooms.insert(room.id.clone(), Some(room));
        self.events.push(Arc::clone(&event));
        event
    }

    async fn write<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        self.write_rooms(link).await?;
        self.write_members(link).await?;
        let events: Vec<&Event> = self.events.iter().map(|event| &**event).collect();
        link.put_messages(&events, "").await?;
        link.put_receipts(&self.sends).await
    }

    async fn write_rooms<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let record = |id: &RoomId| self.rooms.get(id).and_then(Option::as_ref);
        let made: Vec<&RoomRecord> = self.made.iter().filter_map(record).collect();
        let changed: Vec<&RoomRecord> =
            self.changed.iter().filter(|id| !self.made.contains(*id)).filter_map(record).collect();
        link.put_rooms(ROOMS, &made, "").await?;
        let update = D::on_conflict("room", &["head_seq", "bytes", "members"]);
        link.put_rooms(ROOMS, &changed, &update).await
    }

    async fn write_members<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let ids: HashMap<u64, &RoomId> =
            self.rooms.values().flatten().map(|room| (room.epoch.incarnation, &room.id)).collect();
        let place = |((room, user), standing): (&(u64, UserId), &Option<Standing>)| {
            // The room of each is there: a plan has given both.
            ids.get(room).map(|id| (*room, user.clone(), RoomId::clone(id), *standing))
        };
        let places = self.moved.iter().filter_map(place).collect();
        link.put_standings(places, &["standing"]).await?;
        // Whoever has a row by now keeps it as it is.
        let traced = self.traced.iter().map(|author| (author, &None));
        link.put_standings(traced.filter_map(place).collect(), &["room_id"]).await
    }
}

impl View for Draft {
    type Error = Unread;

    fn room(&self, room: &RoomId) -> Result<Option<RoomRecord>, Unread> {
        // Those that the batch names are all there.
        Ok(self.rooms.get(room).cloned().flatten())
    }

    fn standing(&self, room: &RoomRecord, user: &UserId) -> Result<Option<Standing>, Unread> {
        let incarnation = room.epoch.incarnation;
        match self.standings.get(&(incarnation, user.clone())) {
            Some(standing) => Ok(*standing),
            None if self.made.contains(&room.id) => Ok(None),
            None => Err(Unread::Standing(incarnation, user.clone())),
        }
    }

    fn sent(
        &self,
        room: &RoomRecord,
        sender: &UserId,
        id: &MessageId,
    ) -> Result<Option<SendRecord>, Unread> {
        let incarnation = room.epoch.incarnation;
        match self.receipts.get(&(incarnation, sender.clone(), id.clone())) {
            Some(record) => Ok(*record),
            None if self.made.contains(&room.id) => Ok(None),
            None => Err(Unread::Receipt(incarnation, sender.clone(), id.clone())),
        }
    }
}

//! Appends: what the rules need to know is read under a lock on the rooms, they decide, and all that they say is written.

use std::collections::{BTreeSet, HashMap};
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
    moved: Standings,
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
            let select = Statement::new(&format!("SELECT {} FROM im_rooms t WHERE t.id IN ", model::ROOM))
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
                    if let Some(key) = &event.key {
                        sends.insert((incarnation, event.from.clone(), key.id.clone()));
                    }
                }
                Act::Change { by, intent } => {
                    users.insert((incarnation, intent.target().unwrap_or(by).clone()));
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
        for piece in wanted.chunks(crate::statement::MAX_ROWS) {
            let select = Statement::look_up(
                "t.room, t.user_id, t.standing",
                "im_members",
                &["room", "user_id"],
                piece,
                |statement, (room, user)| statement.int(*room).text(user.as_str()),
            );
            let read = |row: &mut crate::link::Columns<'_, D>| {
                let (room, user) = (row.int()?, row.text()?);
                let user = model::made("user", UserId::new(user))?;
                Ok(((room, user), Some(model::read_standing(&row.text()?)?)))
            };
            self.standings.extend(link.all(select, read).await?);
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
        for piece in wanted.chunks(crate::statement::MAX_ROWS) {
            let select = Statement::look_up(
                &format!("t.room, t.sender, t.message_id, {}", model::RECEIPT),
                "im_receipts",
                &["room", "sender", "message_id"],
                piece,
                |statement, (room, sender, id)| {
                    statement.int(*room).text(sender.as_str()).text(id.as_str())
                },
            );
            let read = |row: &mut crate::link::Columns<'_, D>| {
                let (room, sender, id) = (row.int()?, row.text()?, row.text()?);
                let sender = model::made("sender", UserId::new(sender))?;
                let id = model::made("message id", MessageId::new(id))?;
                Ok(((room, sender, id), Some(model::receipt(row)?)))
            };
            self.receipts.extend(link.all(select, read).await?);
        }
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
            self.moved.insert((incarnation, user), standing);
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
        self.write_messages(link).await?;
        self.write_receipts(link).await
    }

    async fn write_rooms<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let record = |id: &RoomId| self.rooms.get(id).and_then(Option::as_ref);
        let made: Vec<&RoomRecord> = self.made.iter().filter_map(record).collect();
        let changed: Vec<&RoomRecord> =
            self.changed.iter().filter(|id| !self.made.contains(*id)).filter_map(record).collect();
        let update = D::on_conflict("room", &["head_seq", "bytes", "members"]);
        for (rooms, conflict) in [(made, ""), (changed, update.as_str())] {
            for piece in pieces(&rooms) {
                let insert = Statement::new(
                    "INSERT INTO im_rooms (room, id, kind, access, generation, head_seq, first_seq, bytes, created_at, \
                     members) VALUES ",
                );
                link.run(insert.groups(piece, |s, room| put_room(s, room)).sql(conflict)).await?;
            }
        }
        Ok(())
    }

    async fn write_members<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let ids: HashMap<u64, &RoomId> = self
            .rooms
            .values()
            .flatten()
            .map(|room| (room.epoch.incarnation, &room.id))
            .collect();
        let (mut put, mut gone) = (Vec::new(), Vec::new());
        for ((incarnation, user), standing) in &self.moved {
            match (standing, ids.get(incarnation)) {
                (Some(standing), Some(id)) => put.push((*incarnation, user, *id, *standing)),
                _ => gone.push((*incarnation, user)),
            }
        }
        // One order for everybody, so that two transactions never wait for each other.
        put.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let update = D::on_conflict("room, user_id", &["standing"]);
        for piece in pieces(&put) {
            let insert = Statement::new("INSERT INTO im_members (room, user_id, room_id, standing) VALUES ")
                .groups(piece, |s, (room, user, id, standing)| {
                    s.int(*room)
                        .text(user.as_str())
                        .text(id.as_str())
                        .text(model::standing(*standing))
                })
                .sql(&update);
            link.run(insert).await?;
        }
        for (room, user) in gone {
            let delete = Statement::new("DELETE FROM im_members WHERE room = ")
                .int(room)
                .sql(" AND user_id = ")
                .text(user.as_str());
            link.run(delete).await?;
        }
        Ok(())
    }

    async fn write_messages<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        let contents: Vec<String> = self
            .events
            .iter()
            .map(|event| model::content(&event.content))
            .collect::<Outcome<_>>()?;
        let rows: Vec<(&Arc<Event>, &String)> = self.events.iter().zip(&contents).collect();
        for piece in pieces(&rows) {
            let insert = Statement::new(
                "INSERT INTO im_messages (room, seq, sender, sent_at, kind, message_id, content) VALUES ",
            );
            let insert = insert.groups(piece, |s, (event, content)| {
                s.int(event.epoch.incarnation)
                    .int(event.seq.get())
                    .text(event.from.as_str())
                    .int(event.at.as_millis())
                    .text(event.kind.as_str())
                    .opt_text(event.id.as_ref().map(MessageId::as_str))
                    .text(content)
            });
            link.run(insert).await?;
        }
        Ok(())
    }

    async fn write_receipts<D: Dialect>(&self, link: &mut Link<'_, D>) -> Outcome<()> {
        for piece in pieces(&self.sends) {
            let insert = Statement::new(
                "INSERT INTO im_receipts (room, sender, message_id, seq, sent_at, content_hash) VALUES ",
            );
            let insert = insert.groups(piece, |s, (room, sender, id, record)| {
                s.int(*room)
                    .text(sender.as_str())
                    .text(id.as_str())
                    .int(record.seq.get())
                    .int(record.at.as_millis())
                    .bytes(&record.hash.0)
            });
            link.run(insert).await?;
        }
        Ok(())
    }
}

fn put_room<D: Dialect>(s: Statement<D>, room: &RoomRecord) -> Statement<D> {
    s.int(room.epoch.incarnation)
        .text(room.id.as_str())
        .text(model::kind(room.kind))
        .text(model::access(room.open))
        .int(room.epoch.generation)
        .int(room.head.get())
        .int(room.first.get())
        .int(0)
        .int(room.created.as_millis())
        .int(u64::from(room.members))
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

//! Rows of rooms, members and messages as they are written.

use std::collections::BTreeSet;

use im_core::state::{ContentHash, Membership, RoomRecord};
use im_core::wire::Event;
use im_core::{MessageId, RoomId, UserId};

use crate::dialect::Dialect;
use crate::error::Outcome;
use crate::link::Link;
use crate::model;
use crate::runs::Runs;
use crate::statement::{Statement, bounded_pieces, pieces};

/// The table of the rooms.
pub(crate) const ROOMS: &str = "im_rooms";
/// The table of the rooms under import. It has the same columns.
pub(crate) const IMPORTS: &str = "im_imports";

/// How a user stands to the room with this number and id; `None` leaves a trace and no more.
pub(crate) type Place = (u64, UserId, RoomId, Option<Membership>);

impl<D: Dialect> Link<'_, D> {
    pub(crate) async fn put_rooms(
        &mut self,
        table: &str,
        rooms: &[&RoomRecord],
        conflict: &str,
    ) -> Outcome<()> {
        for piece in pieces(rooms) {
            let insert = Statement::new(&format!(
                "{} INTO {table} (room, id, kind, access, generation, head_seq, first_seq, bytes, created_at, members, \
                 erased) VALUES ",
                D::INSERT
            ));
            self.run(insert.groups(piece, |s, room| put_room(s, room)).sql(conflict)).await?;
        }
        Ok(())
    }

    /// Writes what changes of a room that is locked.
    pub(crate) async fn update_room(&mut self, table: &str, room: &RoomRecord) -> Outcome<()> {
        let update = Statement::new(&format!("UPDATE {table} SET head_seq = "))
            .int(room.head.get())
            .sql(", first_seq = ")
            .int(room.first.get())
            .sql(", bytes = ")
            .int(room.bytes)
            .sql(", members = ")
            .int(u64::from(room.members))
            .sql(", erased = ")
            .int(room.erased)
            .sql(" WHERE room = ")
            .int(room.epoch.incarnation);
        self.run(update).await.map(|_| ())
    }

    /// Sets these `columns` where there is a row already.
    pub(crate) async fn put_memberships(
        &mut self,
        mut places: Vec<Place>,
        columns: &[&str],
    ) -> Outcome<()> {
        // One order for everybody, so that two transactions never wait for each other.
        places.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let update = D::on_conflict("room, user_id", columns);
        for piece in pieces(&places) {
            let insert =
                Statement::new("INSERT INTO im_members (room, user_id, room_id, standing) VALUES ")
                    .groups(piece, |s, (room, user, id, membership)| {
                        s.int(*room)
                            .text(user.as_str())
                            .text(id.as_str())
                            .text(model::membership(*membership))
                    })
                    .sql(&update);
            self.run(insert).await?;
        }
        Ok(())
    }

    /// These users may be found in the room from now on. Those who have a row keep it as it is.
    pub(crate) async fn put_traces(
        &mut self,
        room: u64,
        id: &RoomId,
        users: BTreeSet<UserId>,
    ) -> Outcome<()> {
        let users = users.into_iter().filter(|user| !user.is_erased());
        let places = users.map(|user| (room, user, id.clone(), None)).collect();
        self.put_memberships(places, &["room_id"]).await
    }

    /// Writes new events, and with each that was sent under an id the hash of what was submitted.
    pub(crate) async fn add_messages(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        runs: &mut Runs,
    ) -> Outcome<()> {
        let places = if D::RUNS { self.assign_row_ids(events, runs).await? } else { Vec::new() };
        self.put_messages(events, &places, "").await
    }

    /// Sets these `columns` of events that are there.
    pub(crate) async fn replace_messages(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        columns: &[&str],
    ) -> Outcome<()> {
        let (places, key) = match D::RUNS {
            true => (self.find_row_ids(events).await?, "place"),
            false => (Vec::new(), "room, seq"),
        };
        self.put_messages(events, &places, &D::on_conflict(key, columns)).await
    }

    async fn put_messages(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        places: &[u64],
        conflict: &str,
    ) -> Outcome<()> {
        let mut rows = Vec::with_capacity(events.len());
        for (at, (event, hash)) in events.iter().enumerate() {
            let content = model::content(&event.content)?;
            rows.push(Row { event, hash: *hash, content, place: places.get(at).copied() });
        }
        let place = if places.is_empty() { "" } else { "place, " };
        for piece in bounded_pieces(&rows, |row| row.content.len()) {
            let insert = Statement::new(&format!(
                "{} INTO im_messages ({place}room, seq, sender, sent_at, kind, message_id, content, bytes, content_hash) \
                 VALUES ",
                D::INSERT
            ));
            self.run(insert.groups(piece, put_message).sql(conflict)).await?;
        }
        Ok(())
    }
}

/// A row of `im_messages`, and its `place` where it is given one.
struct Row<'e> {
    event: &'e Event,
    hash: Option<ContentHash>,
    content: String,
    place: Option<u64>,
}

fn put_message<D: Dialect>(s: Statement<D>, row: &Row<'_>) -> Statement<D> {
    let Row { event, hash, content, place } = row;
    let s = match place {
        Some(place) => s.int(*place),
        None => s,
    };
    s.int(event.epoch.incarnation)
        .int(event.seq.get())
        .text(event.from.as_str())
        .int(event.at.as_millis())
        .text(event.kind.as_str())
        .opt_text(event.id.as_ref().map(MessageId::as_str))
        .text(content)
        .int(event.content.packed().len() as u64)
        .opt_bytes(hash.as_ref().map(|hash| hash.0.as_slice()))
}

fn put_room<D: Dialect>(s: Statement<D>, room: &RoomRecord) -> Statement<D> {
    s.int(room.epoch.incarnation)
        .text(room.id.as_str())
        .text(model::kind(room.kind))
        .text(model::access(room.open))
        .int(room.epoch.generation)
        .int(room.head.get())
        .int(room.first.get())
        .int(room.bytes)
        .int(room.created.as_millis())
        .int(u64::from(room.members))
        .int(room.erased)
}

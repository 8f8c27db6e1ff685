//! Where SQLite's rows of messages lie, and how those of a room are found. In the order of rooms, a commit to many rooms would
//! write a page for each; in the order in which they come, a page of history would read one for each. So a room's
//! messages lie in runs, and the runs in the order in which they were begun. An index of the messages would have a commit write
//! a page for each room again: there is one of the runs.

use std::collections::{BTreeSet, HashMap, HashSet};

use im_core::Seq;
use im_core::state::ContentHash;
use im_core::wire::Event;

use crate::dialect::Dialect;
use crate::error::{Fault, Outcome};
use crate::link::{Columns, Link};
use crate::model;
use crate::statement::{MAX_ROWS, Statement, pieces};

/// Places in a run: about as many messages of common size as a page of the file holds.
pub(crate) const RUN: u64 = 16;

/// Whether the message `m` belongs to the run `u`, which has [`RUN`] places. Without the `+`, a planner that has heard how many
/// messages a room has might make an index of them all for this one statement.
pub(crate) const OF_RUN: &str =
    "m.place >= u.place AND m.place < u.place + 16 AND +m.room = u.room";

/// The runs that are being filled.
///
/// Invariant: a run belongs to one room and to seqs that are equal when divided by [`RUN`], its part, and a message lies at the
/// place of its run that is the remainder. So no two have one place. A run has a row of `im_runs` as long as it has any
/// messages, and no longer: else another one might be given its places.
#[derive(Default)]
pub(crate) struct Runs {
    /// By the room's number, the first place in the run of its last message.
    last: HashMap<u64, u64>,
    /// The first place that no run has, once that was read.
    next: Option<u64>,
}

/// A run: its room's number, its part, and its first place.
type Run = (u64, u64, u64);

impl Runs {
    /// The place of the next event of a room, and the run that is to be begun for it.
    fn place(&mut self, room: u64, seq: Seq, next: &mut u64) -> (u64, Option<Run>) {
        let (part, at) = (seq.get() / RUN, seq.get() % RUN);
        if let (1.., Some(run)) = (at, self.last.get(&room)) {
            return (run + at, None);
        }
        let run = *next;
        *next += RUN;
        self.last.insert(room, run);
        (run + at, Some((room, part, run)))
    }
}

impl<D: Dialect> Link<'_, D> {
    /// Gives new events their places, those of a room in their order.
    pub(crate) async fn assign_row_ids(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        runs: &mut Runs,
    ) -> Outcome<Vec<u64>> {
        let mut next = match runs.next {
            Some(next) => next,
            None => self.first_free_run().await?,
        };
        self.find_last_runs(events, runs).await?;
        let (mut places, mut begun) = (Vec::with_capacity(events.len()), Vec::new());
        for (event, _) in events {
            let (place, run) = runs.place(event.epoch.incarnation, event.seq, &mut next);
            places.push(place);
            begun.extend(run);
        }
        runs.next = Some(next);
        for piece in pieces(&begun) {
            let insert =
                Statement::new(&format!("{} INTO im_runs (room, part, place) VALUES ", D::INSERT));
            let run =
                |s: Statement<D>, (room, part, place): &Run| s.int(*room).int(*part).int(*place);
            self.run(insert.groups(piece, run)).await?;
        }
        Ok(places)
    }

    async fn first_free_run(&mut self) -> Outcome<u64> {
        let last = Statement::new("SELECT MAX(place) FROM im_messages");
        let last = self.first(last, |row| row.opt_int()).await?.flatten();
        Ok(last.map_or(0, |place| (place / RUN + 1) * RUN))
    }

    /// Reads which runs the events go on with, as far as that is not known.
    async fn find_last_runs(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        runs: &mut Runs,
    ) -> Outcome<()> {
        let (mut seen, mut wanted) = (HashSet::new(), Vec::new());
        for (event, _) in events {
            let (room, seq) = (event.epoch.incarnation, event.seq.get());
            if seen.insert(room) && !runs.last.contains_key(&room) && seq % RUN > 0 {
                wanted.push((room, seq / RUN));
            }
        }
        let found = self.find_runs(&wanted).await?;
        runs.last.extend(found.into_iter().map(|(room, _, place)| (room, place)));
        Ok(())
    }

    /// The places of events that are there.
    pub(crate) async fn find_row_ids(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
    ) -> Outcome<Vec<u64>> {
        let part = |(event, _): &(&Event, _)| (event.epoch.incarnation, event.seq.get() / RUN);
        let wanted: BTreeSet<_> = events.iter().map(part).collect();
        let found = self.find_runs(&wanted.into_iter().collect::<Vec<_>>()).await?;
        let runs: HashMap<_, _> =
            found.into_iter().map(|(room, part, place)| ((room, part), place)).collect();
        let place = |held: &(&Event, _)| {
            let run = runs.get(&part(held)).ok_or(Fault::Damaged("run"))?;
            Ok(run + held.0.seq.get() % RUN)
        };
        events.iter().map(place).collect()
    }

    /// Those of these runs, each a room's number and a part, that are there.
    async fn find_runs(&mut self, wanted: &[(u64, u64)]) -> Outcome<Vec<Run>> {
        let mut found = Vec::new();
        for piece in wanted.chunks(MAX_ROWS) {
            let select = Statement::look_up(
                "t.room, t.part, t.place",
                "im_runs",
                &["room", "part"],
                piece,
                |statement, (room, part)| statement.int(*room).int(*part),
            );
            let read = |row: &mut Columns<'_, D>| Ok((row.int()?, row.int()?, row.int()?));
            found.extend(self.all(select, read).await?);
        }
        Ok(found)
    }

    /// Removes those messages of a room from one seq to before another that `which` leaves. Says how many.
    pub(crate) async fn remove_messages(
        &mut self,
        room: u64,
        (from, until): (Seq, Seq),
        which: impl FnOnce(Statement<D>) -> Statement<D>,
    ) -> Outcome<u64> {
        let delete = Statement::new("DELETE FROM im_messages").of_room(room, from, until);
        let gone = self.run(which(delete)).await?;
        if D::RUNS {
            self.run(drop_empty_runs(room, from, until)).await?;
        }
        Ok(gone)
    }

    /// The first event of a room at or after `from` of which anything is left.
    pub(crate) async fn first_row(&mut self, room: u64, from: Seq) -> Outcome<Option<Seq>> {
        let first = first_row(room, from);
        self.first(first, |row| model::made("seq", Seq::new(row.int()?))).await
    }
}

fn drop_empty_runs<D: Dialect>(room: u64, from: Seq, until: Seq) -> Statement<D> {
    Statement::new("DELETE FROM im_runs AS u WHERE u.room = ")
        .int(room)
        .sql(" AND u.part >= ")
        .int(from.get() / RUN)
        .sql(" AND u.part <= ")
        .int(until.get() / RUN)
        .sql(&format!(" AND NOT EXISTS (SELECT 1 FROM im_messages m WHERE {OF_RUN})"))
}

fn first_row<D: Dialect>(room: u64, from: Seq) -> Statement<D> {
    if D::RUNS {
        Statement::new("SELECT m.seq FROM im_runs u CROSS JOIN im_messages m ON ")
            .sql(OF_RUN)
            .sql(" WHERE u.room = ")
            .int(room)
            .sql(" AND u.part >= ")
            .int(from.get() / RUN)
            .sql(" AND m.seq >= ")
            .int(from.get())
            .sql(" ORDER BY u.part, m.place LIMIT 1")
    } else {
        Statement::new("SELECT seq FROM im_messages WHERE room = ")
            .int(room)
            .sql(" AND seq >= ")
            .int(from.get())
            .sql(" ORDER BY seq LIMIT 1")
    }
}

impl<D: Dialect> Statement<D> {
    /// ` WHERE …`: the messages of a room from one seq to before another. More conditions may follow.
    pub(crate) fn of_room(self, room: u64, from: Seq, until: Seq) -> Self {
        let (from, until) = (from.get(), until.get());
        if !D::RUNS {
            let whole = self.sql(" WHERE room = ").int(room);
            return whole.sql(" AND seq >= ").int(from).sql(" AND seq < ").int(until);
        }
        self.sql(" WHERE place IN (SELECT m.place FROM im_runs u CROSS JOIN im_messages m ON ")
            .sql(OF_RUN)
            .sql(" WHERE u.room = ")
            .int(room)
            .sql(" AND u.part >= ")
            .int(from / RUN)
            .sql(" AND u.part <= ")
            .int(until / RUN)
            .sql(" AND m.seq >= ")
            .int(from)
            .sql(" AND m.seq < ")
            .int(until)
            .sql(")")
    }
}

#[cfg(test)]
#[cfg(feature = "sqlite")]
mod tests {
    use sqlx::{AssertSqlSafe, Connection, Executor, Row, SqlSafeStr, Sqlite, SqliteConnection};

    use super::*;

    /// How SQLite goes about a statement, when it has heard that one room has most of many messages.
    async fn plan(statement: Statement<Sqlite>) -> Vec<String> {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        for migration in Sqlite::MIGRATIONS {
            conn.execute(AssertSqlSafe(migration.sql).into_sql_str()).await.unwrap();
        }
        conn.execute(
            "ANALYZE; INSERT INTO sqlite_stat1 VALUES ('im_runs', 'im_runs', '18750 18750 1'), \
             ('im_messages', 'sqlite_autoindex_im_messages_1', '300000 1 1 1'); ANALYZE sqlite_schema",
        )
        .await
        .unwrap();
        let (sql, args) = statement.finish().unwrap();
        let sql = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", sql.as_str()));
        let rows = sqlx::query_with(sql, args).fetch_all(&mut conn).await.unwrap();
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// The query plan finds messages by run whatever statistics SQLite has of the tables.
    #[tokio::test]
    async fn messages_are_found_by_run() {
        let (from, until) = (Seq::ZERO, Seq::MAX);
        let delete = Statement::new("DELETE FROM im_messages").of_room(7, from, until);
        let delete = delete.sql(" AND content_hash IS NULL");
        for statement in [first_row(7, from), delete, drop_empty_runs(7, from, until)] {
            let plan = plan(statement).await;
            let far = ["SCAN", "AUTOMATIC", "TEMP B-TREE", "autoindex"];
            assert!(!plan.iter().any(|step| far.iter().any(|way| step.contains(way))), "{plan:?}");
            assert!(
                plan.iter().any(|step| step.starts_with("SEARCH u USING PRIMARY KEY")),
                "{plan:?}"
            );
        }
    }
}

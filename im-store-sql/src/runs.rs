//! Where SQLite's rows of messages lie. In the order of rooms, a commit to many rooms would write a page for each; in the
//! order in which they come, a page of history would read one for each. So a room's messages lie in runs, and the runs in the order
//! in which they were begun.

use std::collections::{HashMap, HashSet};

use im_core::Seq;
use im_core::state::ContentHash;
use im_core::wire::Event;

use crate::dialect::Dialect;
use crate::error::Outcome;
use crate::link::{Columns, Link};
use crate::statement::{MAX_ROWS, Statement};

/// Places in a run: about as many messages of common size as a page of the file holds.
const RUN: u64 = 16;

/// The runs that are being filled.
///
/// Invariant: a run belongs to one room and to seqs that are equal when divided by [`RUN`], and a message lies at the place of its
/// run that is the remainder. So no two have one place.
#[derive(Default)]
pub(crate) struct Runs {
    /// By the room's number, the run of its last message.
    last: HashMap<u64, u64>,
    /// The first run that was never begun, once that was read.
    next: Option<u64>,
}

impl Runs {
    fn place(&mut self, room: u64, seq: Seq, next: &mut u64) -> u64 {
        let at = seq.get() % RUN;
        let begun = self.last.get(&room).filter(|_| at > 0);
        let run = begun.copied().unwrap_or_else(|| {
            *next += 1;
            *next - 1
        });
        self.last.insert(room, run);
        run * RUN + at
    }
}

impl<D: Dialect> Link<'_, D> {
    /// The places of new events, those of a room in their order.
    pub(crate) async fn places(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        runs: &mut Runs,
    ) -> Outcome<Vec<u64>> {
        let mut next = match runs.next {
            Some(next) => next,
            None => self.first_free_run().await?,
        };
        self.find_runs(events, runs).await?;
        let place =
            |(event, _): &(&Event, _)| runs.place(event.epoch.incarnation, event.seq, &mut next);
        let places = events.iter().map(place).collect();
        runs.next = Some(next);
        Ok(places)
    }

    async fn first_free_run(&mut self) -> Outcome<u64> {
        let last = Statement::new("SELECT MAX(place) FROM im_messages");
        let last = self.first(last, |row| row.opt_int()).await?.flatten();
        Ok(last.map_or(0, |place| place / RUN + 1))
    }

    /// Reads which runs the events go on with, as far as that is not known.
    async fn find_runs(
        &mut self,
        events: &[(&Event, Option<ContentHash>)],
        runs: &mut Runs,
    ) -> Outcome<()> {
        let (mut seen, mut wanted) = (HashSet::new(), Vec::new());
        for (event, _) in events {
            let (room, seq) = (event.epoch.incarnation, event.seq.get());
            if seen.insert(room) && !runs.last.contains_key(&room) && seq % RUN > 0 {
                wanted.push((room, seq - 1));
            }
        }
        // A run is gone on with if what is left of it is free: whatever happened, no room is kept from being written to.
        let columns = format!(
            "t.room, t.place, (SELECT MIN(n.place) FROM im_messages n \
             WHERE n.place > t.place AND n.place < (t.place / {RUN} + 1) * {RUN})"
        );
        for piece in wanted.chunks(MAX_ROWS) {
            let select = Statement::look_up(
                &columns,
                "im_messages",
                &["room", "seq"],
                piece,
                |statement, (room, seq)| statement.int(*room).int(*seq),
            );
            let read = |row: &mut Columns<'_, D>| Ok((row.int()?, row.int()?, row.opt_int()?));
            let found = self.all(select, read).await?;
            let free = found.into_iter().filter(|(.., taken)| taken.is_none());
            runs.last.extend(free.map(|(room, place, _)| (room, place / RUN)));
        }
        Ok(())
    }
}

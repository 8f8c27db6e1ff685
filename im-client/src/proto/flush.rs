//! Writing what is ready: commands of the application, and the client's own.

use std::time::Instant;

use bytes::Bytes;
use im_core::wire::CommandBody;

use crate::config::Checkpoints;

use super::cursors::frames;
use super::flight::Origin;
use super::{Machine, Output, Phase};

impl Machine {
    /// Writes what is ready.
    pub(super) fn flush(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Online(_)) {
            return;
        }
        self.repair_gaps(now);
        self.checkpoint(now);
        let mut refused = Vec::new();
        while let Some(message) = self.flight.batch(now, &self.limits, self.encoding, &mut refused)
        {
            self.transmit(now, message);
        }
        for (id, error) in refused {
            self.outputs.push_back(Output::Reply(id, Err(error)));
        }
    }

    fn transmit(&mut self, now: Instant, message: Bytes) {
        self.outputs.push_back(Output::Transmit(message));
        if let Phase::Online(online) = &mut self.phase {
            online.written = now;
        }
    }

    fn repair_gaps(&mut self, now: Instant) {
        // The queue is full: events of a repaired gap would only be dropped again.
        if self.events.len() > self.config.max_queued_events / 2 {
            return;
        }
        let gaps = self.rooms.gaps(now).into_iter();
        let (together, alone): (Vec<_>, Vec<_>) =
            gaps.partition(|(room, _)| self.rooms.is_refused(room));
        for cursors in frames(together.into_iter()) {
            let body = CommandBody::Resume { cursors: cursors.clone(), rev: None };
            let id = self.flight.push(body, Origin::Resume);
            cursors.iter().for_each(|(room, _)| self.rooms.requested(room, id));
        }
        for (room, cursor) in alone {
            let body = CommandBody::Subscribe { room: room.clone(), since: Some(cursor) };
            let id = self.flight.push(body, Origin::GapRepair(room.clone()));
            self.rooms.requested(&room, id);
        }
    }

    fn checkpoint(&mut self, now: Instant) {
        let Checkpoints::Auto { events, idle } = self.config.checkpoints else { return };
        if self.checkpoint.is_some() || !self.rooms.checkpoint_due(now, events, idle) {
            return;
        }
        for cursors in self.rooms.to_confirm() {
            let body = CommandBody::Checkpoint { cursors: cursors.clone() };
            self.checkpoint = Some(self.flight.push(body, Origin::Checkpoint(cursors)));
        }
        self.rooms.checkpoint_sent(now);
    }
}

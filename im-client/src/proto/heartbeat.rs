//! Timers of an open connection: heartbeats, checkpoints, and postponed work.

use std::time::Instant;

use im_core::wire::CommandBody;

use crate::config::Checkpoints;

use super::flight::Origin;
use super::{Cause, Machine, Online, Output, Phase};

impl Machine {
    /// Records a sign of life of the server: bytes of an incomplete message, or the transport's own
    /// ping or pong.
    pub(crate) fn on_heard(&mut self, now: Instant) {
        if let Phase::Online(online) = &mut self.phase {
            online.heard = now;
            online.ping_until = None;
        }
    }

    pub(super) fn online_deadline(&self, online: &Online) -> Option<Instant> {
        let heartbeat = online.ping_until.unwrap_or_else(|| ping_at(online));
        let idle = match self.config.checkpoints {
            Checkpoints::Auto { idle, .. } if self.checkpoint.is_none() => {
                self.rooms.idle_since(idle)
            }
            _ => None,
        };
        let can_fill = self.events.len() <= self.config.max_queued_events / 2;
        let hole = self.rooms.next_gap().filter(|_| can_fill);
        let refresh = self.refresh.deadline();
        [Some(heartbeat), idle, hole, refresh, self.flight.deadline()].into_iter().flatten().min()
    }

    pub(super) fn online_time(&mut self, now: Instant) {
        let Phase::Online(online) = &mut self.phase else { return };
        match online.ping_until {
            Some(until) if now >= until => {
                return self.drop_connection(now, Cause::new(None, "the server is silent"));
            }
            None if now >= ping_at(online) => {
                // The heartbeat arrives behind the bytes in flight.
                let within = self.config.ping_timeout + self.flight.drain_time();
                online.ping_until = Some(now + within);
                online.written = now;
                let (_, ping) = self.flight.write(CommandBody::Ping, Origin::Ping, self.encoding);
                self.outputs.push_back(Output::Transmit(ping));
            }
            _ => {}
        }
        self.refresh_time(now);
        self.flush(now);
    }
}

/// When the next heartbeat is due.
fn ping_at(online: &Online) -> Instant {
    online.heard.min(online.written) + online.idle / 2
}

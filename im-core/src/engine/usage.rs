//! Memory use of an engine, as its bounds count it.

use std::sync::atomic::Ordering;

use super::core::Core;
use super::metrics;

/// Memory use of an engine, in bytes.
///
/// As the bounds of [`EngineConfig`](super::EngineConfig) count it; memory of the allocator,
/// sockets and the store is not included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// Acks that wait to be written, and reservations of pages being built. At most
    /// [`acks_bytes`](super::EngineConfig::acks_bytes) and one small ack for each connection.
    pub ack_bytes: usize,
    /// Pushes that wait for their subscribers. At most
    /// [`outboxes_bytes`](super::EngineConfig::outboxes_bytes).
    pub push_bytes: usize,
    /// Recent events of rooms with subscribers, with their encodings. At most
    /// [`windows_bytes`](super::EngineConfig::windows_bytes).
    pub window_bytes: usize,
    /// Keyed state of rooms with subscribers. At most
    /// [`states_bytes`](super::EngineConfig::states_bytes), and state in use.
    pub state_bytes: usize,
}

impl Core {
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            ack_bytes: self.acks.used(),
            push_bytes: self.outboxes.used.load(Ordering::Relaxed),
            window_bytes: self.hub.window_bytes(),
            state_bytes: self.hub.state_bytes(),
        }
    }

    /// Publishes the usage as metrics.
    pub(crate) fn gauge_usage(&self) {
        let usage = self.usage();
        ::metrics::gauge!(metrics::ACK_BYTES).set(usage.ack_bytes as f64);
        ::metrics::gauge!(metrics::PUSH_BYTES).set(usage.push_bytes as f64);
        ::metrics::gauge!(metrics::WINDOW_BYTES).set(usage.window_bytes as f64);
        ::metrics::gauge!(metrics::STATE_BYTES).set(usage.state_bytes as f64);
    }
}

//! Joins engines in one process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::error::Result;
use crate::id::NodeId;
use crate::ports::{Bus, BusReceiver, Envelope};

/// A bus between engines in one process. Each subscriber has a queue of its own; a message that finds it full is
/// dropped for that subscriber alone, and counted.
///
/// Messages of one node arrive in their order. A node never receives what it published itself.
///
/// ```
/// use im_core::memory::MemoryBus;
/// let bus = std::sync::Arc::new(MemoryBus::new(1024));
/// // Give a clone of `bus` to each engine that shares the store.
/// assert_eq!(bus.dropped(), 0);
/// ```
pub struct MemoryBus {
    capacity: usize,
    subscribers: Mutex<Vec<Subscriber>>,
    dropped: AtomicU64,
    loses: Option<Box<Loses>>,
}

type Loses = dyn Fn(&Envelope) -> bool + Send + Sync;

struct Subscriber {
    node: NodeId,
    queue: mpsc::Sender<Envelope>,
}

impl MemoryBus {
    /// More messages than this are never held for one subscriber.
    const MAX_CAPACITY: usize = 1 << 20;

    /// A bus that holds at most `capacity` messages for each subscriber (at least 1, at most 2^20). The worst case in
    /// memory is that many events for each engine, shared with whoever else holds them.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, Self::MAX_CAPACITY),
            subscribers: Mutex::default(),
            dropped: AtomicU64::new(0),
            loses: None,
        }
    }

    /// A bus that loses every message for which `loses` says true, for all subscribers. It asks once per message. For
    /// tests: whatever a bus loses, the head check must find.
    pub fn lossy(
        capacity: usize,
        loses: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { loses: Some(Box::new(loses)), ..Self::new(capacity) }
    }

    /// How many deliveries were dropped because a queue was full. What a lossy bus loses on purpose is not counted.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus")
            .field("capacity", &self.capacity)
            .field("dropped", &self.dropped())
            .finish()
    }
}

#[async_trait]
impl Bus for MemoryBus {
    fn publish(&self, envelope: Envelope) {
        if self.loses.as_ref().is_some_and(|loses| loses(&envelope)) {
            return;
        }
        self.subscribers.lock().retain(|subscriber| {
            if subscriber.node == envelope.from {
                return true;
            }
            match subscriber.queue.try_send(envelope.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    self.dropped.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            }
        });
    }

    async fn subscribe(&self, node: NodeId) -> Result<Box<dyn BusReceiver>> {
        let (queue, messages) = mpsc::channel(self.capacity);
        let mut subscribers = self.subscribers.lock();
        subscribers.retain(|subscriber| !subscriber.queue.is_closed());
        subscribers.push(Subscriber { node, queue });
        Ok(Box::new(Receiver(messages)))
    }
}

struct Receiver(mpsc::Receiver<Envelope>);

#[async_trait]
impl BusReceiver for Receiver {
    async fn next(&mut self) -> Option<Envelope> {
        self.0.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Code;
    use crate::id::UserId;
    use crate::ports::BusMessage;
    use futures::FutureExt;

    fn message(from: u32, user: &str) -> Envelope {
        let user = UserId::new(user).unwrap();
        Envelope {
            from: NodeId(from),
            message: BusMessage::Close { user, session: None, before: None, code: Code::Kicked },
        }
    }

    /// The users of all messages that are waiting.
    fn waiting(receiver: &mut Box<dyn BusReceiver>) -> Vec<String> {
        let mut users = Vec::new();
        while let Some(Some(envelope)) = receiver.next().now_or_never() {
            if let BusMessage::Close { user, .. } = envelope.message {
                users.push(user.to_string());
            }
        }
        users
    }

    /// Each other node receives the messages in order, and the publisher receives none.
    #[tokio::test]
    async fn other_nodes_receive_messages_in_order() {
        let bus = MemoryBus::new(8);
        let mut one = bus.subscribe(NodeId(1)).await.unwrap();
        let mut two = bus.subscribe(NodeId(2)).await.unwrap();
        let mut three = bus.subscribe(NodeId(3)).await.unwrap();
        bus.publish(message(1, "a"));
        bus.publish(message(1, "b"));
        bus.publish(message(2, "c"));
        assert_eq!(waiting(&mut one), ["c"]);
        assert_eq!(waiting(&mut two), ["a", "b"]);
        assert_eq!(waiting(&mut three), ["a", "b", "c"]);
    }

    /// A full queue drops and counts messages, and other subscribers get them all.
    #[tokio::test]
    async fn full_queue_drops_without_affecting_others() {
        let bus = MemoryBus::new(2);
        let mut slow = bus.subscribe(NodeId(1)).await.unwrap();
        let mut quick = bus.subscribe(NodeId(2)).await.unwrap();
        let mut heard = Vec::new();
        for name in ["a", "b", "c"] {
            bus.publish(message(9, name));
            heard.extend(waiting(&mut quick));
        }
        assert_eq!(heard, ["a", "b", "c"]);
        assert_eq!(waiting(&mut slow), ["a", "b"]);
        assert_eq!(bus.dropped(), 1);
    }

    #[tokio::test]
    async fn dropped_subscriber_is_removed() {
        let bus = MemoryBus::new(2);
        drop(bus.subscribe(NodeId(1)).await.unwrap());
        bus.publish(message(9, "a"));
        assert!(bus.subscribers.lock().is_empty());
        assert_eq!(bus.dropped(), 0);
    }

    /// A lossy bus drops the messages that match, and a dropped bus ends its receivers.
    #[tokio::test]
    async fn lossy_bus_drops_matching_messages() {
        let bus = MemoryBus::lossy(8, |envelope| envelope.from == NodeId(7));
        let mut receiver = bus.subscribe(NodeId(1)).await.unwrap();
        bus.publish(message(7, "a"));
        bus.publish(message(8, "b"));
        assert_eq!(waiting(&mut receiver), ["b"]);
        drop(bus);
        assert!(receiver.next().await.is_none());
    }
}

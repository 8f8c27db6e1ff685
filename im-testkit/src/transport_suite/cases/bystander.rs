//! A connection that must not notice the faults of others.

use im_core::RoomId;

use super::*;

/// A connection with a room and a subscription of its own.
pub(super) struct Bystander {
    peer: Peer,
    room: RoomId,
}

impl Bystander {
    /// Connects to the same engine as the first connection of the case.
    pub(super) async fn new<F: TransportFactory>(world: &World<F>) -> Self {
        let room = world.group("bystanders", &["bystander"]).await;
        let mut peer = world.nth_peer(0, "bystander").await;
        peer.subscribe(&room, None).await.unwrap();
        peer.say(&room, "before").await.unwrap();
        assert_eq!(peer.heard().await, "before");
        Self { peer, room }
    }

    /// Checks that it still sends and receives, and that the log holds exactly its messages.
    pub(super) async fn ends_untouched<F: TransportFactory>(mut self, world: &World<F>) {
        self.peer.say(&self.room, "after").await.unwrap();
        assert_eq!(self.peer.heard().await, "after");
        let texts: Vec<String> =
            world.said(&self.room).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["before", "after"]);
    }
}

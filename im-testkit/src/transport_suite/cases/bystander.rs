//! Somebody who must not notice what others do wrong.

use im_core::RoomId;

use super::*;

/// A connection that follows a room of its own.
pub(super) struct Bystander {
    peer: Peer,
    room: RoomId,
}

impl Bystander {
    /// At the same engine as the first of the case's own connections.
    pub(super) async fn new<F: TransportFactory>(world: &World<F>) -> Self {
        let room = world.group("bystanders", &["bystander"]).await;
        let mut peer = world.nth_peer(0, "bystander").await;
        peer.subscribe(&room, None).await.unwrap();
        peer.say(&room, "before").await.unwrap();
        assert_eq!(peer.heard().await, "before");
        Self { peer, room }
    }

    /// It still sends and hears, and what is kept is what it said.
    pub(super) async fn ends_untouched<F: TransportFactory>(mut self, world: &World<F>) {
        self.peer.say(&self.room, "after").await.unwrap();
        assert_eq!(self.peer.heard().await, "after");
        let texts: Vec<String> =
            world.said(&self.room).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["before", "after"]);
    }
}

//! A subscriber that only listens is kept alive by the transport's pings, in a quiet room and in a
//! busy one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use im_core::engine::{Batch, Connection, Engine, Peer, Publish};
use im_core::ports::Credentials;
use im_core::state::RoomSeed;
use im_core::wire::{Encoding, Role, RoomKind, Target};
use im_core::{Code, RoomId, UserId};

async fn listener(engine: &Engine) -> Connection {
    let credentials = Credentials::default();
    let peer = Peer { transport: "test", encoding: Encoding::Json, address: None, credentials };
    let connection = engine.accept(peer).unwrap();
    let first =
        r#"[{"t":"hello","id":1,"v":1,"user":"bob"},{"t":"subscribe","id":2,"room":"tea"}]"#;
    connection.submit(first.into()).await;
    connection
}

/// Takes what is queued; answers a heartbeat like a WebSocket library, if `answers`. Returns the
/// code of the end, if it ended.
async fn listen(connection: &Connection, answers: bool) -> Option<Code> {
    while let Ok(batch) =
        tokio::time::timeout(Duration::from_millis(1), connection.next(1 << 16)).await
    {
        let Batch { id, heartbeat, close, .. } = batch;
        connection.release(id);
        if heartbeat && answers {
            connection.heard();
        }
        if let Some(disconnect) = close {
            return Code::from_number(disconnect.code);
        }
    }
    None
}

/// Five minutes of a listener. Returns the code with which it was closed, if it was.
async fn five_minutes(busy: bool, answers: bool) -> Option<Code> {
    let engine = Engine::builder().allow_anonymous().start().await.unwrap();
    let (alice, room) = (UserId::new("alice").unwrap(), RoomId::new("tea").unwrap());
    let members = vec![(alice.clone(), Role::Owner), (UserId::new("bob").unwrap(), Role::Member)];
    let seed = RoomSeed { kind: RoomKind::Group, open: false, members };
    engine.create_room(room.clone(), seed, &alice).await.unwrap();
    let connection = listener(&engine).await;
    for _ in 0..60 {
        if busy {
            let said = Publish::text(Target::Room(room.clone()), alice.clone(), "tick");
            engine.publish(said).await.unwrap();
        }
        if let Some(code) = listen(&connection, answers).await {
            return Some(code);
        }
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    None
}

#[tokio::test(start_paused = true)]
async fn ponging_listener_survives_quiet_room() {
    assert_eq!(five_minutes(false, true).await, None);
}

#[tokio::test(start_paused = true)]
async fn ponging_listener_survives_busy_room() {
    assert_eq!(five_minutes(true, true).await, None);
}

/// A listener that answers no ping is disconnected, also while events are pushed to it.
#[tokio::test(start_paused = true)]
async fn unresponsive_listener_is_disconnected() {
    assert_eq!(five_minutes(false, false).await, Some(Code::IdleTimeout));
    assert_eq!(five_minutes(true, false).await, Some(Code::IdleTimeout));
}

//! The other writes of a worker, beside messages.

use std::convert::Infallible;
use std::sync::Arc;

use im_core::ports::Store;
use im_core::state::{Base, CheckpointChange, SecretHash, SessionRecord};
use im_core::wire::{Content, Limits, Secret, StateUpdate};
use im_core::{
    Cursor, DeviceId, Epoch, NodeId, RoomId, Seq, SessionId, Stamp, StateKey, Timestamp, UserId,
};

use super::random::Random;
use super::worker::{PAUSE, WriterPlan, failed};

/// Writes sessions, checkpoints and state. They are not checked; they compete with the messages.
pub(super) async fn others(store: Arc<dyn Store>, plan: WriterPlan) -> Infallible {
    let mut random = Random::new(!plan.seed);
    loop {
        let (a, b) = (random.next(), random.next());
        let written = match a % 3 {
            0 => store.open_session(session(b)).await,
            1 => {
                let base = if b % 9 == 0 { Base::Empty } else { Base::Held };
                let epoch = Epoch { generation: 1, incarnation: 1 };
                let room = RoomId::new(format!("room{}", b % 7)).ok();
                let cursor = Cursor { epoch, seq: Seq::ZERO };
                let change = CheckpointChange {
                    base,
                    unsubscribe: vec![],
                    subscribe: room.map(|room| (room, cursor)).into_iter().collect(),
                    confirm: vec![],
                    max_rooms: 100,
                };
                store.change_checkpoint(&session(b).id, change).await.map(drop)
            }
            _ => store.merge_state(vec![state(&plan, b)]).await,
        };
        if let Err(error) = written {
            if !plan.away.explains(&error) {
                failed(&error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        // A store that never waits would keep a worker from ending.
        tokio::task::yield_now().await;
    }
}

fn session(number: u64) -> SessionRecord {
    let id = format!("session{}", number % 50);
    let made = || {
        Some(SessionRecord {
            id: SessionId::new(id).ok()?,
            user: UserId::new("sender0").ok()?,
            device: DeviceId::new("device").ok()?,
            secret: SecretHash::of(&Secret::new("secret")),
            created: Timestamp::from_millis(1),
            expires: Timestamp::from_millis(number % 1000),
            fencing_token: 1,
        })
    };
    made().unwrap_or_else(|| panic!("a session of the worker is invalid"))
}

fn state(plan: &WriterPlan, number: u64) -> Arc<StateUpdate> {
    let stamp =
        Stamp { ms: Timestamp::from_millis(number % (1 << 50)), counter: 0, node: NodeId(1) };
    let made = || {
        Some(StateUpdate {
            room: RoomId::new(format!("room{}", number % u64::from(plan.rooms))).ok()?,
            key: StateKey::new(format!("key{}", number % 30)).ok()?,
            stamp,
            from: UserId::new("sender0").ok()?,
            value: Content::text("value", &Limits::default()).ok(),
        })
    };
    Arc::new(made().unwrap_or_else(|| panic!("an update of the worker is invalid")))
}

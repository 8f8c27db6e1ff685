//! The engine's own tasks: timeouts, the bus, the checks of heads and sessions, state on its way to
//! the store, expired sessions. A panic in the embedder's code ends one round, not the task.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{MissedTickBehavior, interval};

use crate::ports::{BusMessage, BusReceiver, Envelope};

use super::commands::deliver_signal;
use super::core::Core;
use super::outgoing::Outgoing;

/// Rooms compared with the store in one call.
const CHECK_BATCH: usize = 256;
/// Number of state delays after which an update of another node is certainly in the store, unless
/// the store fails.
const REMOTE_STATE_DELAYS: u32 = 5;
/// Interval at which expired sessions are removed, and their number per call.
const SWEEP_EVERY: Duration = Duration::from_secs(600);
const SWEEP_BATCH: usize = 1000;

/// Runs `work` every `period` until the engine stops. `name` identifies it in reports of lag.
async fn every<F, Fut>(core: Arc<Core>, name: &'static str, period: Duration, work: F)
where
    F: Fn(Arc<Core>) -> Fut,
    Fut: Future<Output = ()>,
{
    let beat = core.vitals.task(name, period, core.running());
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick completes at once.
    ticks.tick().await;
    loop {
        tokio::select! {
            biased;
            () = core.stopped.cancelled() => return,
            _ = ticks.tick() => {
                if AssertUnwindSafe(work(core.clone())).catch_unwind().await.is_err() {
                    tracing::error!("one of the engine's tasks panicked; it continues with its next round");
                }
                beat.beat(core.running());
            }
        }
    }
}

/// Starts all tasks.
pub(crate) fn start(core: &Arc<Core>, bus: Option<Box<dyn BusReceiver>>) {
    let config = &core.config;
    core.tasks.spawn(every(core.clone(), "tick", config.tick, |core| async move {
        tick_connections(&core)
    }));
    core.tasks.spawn(every(core.clone(), "head_check", config.head_check, |core| async move {
        check_heads(&core).await
    }));
    core.tasks.spawn(every(
        core.clone(),
        "session_check",
        config.session_check,
        |core| async move { core.check_sessions().await },
    ));
    core.tasks.spawn(every(core.clone(), "state", config.state_delay, |core| async move {
        core.state_writer.flush(&core.store).await;
    }));
    core.tasks.spawn(every(core.clone(), "upkeep", config.upkeep, |core| async move {
        core.run_upkeep().await
    }));
    core.tasks.spawn(every(
        core.clone(),
        "remote_state",
        config.state_delay * REMOTE_STATE_DELAYS,
        |core| async move {
            core.remote_state.turn();
        },
    ));
    core.tasks
        .spawn(every(core.clone(), "sweep", SWEEP_EVERY, |core| async move { sweep(&core).await }));
    if let Some(bus) = bus {
        core.tasks.spawn(listen(core.clone(), bus));
    }
}

fn tick_connections(core: &Arc<Core>) {
    let (running, now) = (core.running(), core.now());
    core.registry.all().iter().for_each(|conn| conn.tick(core, running, now));
    core.hub.empty_idle_windows();
    core.gauge_usage();
}

async fn check_heads(core: &Arc<Core>) {
    core.check_generation().await;
    core.compare_all().await;
}

impl Core {
    /// Compares every room in memory with the store.
    pub(crate) async fn compare_all(self: &Arc<Self>) {
        for rooms in self.hub.rooms().chunks(CHECK_BATCH) {
            self.check(rooms).await;
        }
    }
}

async fn sweep(core: &Core) {
    loop {
        match core.store.sweep_sessions(core.now(), SWEEP_BATCH).await {
            Ok(swept) if swept >= SWEEP_BATCH => {}
            Ok(_) => return,
            Err(error) => return tracing::warn!(%error, "expired sessions could not be removed"),
        }
    }
}

async fn listen(core: Arc<Core>, mut bus: Box<dyn BusReceiver>) {
    loop {
        tokio::select! {
            biased;
            () = core.stopped.cancelled() => return,
            envelope = bus.next() => match envelope {
                Some(envelope) => on_bus_message(&core, envelope),
                None => return,
            },
        }
    }
}

/// Handles a message of another node. It is a hint: missing data is read from the store.
fn on_bus_message(core: &Arc<Core>, envelope: Envelope) {
    if envelope.from == core.node {
        return;
    }
    match envelope.message {
        BusMessage::Events(events) => {
            for event in events {
                if let Some(room) = core.hub.get(&event.room) {
                    let applied = room.apply(Outgoing::event(event));
                    core.handle_applied(&room, applied);
                }
            }
        }
        BusMessage::State(update) => {
            core.stamps.lock().observe(update.stamp);
            // Before the lookup of the room: the room may be loaded right now, and reads this
            // first.
            core.remote_state.push(update.clone());
            if let Some(room) = core.hub.get(&update.room) {
                core.merge_remote(room, update);
            }
        }
        BusMessage::Signal(signal) => deliver_signal(core, &signal),
        BusMessage::CheckpointChanged { user, session } => core.resubscribe(&user, &session),
        BusMessage::RoomChanged { room } => {
            let core = core.clone();
            core.tasks.clone().spawn(async move { core.compare(&room).await });
        }
        BusMessage::Erased { user } => {
            let core = core.clone();
            core.tasks.clone().spawn(async move {
                if let Err(error) = core.drop_pending_of(&user).await {
                    tracing::warn!(%error, "state of a user who is being erased could not be removed");
                }
                core.compare_all().await;
            });
        }
        BusMessage::Close { user, session, before, code } => {
            core.close_sessions(&user, session.as_ref(), before, code)
        }
    }
}

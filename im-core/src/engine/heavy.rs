//! Heavy appends run one at a time across all shards: a commit that light ones wait for contains
//! one of them at most.
//!
//! A shard with a heavy append next requests the turn. Light appends may arrive meanwhile and
//! overtake it; the request then keeps its place in the line. If the turn is granted while others
//! run first, it passes to the next shard in the line.

use std::pin::pin;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turn that all shards share.
#[derive(Debug, Clone)]
pub(super) struct HeavyTurn(Arc<Semaphore>);

impl HeavyTurn {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Creates a shard's request, which is not in the line yet.
    pub(super) fn request(&self) -> TurnRequest {
        TurnRequest { turn: self.clone(), waiting: None }
    }
}

/// A shard's request for the turn.
pub(super) struct TurnRequest {
    turn: HeavyTurn,
    waiting: Option<BoxFuture<'static, Option<OwnedSemaphorePermit>>>,
}

impl TurnRequest {
    /// Waits for the turn, which lasts until the permit is dropped. If this future is dropped
    /// before, the request keeps its place.
    pub(super) async fn granted(&mut self) -> Option<OwnedSemaphorePermit> {
        let Self { turn, waiting } = self;
        // The semaphore is never closed.
        let line = || turn.0.clone().acquire_owned().map(Result::ok).boxed();
        let permit = waiting.get_or_insert_with(line).await;
        *waiting = None;
        permit
    }

    /// Runs something else first: if the turn is granted meanwhile, it passes to the next shard.
    pub(super) async fn yield_to<T>(&mut self, first: impl Future<Output = T>) -> T {
        let mut first = pin!(first);
        if let Some(waiting) = &mut self.waiting {
            tokio::select! {
                biased;
                done = &mut first => return done,
                turn = waiting => drop(turn),
            }
            self.waiting = None;
        }
        first.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    /// A holder of the turn, and the next two in the line.
    fn line() -> (Option<OwnedSemaphorePermit>, TurnRequest, TurnRequest) {
        let turn = HeavyTurn::new();
        let [mut a, mut b, mut c] = [turn.request(), turn.request(), turn.request()];
        let held = a.granted().now_or_never().unwrap();
        assert!(b.granted().now_or_never().is_none());
        assert!(c.granted().now_or_never().is_none());
        (held, b, c)
    }

    /// A turn that is granted while others run first is used for the next pass.
    #[test]
    fn later_turn_waits_for_next_pass() {
        let (held, mut b, mut c) = line();
        {
            let (done, commit) = oneshot::channel();
            let mut others = pin!(b.yield_to(commit));
            assert!(others.as_mut().now_or_never().is_none());
            drop(held);
            assert!(c.granted().now_or_never().is_none(), "b keeps its position");
            assert!(others.as_mut().now_or_never().is_none());
            let held = c.granted().now_or_never().expect("b has let it pass");
            done.send(()).unwrap();
            assert!(others.now_or_never().is_some());
            drop(held);
        }
        assert!(b.granted().now_or_never().is_some());
    }

    /// A waiter whose pass ends before its turn comes keeps its order in the line.
    #[test]
    fn order_is_kept_without_waiting() {
        let (held, mut b, mut c) = line();
        b.yield_to(async {}).now_or_never().unwrap();
        drop(held);
        assert!(c.granted().now_or_never().is_none());
        assert!(b.granted().now_or_never().is_some());
    }
}

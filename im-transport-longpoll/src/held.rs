//! A poll that waits for something to hand out.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::SessionId;
use im_core::engine::Batch;
use im_core::state::Mark;
use im_core::wire::Bye;

use crate::kept::{Downlink, Kept};

/// A downlink in the hands of a poll. If the poll goes before it has taken anything (its client has gone, say), the
/// downlink is kept as it was; otherwise what was taken is lost with it, and comes again from the mark.
pub(crate) struct Held {
    session: SessionId,
    downlink: Option<Downlink>,
    taken: bool,
    kept: Arc<Kept>,
}

impl Held {
    pub(crate) fn new(session: SessionId, downlink: Downlink, kept: Arc<Kept>) -> Self {
        Self { session, downlink: Some(downlink), taken: false, kept }
    }

    /// Waits for at most `hold`, and no longer than until the peer has `ended` its half of the connection, for then
    /// perhaps nobody waits any more; then takes what there is, of about `max` bytes.
    ///
    /// # Errors
    ///
    /// The downlink has ended. What was left in it is not handed out: it is not lost, for the reader's mark is before it.
    pub(crate) async fn gather(
        &mut self,
        hold: Duration,
        ended: Option<impl Future<Output = ()>>,
        max: usize,
    ) -> Result<Vec<Bytes>, Bye> {
        let Some(downlink) = &mut self.downlink else { return Ok(Vec::new()) };
        let connection = downlink.entry.connection().clone();
        let ended = async {
            match ended {
                Some(ended) => ended.await,
                None => std::future::pending().await,
            }
        };
        let mut frames = Vec::new();
        let mut bytes = 0;
        let mut add = |batch: Batch| {
            if let Some(bye) = batch.close {
                return Err(bye);
            }
            self.taken |= !batch.frames.is_empty();
            downlink.unconfirmed.push(batch.id);
            bytes += batch.frames.iter().map(Bytes::len).sum::<usize>();
            frames.extend(batch.frames);
            Ok(bytes)
        };
        // What is there already is not waited for.
        let mut most = max;
        let waited = async {
            loop {
                // Heartbeats say nothing to who only waits.
                let batch = connection.next(max).await;
                if !batch.frames.is_empty() || batch.close.is_some() {
                    return batch;
                }
            }
        };
        if let Some(batch) = connection.take(most).await {
            most = max.saturating_sub(add(batch)?);
        } else {
            let batch = tokio::select! {
                batch = waited => Some(batch),
                () = tokio::time::sleep(hold) => None,
                () = ended => None,
            };
            if let Some(batch) = batch {
                most = max.saturating_sub(add(batch)?);
            }
        }
        while most > 0 {
            let Some(batch) = connection.take(most).await else { break };
            most = max.saturating_sub(add(batch)?);
        }
        Ok(frames)
    }

    /// Where the reader stands after what was taken. From now on the downlink is kept for the next poll.
    pub(crate) fn deliver(mut self) -> Mark {
        let Some(mut downlink) = self.downlink.take() else { return Mark::default() };
        let mark = downlink.connection().stream_position();
        downlink.mark = mark.to_string();
        self.kept.keep(self.session.clone(), downlink);
        mark
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(downlink) = self.downlink.take()
            && !self.taken
            && !downlink.mark.is_empty()
        {
            self.kept.keep(self.session.clone(), downlink);
        }
    }
}

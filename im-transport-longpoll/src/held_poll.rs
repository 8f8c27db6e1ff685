//! A poll that waits for frames.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::SessionId;
use im_core::engine::Batch;
use im_core::state::StreamPosition;
use im_core::wire::Disconnect;

use crate::kept_downlinks::{Downlink, KeptDownlinks};

/// A downlink during a poll.
///
/// If the poll is dropped before it has taken frames (its client has gone, for example), the
/// downlink is kept unchanged. Otherwise it is dropped together with the frames, which are
/// redelivered from the stream position.
pub(crate) struct HeldPoll {
    session: SessionId,
    downlink: Option<Downlink>,
    taken: bool,
    downlinks: Arc<KeptDownlinks>,
}

impl HeldPoll {
    pub(crate) fn new(
        session: SessionId,
        downlink: Downlink,
        downlinks: Arc<KeptDownlinks>,
    ) -> Self {
        Self { session, downlink: Some(downlink), taken: false, downlinks }
    }

    /// Waits for frames, then takes about `max` bytes of them.
    ///
    /// It waits for at most `hold`, and only until the peer has `ended` its half of the connection,
    /// because the client may not wait any more.
    ///
    /// # Errors
    ///
    /// The disconnect of the downlink. Its remaining frames are not delivered and not lost: the
    /// client's stream position is before them.
    pub(crate) async fn gather(
        &mut self,
        hold: Duration,
        ended: Option<impl Future<Output = ()>>,
        max: usize,
    ) -> Result<Vec<Bytes>, Disconnect> {
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
            if let Some(disconnect) = batch.close {
                return Err(disconnect);
            }
            self.taken |= !batch.frames.is_empty();
            downlink.unconfirmed.push(batch.id);
            bytes += batch.frames.iter().map(Bytes::len).sum::<usize>();
            frames.extend(batch.frames);
            Ok(bytes)
        };
        // Frames that are ready are taken without waiting.
        let mut most = max;
        let waited = async {
            loop {
                // A heartbeat does not end the wait.
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

    /// Returns the stream position after the taken frames, and keeps the downlink for the next
    /// poll.
    pub(crate) fn deliver(mut self) -> StreamPosition {
        let Some(mut downlink) = self.downlink.take() else { return StreamPosition::default() };
        let position = downlink.connection().stream_position();
        downlink.position = position.to_string();
        self.downlinks.keep(self.session.clone(), downlink);
        position
    }
}

impl Drop for HeldPoll {
    fn drop(&mut self) {
        if let Some(downlink) = self.downlink.take()
            && !self.taken
            && !downlink.position.is_empty()
        {
            self.downlinks.keep(self.session.clone(), downlink);
        }
    }
}

//! Messages that wait to be posted. Messages written during a POST are combined into the next one,
//! within the server's limits: one POST each would cost a round trip each.

use bytes::Bytes;
use futures::channel::mpsc::Receiver;
use futures::{FutureExt, StreamExt};
use im_core::wire::{Encoding, ServerLimits, Value, decode, encode_batch};

use crate::refusal::generous;

pub(super) struct Queue {
    outgoing: Receiver<Bytes>,
    encoding: Encoding,
    /// The server's limits for one message. Until they are known, messages are posted uncombined.
    limits: Option<ServerLimits>,
    /// A message that did not fit into the previous POST.
    held: Option<Message>,
}

/// One message, as it was written or combined from several.
pub(super) struct Message {
    frames: Vec<Value>,
    bytes: usize,
    /// The bytes as they were written, if the message is not combined.
    whole: Option<Bytes>,
}

/// Most bytes of a list's header, in either encoding.
const LIST: usize = 5;

impl Queue {
    pub(super) fn new(outgoing: Receiver<Bytes>, encoding: Encoding) -> Self {
        Self { outgoing, encoding, limits: None, held: None }
    }

    /// From now on messages may be combined within these limits.
    pub(super) fn gather_within(&mut self, limits: ServerLimits) {
        self.limits = Some(limits);
    }

    /// Returns all waiting messages that fit together, in order; `None` once the sender is dropped.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Message> {
        let mut message = match self.held.take() {
            Some(held) => held,
            None => Message::read(self.outgoing.next().await?, self.encoding),
        };
        let Some(limits) = &self.limits else { return Some(message) };
        while let Some(Some(more)) = self.outgoing.next().now_or_never() {
            let more = Message::read(more, self.encoding);
            if !message.has_room_for(&more, limits) {
                self.held = Some(more);
                break;
            }
            message.append(more);
        }
        Some(message)
    }
}

impl Message {
    fn read(whole: Bytes, encoding: Encoding) -> Self {
        // The client wrote this message itself. If it is invalid, the server will say so.
        let frames = decode(&whole, encoding, &generous()).unwrap_or_default();
        Self { frames, bytes: whole.len(), whole: Some(whole) }
    }

    fn has_room_for(&self, more: &Self, limits: &ServerLimits) -> bool {
        let within = |n: usize, limit| n as u64 <= limit;
        !self.frames.is_empty()
            && !more.frames.is_empty()
            && within(self.frames.len() + more.frames.len(), limits.batch.min(limits.in_flight))
            && within(self.bytes + more.bytes + LIST, limits.message_bytes)
            && within(self.values() + more.values(), limits.values)
    }

    /// Servers count keys too.
    fn values(&self) -> usize {
        self.frames.iter().map(|frame| 2 * frame.count()).sum()
    }

    fn append(&mut self, more: Self) {
        self.frames.extend(more.frames);
        // A comma, or one bracket each that is omitted.
        self.bytes += more.bytes + 1;
        self.whole = None;
    }

    /// Whether the downlink has to wait for the answer to this message.
    pub(super) fn changes_subscriptions(&self) -> bool {
        let kind = |frame: &Value| {
            let kind = frame.get("t").and_then(Value::as_text);
            matches!(kind, Some("hello" | "subscribe" | "unsubscribe" | "resume"))
        };
        self.frames.iter().any(kind)
    }

    /// The credentials in the message, if there are any.
    pub(super) fn token(&self) -> Option<&str> {
        let shows = |frame: &&Value| {
            matches!(frame.get("t").and_then(Value::as_text), Some("hello" | "refresh"))
        };
        self.frames.iter().rev().find(shows)?.get("token")?.as_text()
    }

    /// Whether the message may be posted again although its commands may have been carried out.
    pub(super) fn is_idempotent(&self) -> bool {
        let once = |frame: &Value| match frame.get("t").and_then(Value::as_text) {
            Some("create" | "signal") => true,
            Some("put_state" | "remove_state") => frame.get("stamp").is_none(),
            _ => false,
        };
        !self.frames.is_empty() && !self.frames.iter().any(once)
    }

    pub(super) fn encode(self, encoding: Encoding) -> Bytes {
        self.whole.unwrap_or_else(|| encode_batch(&self.frames, encoding))
    }
}

#[cfg(test)]
mod tests {
    use futures::SinkExt;
    use futures::channel::mpsc;
    use im_core::CommandId;
    use im_core::wire::{Command, CommandBody, encode};

    use super::*;

    fn limits(batch: u64, message_bytes: u64, values: u64) -> ServerLimits {
        let (content_bytes, in_flight, page, rooms, depth) = (1024, 64, 1, 1, 16);
        ServerLimits { message_bytes, content_bytes, batch, in_flight, page, rooms, depth, values }
    }

    /// The posts that result if pings 1 to `count` wait, alternately in pairs and alone.
    async fn posts(limits: Option<ServerLimits>, count: u64, encoding: Encoding) -> Vec<Vec<u64>> {
        let (mut messages, outgoing) = mpsc::channel(16);
        let mut queue = Queue::new(outgoing, encoding);
        limits.into_iter().for_each(|limits| queue.gather_within(limits));
        let ping = |n| Command { id: CommandId(n), body: CommandBody::Ping }.to_value();
        let mut n = 1;
        while n <= count {
            let message = match n % 3 {
                1 => encode(&ping(n), encoding),
                _ => encode_batch(&[ping(n), ping(n + 1)], encoding),
            };
            n += if n % 3 == 1 { 1 } else { 2 };
            messages.send(message).await.unwrap();
        }
        drop(messages);
        let mut posts = Vec::new();
        while let Some(message) = queue.next().await {
            let (counted, body) = (message.bytes, message.encode(encoding));
            assert!(body.len() <= counted + LIST, "{} of {counted}", body.len());
            let frames = decode(&body, encoding, &generous()).unwrap();
            let id = |frame: &Value| frame.get("id").and_then(Value::as_int).unwrap() as u64;
            posts.push(frames.iter().map(id).collect());
        }
        posts
    }

    /// Commands that wait are posted together in order, within the server's limits.
    #[tokio::test]
    async fn pending_commands_share_bounded_posts() {
        for encoding in Encoding::ALL {
            let all = posts(Some(limits(64, 65536, 8192)), 9, encoding).await;
            assert_eq!(all, [(1..=9).collect::<Vec<_>>()]);
            let by_frames = posts(Some(limits(4, 65536, 8192)), 9, encoding).await;
            assert_eq!(by_frames, [vec![1, 2, 3, 4], vec![5, 6, 7], vec![8, 9]]);
            let by_bytes = posts(Some(limits(64, 60, 8192)), 9, encoding).await;
            assert!(by_bytes.len() > 1 && by_bytes.concat() == (1..=9).collect::<Vec<_>>());
            // A ping counts as three values and their keys.
            let by_values = posts(Some(limits(64, 65536, 18)), 9, encoding).await;
            assert_eq!(by_values, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]);
        }
    }

    /// Before the server has named its limits, each command is posted by itself.
    #[tokio::test]
    async fn commands_before_limits_post_alone() {
        let posts = posts(None, 6, Encoding::Json).await;
        assert_eq!(posts, [vec![1], vec![2, 3], vec![4], vec![5, 6]]);
    }
}

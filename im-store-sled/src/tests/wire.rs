//! A disk that is full or broken, as the clients of an engine on it see it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use im_core::RoomId;
use im_core::engine::{Connection, Engine, Peer};
use im_core::ports::{Credentials, Store};
use im_core::wire::{Encoding, Limits, Map, Value, decode, encode};
use tempfile::TempDir;

use super::device::{Faulty, Site, Work};
use super::fixture::open_on;
use crate::SledStore;

/// A client that speaks to the engine without a network between.
struct Client {
    connection: Connection,
    got: VecDeque<Value>,
    last: i64,
}

fn text<'a>(frame: &'a Value, field: &str) -> &'a str {
    frame.get(field).and_then(Value::as_text).unwrap_or_default()
}

fn number(frame: &Value, field: &str) -> Option<i64> {
    frame.get(field).and_then(Value::as_int)
}

impl Client {
    async fn new(engine: &Engine, name: &str) -> Self {
        let (transport, encoding, address) = ("test", Encoding::Json, None);
        let peer = Peer { transport, encoding, address, credentials: Credentials::default() };
        let connection = engine.accept(peer).unwrap();
        let mut client = Self { connection, got: VecDeque::new(), last: 0 };
        let hello = [("v", Value::Int(1)), ("user", name.into())];
        assert_eq!(text(&client.ask("hello", hello).await, "t"), "ok");
        client
    }

    async fn next(&mut self) -> Value {
        while self.got.is_empty() {
            let batch = self.connection.next(1 << 16).await;
            self.connection.release(batch.id);
            assert_eq!(batch.close, None, "nobody is sent away for it");
            for frame in batch.frames {
                let limits = Limits::default();
                self.got.extend(decode(&frame, Encoding::Json, &limits).unwrap());
            }
        }
        self.got.pop_front().unwrap()
    }

    /// Sends a command and gives its answer. What comes before it is passed over.
    async fn ask<const N: usize>(
        &mut self,
        kind: &str,
        fields: [(&'static str, Value); N],
    ) -> Value {
        self.last += 1;
        let mut frame = Map::from_iter([("t", Value::from(kind)), ("id", Value::Int(self.last))]);
        fields.into_iter().for_each(|(name, value)| {
            frame.insert(name, value);
        });
        self.connection.submit(encode(&frame.into(), Encoding::Json)).await;
        loop {
            let frame = self.next().await;
            if number(&frame, "id") == Some(self.last) {
                return frame;
            }
        }
    }

    async fn send(&mut self, mid: &str, words: &str) -> Value {
        let content = Map::from_iter([("text", words)]).into();
        self.ask("send", [("room", "tea".into()), ("mid", mid.into()), ("content", content)]).await
    }

    async fn follow(&mut self) {
        let answer = self.ask("subscribe", [("room", "tea".into())]).await;
        assert_eq!(text(&answer, "t"), "ok", "{answer:?}");
    }

    /// The text and the seq of the next message.
    async fn heard(&mut self) -> (String, i64) {
        loop {
            let frame = self.next().await;
            if text(&frame, "t") == "event" && text(&frame, "kind") == "message" {
                let words = frame.get("content").map(|content| text(content, "text").to_owned());
                return (words.unwrap(), number(&frame, "seq").unwrap());
            }
        }
    }
}

async fn head(store: &SledStore) -> u64 {
    use im_core::ports::RoomLog;
    let heads = store.heads(&[RoomId::new("tea").unwrap()]).await.unwrap();
    heads[0].unwrap().cursor.seq.get()
}

/// An engine on a store whose disk can fail, with somebody who writes and somebody who follows the same room.
struct Scene {
    engine: Engine,
    store: Arc<SledStore>,
    device: Arc<Faulty>,
    ann: Client,
    bystander: Client,
    _folder: TempDir,
}

impl Scene {
    /// The room has three events: it was made, the bystander came in, Ann wrote.
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let device = Arc::new(Faulty::default());
        let store = Arc::new(open_on(folder.path(), &device).await);
        let builder = Engine::builder().allow_anonymous().store(store.clone());
        let engine = builder.start().await.unwrap();
        let mut ann = Client::new(&engine, "ann").await;
        let mut bystander = Client::new(&engine, "bystander").await;
        ann.ask("create", [("room", "tea".into()), ("open", Value::Bool(true))]).await;
        bystander.ask("join", [("room", "tea".into())]).await;
        bystander.follow().await;
        let first = ann.send("0123456789abcdef-1", "before").await;
        assert_eq!(number(&first, "seq"), Some(3), "{first:?}");
        Self { engine, store, device, ann, bystander, _folder: folder }
    }

    async fn end(self) {
        assert_eq!(self.device.left(), 0, "something did not fail");
        drop((self.ann, self.bystander));
        self.engine.drain(Duration::from_secs(5)).await;
        self.store.close().await.unwrap();
    }
}

fn is_refused(answer: &Value, code: i64, words: &str) {
    assert_eq!((text(answer, "t"), number(answer, "code")), ("err", Some(code)), "{answer:?}");
    assert!(text(answer, "msg").contains(words), "{answer:?}");
}

fn is_kept(answer: &Value, seq: i64, duplicate: bool) {
    assert_eq!((text(answer, "t"), number(answer, "seq")), ("ok", Some(seq)), "{answer:?}");
    assert_eq!(answer.get("duplicate"), Some(&Value::Bool(duplicate)), "{answer:?}");
}

/// A full or broken disk is reported by code, and the retry is stored once.
#[tokio::test]
async fn disk_error_retry_is_stored_once() {
    for (errno, words) in [
        (libc::ENOSPC, "storage is full; nothing was stored"),
        (libc::EIO, "the store is unavailable; nothing was stored"),
    ] {
        let mut scene = Scene::new().await;
        let mid = "0123456789abcdef-2";
        scene.device.fail(Site::Apply, Work::Undone, errno);
        is_refused(&scene.ann.send(mid, "during").await, 4202, words);
        assert_eq!(head(&scene.store).await, 3, "nothing was kept");
        assert_eq!(text(&scene.bystander.ask("ping", []).await, "t"), "ok");

        is_kept(&scene.ann.send(mid, "during").await, 4, false);
        is_kept(&scene.ann.send(mid, "during").await, 4, true);
        assert_eq!(scene.bystander.heard().await, ("before".into(), 3));
        assert_eq!(scene.bystander.heard().await, ("during".into(), 4));
        assert_eq!(head(&scene.store).await, 4);
        scene.end().await;
    }
}

/// The sync fails, and for a while the data cannot be read again either.
#[tokio::test]
async fn unknown_outcome_retry_is_stored_once() {
    for errno in [libc::ENOSPC, libc::EIO] {
        let mut scene = Scene::new().await;
        let (doubtful, late) = ("0123456789abcdef-2", "0123456789abcdef-3");
        // On another device, since what she sends on the first one behind the doubtful one has to wait for it.
        let mut other = Client::new(&scene.engine, "ann").await;
        for site in [Site::Sync, Site::Copy, Site::Copy] {
            scene.device.fail(site, Work::Undone, errno);
        }
        is_refused(&scene.ann.send(doubtful, "perhaps").await, 4100, "retry under the same");
        is_refused(&other.send(late, "late").await, 4202, "nothing was stored");
        assert_eq!(text(&scene.bystander.ask("ping", []).await, "t"), "ok");

        is_kept(&other.send(late, "late").await, 5, false);
        // It had reached the disk after all, before the one that was refused.
        is_kept(&scene.ann.send(doubtful, "perhaps").await, 4, true);
        is_kept(&other.send(late, "late").await, 5, true);
        for (words, seq) in [("before", 3), ("perhaps", 4), ("late", 5)] {
            assert_eq!(scene.bystander.heard().await, (words.into(), seq));
        }
        assert_eq!(head(&scene.store).await, 5);
        drop(other);
        scene.end().await;
    }
}

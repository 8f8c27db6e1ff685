//! A downlink of many rooms on a store that reads one thing at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "this file is all test")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use im_core::SessionId;
use im_core::engine::{Access, Engine, Peer};
use im_core::ports::Credentials;
use im_core::wire::{Encoding, ResumeToken, Secret, Value, decode};
use im_store_sled::{SledConfig, SledStore};

const ROOMS: usize = 60;

fn peer() -> Peer {
    let (transport, encoding, address) = ("test", Encoding::Json, None);
    Peer { transport, encoding, address, credentials: Credentials::default() }
}

fn text(frame: &Value, field: &str) -> String {
    frame.get(field).and_then(Value::as_text).unwrap_or_default().to_owned()
}

/// A downlink with many rooms begins on a store that makes one read at a time.
#[tokio::test]
async fn many_rooms_begin_with_one_read() {
    let folder = tempfile::tempdir().unwrap();
    let config = SledConfig::new(folder.path()).cache_bytes(4 << 20).max_reads(1);
    let store = SledStore::open(config).await.unwrap();
    let engine = Engine::builder().allow_anonymous().store(Arc::new(store)).start().await.unwrap();
    let limits = engine.limits().clone();
    let hello = Bytes::from_static(br#"{"t":"hello","id":1,"v":1,"user":"ann"}"#);
    let answers = engine.call(peer(), None, hello).await.unwrap().all().await;
    let welcome = decode(&answers[0], Encoding::Json, &limits).unwrap().remove(0);
    let session = SessionId::new(text(&welcome, "session")).unwrap();
    let token = ResumeToken { session, secret: Secret::new(text(&welcome, "secret")) };
    for n in 0..ROOMS {
        let both = format!(
            r#"[{{"t":"create","id":2,"room":"r{n}"}},{{"t":"subscribe","id":3,"room":"r{n}"}}]"#
        );
        let answers = engine.call(peer(), Some(&token), both.into()).await.unwrap().all().await;
        assert_eq!(answers.len(), 2);
    }

    let access = Access::Token(token);
    let listening = engine.open_stream(peer(), &access, None);
    let listening = tokio::time::timeout(Duration::from_secs(60), listening).await;
    let downlink = listening.expect("it waits for nothing that only it could bring about").unwrap();
    let mut told = 0;
    while told < ROOMS {
        let batch = downlink.next(1 << 16).await;
        downlink.release(batch.id);
        told += batch.frames.len();
    }
    assert_eq!(told, ROOMS);
}

//! A peer that stops sending and still reads: its commands are answered before the disconnect.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use im_core::Code;
use im_core::engine::{Connection, Engine, Peer};
use im_core::memory::MemoryStore;
use im_core::ports::Credentials;
use im_core::wire::Encoding;
use im_testkit::faulty_store::{FaultyStore, Moment, Operation};
use im_testkit::transport_suite::peer::soon;

async fn frames(connection: &Connection) -> (Vec<Bytes>, Option<u16>) {
    let batch = soon(connection.next(usize::MAX)).await;
    connection.release(batch.id);
    (batch.frames, batch.close.map(|disconnect| disconnect.code))
}

/// Appends in progress are acked before the connection ends.
#[tokio::test]
async fn appends_under_way_are_acked_first() {
    let store = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
    let engine = Engine::builder().allow_anonymous().store(store.clone()).start().await.unwrap();
    let peer = Peer {
        transport: "test",
        encoding: Encoding::Json,
        address: None,
        credentials: Credentials::default(),
    };
    let connection = engine.accept(peer).unwrap();
    let hello = br#"{"t":"hello","id":1,"v":1,"user":"ann"}"#;
    connection.submit(Bytes::from_static(hello)).await;
    frames(&connection).await;

    let gate = store.hold(Operation::Append, Moment::Before);
    let create = br#"{"t":"create","id":2,"room":"tea","kind":"group"}"#;
    connection.submit(Bytes::from_static(create)).await;
    let mut finish = Box::pin(connection.finish());
    assert!((&mut finish).now_or_never().is_none(), "the store has not answered yet");
    soon(gate.reached(1)).await;
    assert!((&mut finish).now_or_never().is_none(), "the store has not answered yet");
    gate.open();
    soon(finish).await;

    let (mut all, mut end) = frames(&connection).await;
    while end.is_none() {
        let (more, close) = frames(&connection).await;
        all.extend(more);
        end = close;
    }
    assert!(all[0].starts_with(br#"{"t":"ok","id":2"#), "{all:?}");
    assert_eq!(end, Some(Code::Closed.number()));
}

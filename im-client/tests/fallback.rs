//! The best transport that works, with links that do as they are told.
#![allow(clippy::unwrap_used, reason = "helpers of tests may fail like tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use im_client::{Connected, Fallback, Incoming, Link, LinkError};
use im_core::wire::Encoding;
use parking_lot::Mutex;

/// Does what it is told: how connecting ends, and what then arrives.
#[derive(Default)]
struct Told {
    refuses: Mutex<Option<LinkError>>,
    arrives: Mutex<Option<mpsc::UnboundedSender<Incoming>>>,
    connected: AtomicU32,
}

impl Told {
    fn say(&self, incoming: Incoming) {
        self.arrives.lock().as_ref().unwrap().unbounded_send(incoming).unwrap();
    }
}

#[async_trait]
impl Link for Told {
    async fn connect(&self, _: Encoding) -> Result<Connected, LinkError> {
        if let Some(error) = self.refuses.lock().clone() {
            return Err(error);
        }
        self.connected.fetch_add(1, Ordering::Relaxed);
        let (arrives, stream) = mpsc::unbounded();
        *self.arrives.lock() = Some(arrives);
        let sink = futures::sink::drain::<Bytes>();
        let sink = futures::SinkExt::sink_map_err(sink, |never| match never {});
        Ok(Connected { sink: Box::pin(sink), stream: Box::pin(stream) })
    }
}

fn three() -> (Vec<Arc<Told>>, Fallback) {
    let links: Vec<Arc<Told>> = (0..3).map(|_| Arc::default()).collect();
    let fallback = Fallback::new(links.iter().map(|link| link.clone() as Arc<dyn Link>));
    (links, fallback)
}

#[tokio::test(start_paused = true)]
async fn a_link_that_does_not_connect_makes_room_for_the_next() {
    let (links, fallback) = three();
    *links[0].refuses.lock() = Some(LinkError::cut("no way"));
    *links[1].refuses.lock() = Some(LinkError::cut("no way here either"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert!(fallback.connect(Encoding::Json).await.is_ok());
    assert_eq!(fallback.current(), 2);
    *links[2].refuses.lock() = Some(LinkError::cut("nowhere"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    assert_eq!(fallback.current(), 0, "after the last comes the first");
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_is_no_reason_for_another_link() {
    let (links, fallback) = three();
    *links[0].refuses.lock() = Some(LinkError::coded(4301, "who?"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    *links[0].refuses.lock() = None;
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Closed(LinkError::coded(4001, "going")));
    assert!(matches!(connected.stream.next().await, Some(Incoming::Closed(_))));
    assert_eq!(fallback.current(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_link_on_which_nothing_is_heard_makes_room_and_one_that_was_cut_does_not() {
    let (links, fallback) = three();
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Heard);
    links[0].say(Incoming::Closed(LinkError::cut("cut")));
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    assert!(connected.stream.next().await.is_some());
    assert_eq!(fallback.current(), 0);
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Closed(LinkError::cut("cut")));
    assert!(connected.stream.next().await.is_some());
    assert_eq!(fallback.current(), 1);
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[1].say(Incoming::Heard);
    links[1].say(Incoming::Closed(LinkError::unfit("held back")));
    while connected.stream.next().await.is_some_and(|said| said == Incoming::Heard) {}
    assert_eq!(fallback.current(), 2);
}

#[tokio::test(start_paused = true)]
async fn it_changes_over_when_a_better_link_works_again() {
    let (links, fallback) = three();
    let fallback = fallback.try_better_after(Duration::from_secs(60));
    *links[0].refuses.lock() = Some(LinkError::cut("no way"));
    assert!(fallback.connect(Encoding::Json).await.is_err());
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    let later = tokio::time::timeout(Duration::from_secs(300), connected.stream.next()).await;
    assert!(later.is_err(), "the better one still does not work");
    *links[0].refuses.lock() = None;
    let Some(Incoming::Closed(end)) = connected.stream.next().await else {
        panic!("it changes over")
    };
    assert_eq!((end.code, fallback.current()), (Some(4000), 0));
    assert_eq!(connected.stream.next().await, None);
}

/// A gateway that has no answer from the server says nothing about the link: it is left after three such answers in a row.
#[tokio::test(start_paused = true)]
async fn single_gateway_error_keeps_the_link() {
    let (links, fallback) = three();
    let gateway = LinkError { gateway: true, ..LinkError::cut("502 Bad Gateway") };
    for _ in 0..2 {
        let mut connected = fallback.connect(Encoding::Json).await.unwrap();
        links[0].say(Incoming::Closed(gateway.clone()));
        assert!(connected.stream.next().await.is_some());
        assert_eq!(fallback.current(), 0);
    }
    // What is heard between begins the count again.
    let mut connected = fallback.connect(Encoding::Json).await.unwrap();
    links[0].say(Incoming::Heard);
    assert_eq!(connected.stream.next().await, Some(Incoming::Heard));
    *links[0].refuses.lock() = Some(gateway);
    for current in [0, 0, 1] {
        assert!(fallback.connect(Encoding::Json).await.is_err());
        assert_eq!(fallback.current(), current);
    }
}

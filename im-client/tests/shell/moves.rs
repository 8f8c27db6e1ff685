//! Moving to a better transport: never while a command is in flight whose outcome would be unknown.

use std::sync::atomic::{AtomicBool, Ordering};

use im_client::Fallback;
use im_core::wire::RoomKind;

use super::*;

/// A link that connects once it is opened by the test.
struct Gate {
    is_open: Arc<AtomicBool>,
    link: MemoryLink,
}

#[async_trait]
impl Link for Gate {
    async fn connect(&self, encoding: Encoding) -> Result<Connected, LinkError> {
        if !self.is_open.load(Ordering::Relaxed) {
            return Err(LinkError::cut("no way"));
        }
        self.link.connect(encoding).await
    }
}

/// A client over the lesser one of two links; the better one connects once `gate` is opened.
struct Lesser {
    better: mpsc::UnboundedReceiver<Peer>,
    gate: Arc<AtomicBool>,
    peer: Peer,
    client: Client,
    events: Events,
}

async fn on_the_lesser_link() -> Lesser {
    let ((dialled, better), gate) = (mpsc::unbounded_channel(), Arc::<AtomicBool>::default());
    let first = Gate { is_open: gate.clone(), link: MemoryLink(dialled) };
    let (dialled, mut peers) = mpsc::unbounded_channel();
    let links: [Arc<dyn Link>; 2] = [Arc::new(first), Arc::new(MemoryLink(dialled))];
    let fallback = Fallback::new(links).try_better_after(Duration::from_secs(10));
    let (client, mut events) = Client::over(fallback).encoding(Encoding::Json).start();
    let mut peer = peers.recv().await.unwrap();
    peer.greet().await;
    while !matches!(events.next().await, Some(ClientEvent::Connected(_))) {}
    Lesser { better, gate, peer, client, events }
}

/// Checks that the waiting connection stays silent.
async fn says_nothing(waiting: &mut Peer) {
    let first = tokio::time::timeout(Duration::from_secs(5), waiting.next());
    assert!(first.await.is_err(), "it waits until the command is answered");
}

#[tokio::test(start_paused = true)]
async fn move_waits_for_unrepeatable_command() {
    let Lesser { mut better, gate, mut peer, client, mut events } = on_the_lesser_link().await;
    let creating = tokio::spawn(async move {
        let created = client.create(room(), RoomKind::Group, true, vec![]).await;
        (created, client)
    });
    let create = peer.next().await;
    assert!(matches!(create.body, CommandBody::Create { .. }));
    gate.store(true, Ordering::Relaxed);
    let mut waiting = better.recv().await.unwrap();
    says_nothing(&mut waiting).await;
    peer.reply(create.id, &append_ack(1));
    let (created, client) = creating.await.unwrap();
    assert_eq!(created.unwrap().seq, seq(1));
    waiting.greet().await;
    let code = Some(Code::Closed.number());
    let Some(ClientEvent::Disconnected { code: why, .. }) = events.next().await else {
        panic!("it left the lesser link")
    };
    assert_eq!(why, code);
    assert!(matches!(events.next().await, Some(ClientEvent::Connected(_))));
    drop(client);
}

/// A send is retried under its id, so the move does not wait for its ack.
#[tokio::test(start_paused = true)]
async fn move_does_not_wait_for_sends() {
    let Lesser { mut better, gate, mut peer, client, events } = on_the_lesser_link().await;
    let delivery = client.post(message(1)).await.unwrap();
    let first = peer.next().await;
    gate.store(true, Ordering::Relaxed);
    let mut moved = better.recv().await.unwrap();
    moved.greet().await;
    let again = moved.next().await;
    assert_eq!(first, again);
    moved.reply(again.id, &append_ack(1));
    assert_eq!(delivery.await.unwrap().seq, seq(1));
    drop(events);
}

/// An unused connection that ended is dropped, and the client moves to a later one.
#[tokio::test(start_paused = true)]
async fn ended_link_cancels_move() {
    let Lesser { mut better, gate, mut peer, client, events } = on_the_lesser_link().await;
    let creating = tokio::spawn({
        let client = client.clone();
        async move { client.create(room(), RoomKind::Group, true, vec![]).await }
    });
    let create = peer.next().await;
    gate.store(true, Ordering::Relaxed);
    drop(better.recv().await.unwrap());
    tokio::time::sleep(Duration::from_secs(1)).await;
    peer.reply(create.id, &append_ack(1));
    assert!(creating.await.unwrap().is_ok());
    let pinging = tokio::spawn(async move { client.ping().await });
    let ping = peer.next().await;
    peer.reply(ping.id, &Reply::Pong(Timestamp::from_millis(7)));
    assert!(pinging.await.unwrap().is_ok(), "it stays on the link that works");
    better.recv().await.unwrap().greet().await;
    drop(events);
}

//! Dense order: all subscribers see one order, which keeps the sender order of each member.

use std::collections::HashMap;

use im_core::{MessageId, Seq};

use super::*;

/// All subscribers receive the same dense order, in which the order of each sender is kept. The
/// acks name the same offsets.
pub async fn all_subscribers_see_one_order<F: TransportFactory>(shape: Shape) {
    const EACH: usize = 40;
    let world = World::<F>::new(shape).await;
    let names = ["ann", "bob", "eve"];
    let r = world.group("r", &names).await;
    let mut peers = Vec::new();
    for name in names {
        let mut peer = world.peer(name).await;
        peer.subscribe(&r, None).await.unwrap();
        peers.push(peer);
    }
    let talking = peers.into_iter().map(|mut peer| {
        let r = r.clone();
        async move {
            let ids: Vec<MessageId> = (0..EACH).map(|_| MessageId::random()).collect();
            let bodies = ids.iter().enumerate().map(|(n, id)| message(&r, id, &n.to_string()));
            let commands = peer.batch(bodies.collect()).await;
            let mut receipts = HashMap::new();
            for (id, command) in ids.into_iter().zip(commands) {
                let fields = peer.answer(command).await.unwrap();
                receipts.insert(id, im_core::wire::AppendAck::from_value(fields).unwrap().seq);
            }
            let mut events = Vec::new();
            for _ in 0..EACH * 3 {
                events.push(peer.event().await);
            }
            (receipts, events)
        }
    });
    let results = futures::future::join_all(talking).await;
    let order = &results[0].1;
    let seqs: Vec<Seq> = order.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (2..=EACH as u64 * 3 + 1).map(seq).collect::<Vec<_>>());
    for (name, (receipts, events)) in names.iter().zip(&results) {
        assert_eq!(events, order, "all subscribers receive the same events");
        let own: Vec<_> = order.iter().filter(|event| event.from == user(name)).collect();
        let texts: Vec<String> = own.iter().filter_map(|event| text(event)).collect();
        assert_eq!(
            texts,
            (0..EACH).map(|n| n.to_string()).collect::<Vec<_>>(),
            "{name}'s sender order"
        );
        assert!(
            own.iter()
                .all(|event| event.id.as_ref().and_then(|id| receipts.get(id)) == Some(&event.seq))
        );
    }
}

/// A subscription from a cursor misses no event while another member sends.
pub async fn subscribing_under_load_misses_nothing<F: TransportFactory>(shape: Shape) {
    const COUNT: u64 = 120;
    let world = World::<F>::new(shape).await;
    let r = world.group("r", &["ann", "bob"]).await;
    let start = world.head(&r).await;
    let mut ann = world.peer("ann").await;
    let storm = async {
        for n in 0..COUNT {
            ann.say(&r, &n.to_string()).await.unwrap();
        }
    };
    let readers = futures::future::join_all((0..6).map(|_| async {
        let mut bob = world.peer("bob").await;
        bob.subscribe(&r, Some(start)).await.unwrap();
        for n in 0..COUNT {
            let event = bob.event().await;
            assert_eq!(event.seq, seq(n + 2));
        }
    }));
    futures::future::join(storm, readers).await;
}

//! Times of one connection, in memory, so that paused time stands still while bytes travel.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;

use super::*;
use crate::crowd::Crowd;
use crate::hosts::{HostCheck, Hosts};

const ASK: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";

/// A connection to a service that answers after so long.
async fn connection(takes: Duration) -> DuplexStream {
    let (client, server) = tokio::io::duplex(16 * 1024);
    let config = Arc::new(ListenerConfig::default());
    let host = Arc::new(HostCheck::new(Hosts::default(), true));
    let one = OneConnection {
        front: Front::new(config.clone(), host, "127.0.0.1:1".parse().unwrap()),
        config,
        #[cfg(feature = "tls")]
        certificates: None,
        stop: CancellationToken::new(),
        slot: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
    };
    let place = Crowd::default().enter(None, 1, 1).unwrap();
    let service = tower::service_fn(move |request: Request<Incoming>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        tokio::time::sleep(takes).await;
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    tokio::spawn(async move { one.speak(server, place, TowerToHyperService::new(service)).await });
    client
}

/// Sends a request, or a part of one.
async fn send(client: &mut DuplexStream, bytes: &str) {
    client.write_all(bytes.as_bytes()).await.unwrap();
}

/// Reads an answer, of which the head may be shorter or longer, but comes at once.
async fn is_answered(client: &mut DuplexStream) -> bool {
    let mut read = [0; 1024];
    let count = client.read(&mut read).await.unwrap();
    read[..count].starts_with(b"HTTP/1.1 200")
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

async fn has_ended(client: &mut DuplexStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(1), client.read(&mut [0; 8])).await;
    matches!(read, Ok(Ok(0)))
}

#[tokio::test(start_paused = true)]
async fn idle_connections_outlive_the_header_timeout() {
    let mut client = connection(Duration::ZERO).await;
    for request in [ASK, POST, ASK] {
        send(&mut client, request).await;
        assert!(is_answered(&mut client).await);
        seconds(74).await;
        assert!(!has_ended(&mut client).await);
    }
    seconds(2).await;
    assert!(has_ended(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn first_words_are_not_awaited_for_long() {
    let mut client = connection(Duration::ZERO).await;
    seconds(9).await;
    assert!(!has_ended(&mut client).await);
    seconds(2).await;
    assert!(has_ended(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn heads_are_timed_from_their_first_byte() {
    let mut client = connection(Duration::ZERO).await;
    send(&mut client, ASK).await;
    assert!(is_answered(&mut client).await);
    seconds(70).await;
    let (first, rest) = ASK.split_at(5);
    send(&mut client, first).await;
    seconds(9).await;
    send(&mut client, rest).await;
    assert!(is_answered(&mut client).await, "the head took 9 s, after 70 s of silence");
    // A byte now and then does not help.
    for byte in ["G", "E", "T", " "] {
        send(&mut client, byte).await;
        seconds(3).await;
    }
    assert!(has_ended(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn answers_may_take_any_time() {
    let mut client = connection(Duration::from_secs(300)).await;
    for request in [ASK, POST] {
        send(&mut client, request).await;
        assert!(is_answered(&mut client).await);
        seconds(74).await;
    }
    send(&mut client, POST).await;
    client.shutdown().await.unwrap();
    assert!(is_answered(&mut client).await, "the peer has ended its half");
    assert!(has_ended(&mut client).await);
}

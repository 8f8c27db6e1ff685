//! Time-outs of one connection, over an in-memory socket with paused time.

use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;

use super::*;
use crate::hosts::{HostCheck, Hosts};
use crate::socket_limiter::SocketLimiter;
use crate::timed::TimedBody;

const ASK: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\nhello";

/// Connects to a service that echoes a body after a delay.
async fn connection(takes: Duration) -> DuplexStream {
    let service = tower::service_fn(move |request: Request<TimedBody>| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        tokio::time::sleep(takes).await;
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    connect(ListenerConfig::default(), service).await
}

async fn connect<S>(config: ListenerConfig, service: S) -> DuplexStream
where
    S: Service<Request<TimedBody>, Response = Response<Full<Bytes>>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
{
    let (client, server) = tokio::io::duplex(16 * 1024);
    let config = Arc::new(config);
    let host = Arc::new(HostCheck::new(Hosts::default(), true));
    let one = OneConnection {
        front: Front::new(config.clone(), host, "127.0.0.1:1".parse().unwrap()),
        config,
        #[cfg(feature = "tls")]
        certificates: None,
        stop: CancellationToken::new(),
        connection_permit: Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap(),
    };
    let permit = SocketLimiter::default().enter(None, 1, 1).unwrap();
    let server = WriteTimeout::new(server, one.config.write_timeout, one.front.turns().clone());
    tokio::spawn(async move { one.speak(server, permit, TowerToHyperService::new(service)).await });
    client
}

/// Sends a request, or a part of one.
async fn send(client: &mut DuplexStream, bytes: &str) {
    client.write_all(bytes.as_bytes()).await.unwrap();
}

/// Reads a response, whose head has any length and arrives in one read.
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

/// A connection that sends no first byte is closed after the header timeout.
#[tokio::test(start_paused = true)]
async fn silent_connection_times_out() {
    let mut client = connection(Duration::ZERO).await;
    seconds(9).await;
    assert!(!has_ended(&mut client).await);
    seconds(2).await;
    assert!(has_ended(&mut client).await);
}

#[tokio::test(start_paused = true)]
async fn header_timeout_starts_at_first_byte() {
    let mut client = connection(Duration::ZERO).await;
    send(&mut client, ASK).await;
    assert!(is_answered(&mut client).await);
    seconds(70).await;
    let (first, rest) = ASK.split_at(5);
    send(&mut client, first).await;
    seconds(9).await;
    send(&mut client, rest).await;
    assert!(is_answered(&mut client).await, "the head took 9 s, after 70 s of silence");
    // Single bytes do not extend the time-out.
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

/// A service waits for a body according to its size, and then the connection ends.
#[tokio::test(start_paused = true)]
async fn stalled_bodies_end_connection() {
    let service = tower::service_fn(|request: Request<TimedBody>| async {
        let collected = request.into_body().collect().await;
        let words = collected.map_or_else(|error| error.to_string(), |_| "whole".to_owned());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(words))))
    });
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2000000\r\n\r\n";
    for (sent, expected) in [(0, 30), (500, 31), (5000, 40)] {
        let mut client = connect(ListenerConfig::default(), service).await;
        let begin = tokio::time::Instant::now();
        send(&mut client, head).await;
        send(&mut client, &"x".repeat(sent)).await;
        let mut read = String::new();
        client.read_to_string(&mut read).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), expected);
        assert!(read.contains("took too long") && read.contains("connection: close"), "{read}");
        assert!(!read.contains("keep-alive"), "{read}");
    }
}

/// Time in which the service is busy does not count against the body.
#[tokio::test(start_paused = true)]
async fn busy_services_cost_bodies_no_time() {
    let service = tower::service_fn(|request: Request<TimedBody>| async {
        let mut body = request.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
            seconds(120).await;
        }
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(format!("{read} bytes")))))
    });
    let mut client = connect(ListenerConfig::default(), service).await;
    send(&mut client, "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\n").await;
    for byte in ["a", "b", "c"] {
        send(&mut client, byte).await;
        seconds(130).await;
    }
    assert!(is_answered(&mut client).await);
}

const LONG: usize = 256 * 1024;

/// Requests a response of `LONG` bytes in one piece, on a connection with an idle time-out of 75 s.
async fn long_answer() -> DuplexStream {
    let service = tower::service_fn(|_: Request<TimedBody>| async {
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b'x'; LONG]))))
    });
    let mut client = connect(ListenerConfig::default(), service).await;
    send(&mut client, ASK).await;
    client
}

/// A slow network needs minutes for a response that the server has written at once. The connection
/// is not idle then.
#[tokio::test(start_paused = true)]
async fn slow_peer_keeps_its_connection() {
    let mut client = long_answer().await;
    let begin = tokio::time::Instant::now();
    let (mut read, mut piece) = (0, [0; 1500]);
    while read < LONG {
        seconds(1).await;
        read += client.read(&mut piece).await.unwrap();
    }
    assert!(begin.elapsed() > Duration::from_secs(170));
    seconds(60).await;
    // The head is not part of the bytes counted.
    let rest = tokio::time::timeout(Duration::from_millis(1), client.read(&mut piece)).await;
    assert!(!matches!(rest, Ok(Ok(0))), "closed although promised for 75 s more");
    send(&mut client, ASK).await;
    assert!(is_answered(&mut client).await);
}

/// The write time-out also applies during a response.
#[tokio::test(start_paused = true)]
async fn idle_peer_is_disconnected() {
    let mut client = long_answer().await;
    seconds(31).await;
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert!(read.len() < LONG, "{} bytes", read.len());
}

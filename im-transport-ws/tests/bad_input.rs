//! Invalid input: each kind gets its close code, and other connections are unaffected.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use im_core::Code;
use im_core::wire::Limits;
use im_transport_ws::WsConfig;
use support::{BINARY, Client, FIN, PING, PONG, TEXT, close, frame, greeted, server};
use tokio::net::TcpStream;

/// Sends the bytes after a hello and expects the code; another connection stays open.
async fn is_closed_with(bytes: &[u8], code: Code) {
    let address = server(WsConfig::default()).await;
    let mut other = greeted(address).await;
    let mut client = greeted(address).await;
    client.bytes(bytes).await;
    let (number, reason) = client.closed().await;
    assert_eq!((number, reason.is_empty()), (code.number(), false), "{reason}");
    client.bytes(&close(number)).await;
    assert_eq!(client.end().await, b"");
    other.is_alive().await;
}

#[tokio::test]
async fn text_that_is_not_utf8() {
    is_closed_with(&frame(FIN | TEXT, b"\"\xff\xfe\""), Code::Malformed).await;
}

#[tokio::test]
async fn non_utf8_text_in_fragments_closes() {
    let bytes = [frame(TEXT, b"\"\xc3"), frame(FIN, b"\x28\"")].concat();
    is_closed_with(&bytes, Code::Malformed).await;
}

#[tokio::test]
async fn binary_message_on_text_connection_closes() {
    is_closed_with(&frame(FIN | BINARY, b"{}"), Code::WrongEncoding).await;
}

#[tokio::test]
async fn text_message_on_binary_connection_closes() {
    let address = server(WsConfig::default()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut client =
        Client::open(stream, "Sec-WebSocket-Protocol: im.v1.msgpack\r\n").await.unwrap();
    client.text("{}").await;
    assert_eq!(client.closed().await.0, Code::WrongEncoding.number());
}

#[tokio::test]
async fn oversized_frame_is_refused_by_header() {
    // Only the header is sent: the server neither waits for nor allocates that size.
    let length = (Limits::default().max_message_bytes as u64 + 1).to_be_bytes();
    let header = [&[FIN | TEXT, 0x80 | 127], length.as_slice(), &[0; 4]].concat();
    is_closed_with(&header, Code::TooLarge).await;
}

#[tokio::test]
async fn a_frame_of_absurd_length() {
    let header =
        [&[FIN | TEXT, 0x80 | 127], (u64::MAX >> 1).to_be_bytes().as_slice(), &[0; 4]].concat();
    is_closed_with(&header, Code::TooLarge).await;
}

/// Fragments whose sum exceeds the limit end the connection.
#[tokio::test]
async fn oversized_fragments_close() {
    let half = vec![b' '; Limits::default().max_message_bytes / 2 + 1];
    let bytes = [frame(TEXT, &half), frame(0, &half)].concat();
    is_closed_with(&bytes, Code::TooLarge).await;
}

#[tokio::test]
async fn frames_that_break_the_protocol() {
    let unmasked = vec![FIN | TEXT, 2, b'{', b'}'];
    let reserved_bits = frame(FIN | 0x40 | TEXT, b"{}");
    let reserved_opcode = frame(FIN | 0x3, b"{}");
    let lone_continuation = frame(FIN, b"{}");
    let message_within_a_message = [frame(TEXT, b"{"), frame(FIN | TEXT, b"{}")].concat();
    let fragmented_ping = frame(PING, b"");
    let long_ping = frame(FIN | PING, &[0; 126]);
    for bytes in [
        unmasked,
        reserved_bits,
        reserved_opcode,
        lone_continuation,
        message_within_a_message,
        fragmented_ping,
        long_ping,
    ] {
        is_closed_with(&bytes, Code::Malformed).await;
    }
}

#[tokio::test]
async fn a_flood_of_pings() {
    let flood = frame(FIN | PING, b"").repeat(101);
    is_closed_with(&flood, Code::RateLimited).await;
}

#[tokio::test]
async fn endless_empty_fragments_close() {
    let flood = [frame(TEXT, b"{"), frame(0, b"").repeat(14_000)].concat();
    is_closed_with(&flood, Code::RateLimited).await;
}

#[tokio::test]
async fn thousand_fragments_form_one_message() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    for id in 5..8 {
        let command = format!(r#"{{"t":"ping","id":{id}}}"#).into_bytes();
        let (one, two) = command.split_at(7);
        let ping = frame(FIN | PING, b"").repeat(10);
        let empty = frame(0, b"").repeat(1000);
        client.bytes(&[frame(TEXT, one), empty, ping, frame(FIN, two)].concat()).await;
        for _ in 0..10 {
            assert_eq!(client.frame().await, (FIN | PONG, Vec::new()));
        }
        assert!(client.heard().await.contains(&id.to_string()));
    }
}

#[tokio::test]
async fn ping_between_fragments_is_answered() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    let command = br#"{"t":"ping","id":5}"#;
    let (one, two) = command.split_at(7);
    client
        .bytes(
            &[frame(TEXT, one), frame(FIN | PING, b"hey"), frame(0, b""), frame(FIN, two)].concat(),
        )
        .await;
    assert_eq!(client.frame().await, (FIN | PONG, b"hey".to_vec()));
    assert!(client.heard().await.contains('5'));
}

#[tokio::test]
async fn single_bytes_form_a_frame() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    for byte in frame(FIN | TEXT, br#"{"t":"ping","id":6}"#) {
        client.bytes(&[byte]).await;
    }
    assert!(client.heard().await.contains('6'));
}

#[tokio::test]
async fn largest_message_is_accepted() {
    let mut client = greeted(server(WsConfig::default()).await).await;
    let mut command = br#"{"t":"ping","id":7}"#.to_vec();
    command.resize(Limits::default().max_message_bytes, b' ');
    client.bytes(&frame(FIN | TEXT, &command)).await;
    assert!(client.heard().await.contains('7'));
}

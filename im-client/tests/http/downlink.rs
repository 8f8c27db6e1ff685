//! The downlink behind proxies that cut, refuse or fabricate it. Requests are counted; time is
//! paused.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use im_client::{Fallback, LinkError};

use super::*;

/// Requests of the downlink after which the server is silent, so that a hot loop ends.
const HOT: usize = 1000;

/// The server's answer to one request, and whether the stream continues after it.
type Answer = (Vec<u8>, bool);

fn whole(head: &str, body: &[u8]) -> Answer {
    let head = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len());
    ([head.as_bytes(), body].concat(), true)
}

fn disconnect_unread() -> Answer {
    (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n[{\"t\":".to_vec(), false)
}

/// Starts the server: `greets` answers POSTs, `answers` the requests of the downlink, which it
/// counts from 1.
fn serve(
    greets: impl Fn() -> Answer + Send + Sync + 'static,
    answers: impl Fn(usize) -> Answer + Send + Sync + 'static,
) -> (Memory, Arc<AtomicUsize>) {
    let (dialled, mut streams) = mpsc::unbounded_channel();
    let (count, play) = (Arc::new(AtomicUsize::new(0)), Arc::new((greets, answers)));
    let counts = count.clone();
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let (count, play) = (counts.clone(), play.clone());
            tokio::spawn(async move {
                let mut served = Served(stream);
                loop {
                    let (answer, goes_on) = if served.request().await.0.starts_with("post") {
                        (play.0)()
                    } else {
                        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
                        if n > HOT {
                            return std::future::pending().await;
                        }
                        (play.1)(n)
                    };
                    // In two pieces, as from a network.
                    for piece in answer.chunks(answer.len().div_ceil(2)) {
                        served.0.write_all(piece).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    if !goes_on {
                        return;
                    }
                }
            });
        }
    });
    (Memory(dialled), count)
}

fn greeted() -> Answer {
    whole("200 OK", &welcome())
}

async fn hello(link: &impl Link) -> Connected {
    let mut connected = link.connect(Encoding::Json).await.unwrap();
    connected.sink.send(message(r#"{"t":"hello","id":1}"#)).await.unwrap();
    connected
}

/// Reads until the connection ends.
async fn end(connected: &mut Connected) -> LinkError {
    let reading = async {
        loop {
            match connected.stream.next().await {
                Some(Incoming::Closed(error)) => return error,
                Some(_) => {}
                None => panic!("the stream ended without an error"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), reading).await.expect("it ends")
}

const DOWNS: [Down; 3] =
    [Down::Stream, Down::LongPoll(HOLD), Down::ShortPoll(Duration::from_secs(2))];

/// A poll whose answer is always cut off is retried three times, and then the transport is at
/// fault.
#[tokio::test(start_paused = true)]
async fn poll_always_cut_off_is_unfit() {
    for down in &DOWNS[1..] {
        let (dial, count) = serve(greeted, |_| disconnect_unread());
        let link = Http::new("http://im.example/im", *down).dial(dial);
        let error = end(&mut hello(&link).await).await;
        assert_eq!(count.load(Ordering::Relaxed), 4, "{down:?}");
        assert!(error.unfit && error.code.is_none(), "{error:?}");
    }
}

/// Only a whole answer restarts the count.
#[tokio::test(start_paused = true)]
async fn consecutive_poll_cuts_end_connection() {
    let answers = |n| if matches!(n, 1 | 4) { whole("200 OK", FULL) } else { disconnect_unread() };
    let (dial, count) = serve(greeted, answers);
    let link = Http::new("http://im.example/im", Down::LongPoll(HOLD)).dial(dial);
    let error = end(&mut hello(&link).await).await;
    assert_eq!(count.load(Ordering::Relaxed), 8, "two, three more, and the last");
    assert!(!error.unfit && error.code.is_none(), "{error:?}");
}

/// A stream that always ends after its first bytes is reopened after the server's `retry:`, within
/// bounds.
#[tokio::test(start_paused = true)]
async fn cut_stream_uses_server_retry_delay() {
    let paces = [("retry: 3000\n\n", 11), (": hi\n\n", 21), ("retry: 0\n\n", 310)];
    for (text, expected) in paces.into_iter().chain([("retry: 86400000\n\n", 4)]) {
        // Ended cleanly, and cut off.
        for length in ["", "content-length: 100\r\n"] {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";
            let answer = format!("{head}{length}\r\n{text}").into_bytes();
            let (dial, count) = serve(greeted, move |_| (answer.clone(), false));
            let link = Http::stream("http://im.example/im").dial(dial);
            let mut connected = hello(&link).await;
            let read = tokio::time::timeout(Duration::from_millis(30_950), end(&mut connected));
            assert!(read.await.is_err(), "the connection continues");
            assert_eq!(count.load(Ordering::Relaxed), expected, "{text:?} {length:?}");
        }
    }
}

fn two(dial: Memory, down: Down) -> Fallback {
    let link = Http::new("http://im.example/im", down).dial(dial);
    Fallback::new([Arc::new(link.clone()) as Arc<dyn Link>, Arc::new(link)])
}

/// The greeting succeeds and the downlink never does: after three retries the next transport is
/// used.
#[tokio::test(start_paused = true)]
async fn downlink_always_502_falls_back() {
    for (down, status) in DOWNS.into_iter().zip(["502 Bad", "503 Busy", "504 Late"]) {
        let (dial, count) = serve(greeted, move |_| whole(status, b"<html></html>"));
        let fallback = two(dial, down);
        end(&mut hello(&fallback).await).await;
        assert_eq!(count.load(Ordering::Relaxed), 4, "{down:?}");
        assert_eq!(fallback.current(), 1, "{down:?}");
    }
}

/// A downlink that has worked does not count against its transport when a gateway loses the server.
#[tokio::test(start_paused = true)]
async fn working_downlink_502_keeps_link() {
    let gateway = |n| if n == 1 { whole("200 OK", FULL) } else { whole("502 Bad", b"<html>") };
    let (dial, count) = serve(greeted, gateway);
    let fallback = two(dial, Down::LongPoll(HOLD));
    assert!(end(&mut hello(&fallback).await).await.gateway);
    assert_eq!((count.load(Ordering::Relaxed), fallback.current()), (5, 0));
}

/// The page of a gateway, in whatever pieces, is no sign of life of the server.
#[tokio::test(start_paused = true)]
async fn gateway_page_is_not_heard() {
    let (dial, _) = serve(|| whole("502 Bad", &[b'x'; 4096]), |_| disconnect_unread());
    let fallback = two(dial, Down::Stream);
    for current in [0, 0, 1] {
        let mut connected = hello(&fallback).await;
        assert!(matches!(connected.stream.next().await, Some(Incoming::Closed(_))));
        assert_eq!(fallback.current(), current);
    }
}

/// A proxy's answer never ends the client: the next transport is used.
#[tokio::test(start_paused = true)]
async fn foreign_answer_falls_back() {
    let nothing_here = br#"{"code":4520,"msg":"not found"}"#;
    let pages = [
        ("200 OK", &b"<html>"[..]),
        ("302 Found", b""),
        ("403 Forbidden", b"<html>"),
        ("404 Not Found", nothing_here),
        ("405 Not Allowed", br#"{"code":405,"msg":"blocked"}"#),
        ("426 Upgrade Required", b""),
    ];
    for (head, body) in pages {
        let foreign = move || whole(head, body);
        for is_post in [true, false] {
            let greets = move || if is_post { foreign() } else { greeted() };
            let (dial, _) = serve(greets, move |_| foreign());
            let fallback = two(dial, Down::LongPoll(HOLD));
            let error = end(&mut hello(&fallback).await).await;
            assert_eq!(error.code, None, "{head}, {is_post}: {error}");
            assert_eq!(fallback.current(), 1, "{head}, {is_post}: {error}");
        }
    }
}
